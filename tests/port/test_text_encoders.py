"""BERT, RoBERTa and PaddleNLP's UNIMO, to ours and back: what goes where, and what is refused by name."""

import json
import pickle
from pathlib import Path

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file, save_file
from text_folders import HIDDEN, LAYERS, ROWS, SPECIALS, VOCABULARY, random_tensors, write_library_folder

from unimo.errors import CheckpointError, ConfigError
from unimo.models.systems import SYSTEMS, skeleton
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2Config
from unimo.port import bert, paddlenlp, roberta, text_encoders
from unimo.port.bert import BERT
from unimo.port.formats import detect
from unimo.port.interchange import Checkpoint, Options
from unimo.port.names.text_names import Library
from unimo.port.paddlenlp import PADDLENLP
from unimo.port.roberta import ROBERTA
from unimo.port.weights import shapes_of, values_of
from unimo.zoo import start

LIBRARIES = pytest.mark.parametrize("library", [BERT, ROBERTA, PADDLENLP], ids=lambda library: library.model_type)
TYPES = {"BERT": 2, "RoBERTa": 1, "PaddleNLP's UNIMO": 4}


def make(library: Library, folder: Path, lm: bool = True, **changes) -> tuple[Path, dict[str, np.ndarray]]:
    tensors = random_tensors(library, types=TYPES[library.name], lm=lm)
    if library is ROBERTA:  # as in its published models
        tensors[next(name for name in tensors if name.endswith(library.types))][:] = 0
    return write_library_folder(folder / "theirs", library, tensors, **changes), tensors


def ours(library: Library, system: str = "unimo", **sizes) -> tuple[paddle.nn.Layer, Checkpoint]:
    paddle.seed(1)
    sizes = {"hidden_size": HIDDEN, "num_attention_heads": 4, "num_hidden_layers": LAYERS} | sizes
    if system == "unimo":
        model = Unimo(UnimoConfig(**sizes, vocab_size=VOCABULARY, max_position_embeddings=ROWS), ["pool", "lm"])
    else:
        sizes |= {f"{part}_num_hidden_layers": 1 for part in ("vit", "text")}
        sizes |= {f"{part}_num_attention_heads": 4 for part in ("vit", "text")}
        sizes |= {"text_vocab_size": VOCABULARY, "text_max_position_embeddings": ROWS, "num_codebook": 128}
        model = SYSTEMS[system].model(Unimo2Config(**sizes), ["lm"])
    return model, Checkpoint(system, model.config, model.heads, values_of(model))


@LIBRARIES
def test_a_table_names_every_parameter_of_the_text_side(library: Library):
    """Nothing of ours but the image tables, and nothing of theirs, is without a partner; no tensor is used twice."""
    config = UnimoConfig(num_hidden_layers=LAYERS, hidden_size=HIDDEN, num_attention_heads=4, type_vocab_size=2)
    table = library.name_table("unimo", LAYERS, lm=True)
    rest = shapes_of(skeleton("unimo", config, ["lm"])).keys() - table.keys()
    image = {
        f"{part}.{kind}" for part in ("image_embedding", "box_embedding", "image_norm") for kind in ("weight", "bias")
    }
    assert rest == image | {"position_embedding.weight", "type_embedding.weight"}
    names = [name for group in table.values() for name in group]
    assert len(names) == len(set(names)) == 16 * LAYERS + 3 + 5
    second = library.name_table("unimo-2", 1, lm=True)
    sizes = Unimo2Config(hidden_size=HIDDEN, **{f"{p}num_attention_heads": 4 for p in ("", "vit_", "text_")})
    assert second.keys() <= shapes_of(skeleton("unimo-2", sizes, ["lm"])).keys()


@LIBRARIES
@pytest.mark.parametrize("lm", [True, False])
def test_theirs_there_and_back_is_bit_equal(library: Library, lm: bool, tmp_path: Path):
    folder, tensors = make(library, tmp_path, lm, layer_norm_eps=1e-5)
    checkpoint = text_encoders.read(library, folder, Options())
    assert checkpoint.unused == () and checkpoint.heads == (("lm",) if lm else ())
    text_encoders.write(library, tmp_path / "again", checkpoint)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(again[name].tobytes() == tensor.tobytes() for name, tensor in tensors.items())
    wanted, got = (json.loads((f / "config.json").read_text()) for f in (folder, tmp_path / "again"))
    assert wanted.items() <= got.items()


@LIBRARIES
@pytest.mark.parametrize("system", ["unimo", "unimo-2"])
def test_ours_there_and_back_is_bit_equal(library: Library, system: str, tmp_path: Path):
    model, checkpoint = ours(library, system)
    notes = text_encoders.write(library, tmp_path / "theirs", checkpoint)
    left = {"unimo": "box_embedding, image_embedding, image_norm, pool_image, pool_text"}
    left = left.get(system, "dictionary, grounded, vit")
    assert notes[0] == f"not carried, {library.name} has no place for them: {left}"
    after = text_encoders.read(library, tmp_path / "theirs", Options(system=system))
    parameters = dict(model.named_parameters())
    for name, tensor in after.tensors.items():
        expected = parameters[name].numpy() if name in parameters else np.zeros(tensor.shape, np.float32)
        if "position" in name and library is not ROBERTA:  # rows that no token has
            assert "not carried: the first 2 rows" in notes[1] and not tensor.read()[:2].any()
            expected[:2] = 0
        assert np.array_equal(tensor.read(), expected), name
    text = {n for n in parameters if n.split(".")[0] in ("text", "lm", "layers", "text_norm") or "word" in n}
    assert text <= after.tensors.keys()
    for key in ("hidden_size", "layer_norm_eps", "num_attention_heads"):
        assert getattr(after.config, key) == getattr(model.config, key)


@pytest.mark.parametrize(("pad", "rows"), [(0, 21), (1, 20), (3, 18)])
def test_positions_of_roberta_follow_its_pad(pad: int, rows: int, tmp_path: Path):
    """Its first token has row pad + 1, ours row 2, whatever stands before."""
    tensors = random_tensors(ROBERTA, types=1)
    folder = write_library_folder(tmp_path / "theirs", ROBERTA, tensors, pad_token_id=pad, layer_norm_eps=1e-5)
    checkpoint = roberta.read(folder, Options())
    assert checkpoint.config.max_position_embeddings == rows
    table = tensors["roberta." + ROBERTA.positions] + tensors["roberta." + ROBERTA.types]
    assert np.array_equal(checkpoint.tensors["position_embedding.weight"].read()[2:], table[pad + 1 :])


@LIBRARIES
def test_types_are_carried_or_go_into_the_positions(library: Library, tmp_path: Path):
    tensors = random_tensors(library, types=3, lm=False)
    folder = write_library_folder(tmp_path / "theirs", library, tensors, layer_norm_eps=1e-5)
    carried = text_encoders.read(library, folder, Options())
    assert carried.config.type_vocab_size == 3
    assert np.array_equal(carried.tensors["type_embedding.weight"].read(), tensors[library.types])
    folded = text_encoders.read(library, folder, Options(system="unimo-2")) if library is not PADDLENLP else None
    if folded is not None:
        first = library.first_position({"pad_token_id": 1})
        expected = (tensors[library.positions] + tensors[library.types][0])[first:]
        assert np.array_equal(folded.tensors["text.position_embedding.weight"].read()[2:], expected)
        assert f"{library.types}: row 0 went into the position table, other types are not carried" in folded.notes


@LIBRARIES
def test_tied_copies_are_checked(library: Library, tmp_path: Path):
    """A file that repeats tied weights is read; one whose LM head is another table is refused by name."""
    folder, tensors = make(library, tmp_path)
    copies = {
        copy: tensors[next(n for n in tensors if n.endswith(original))].copy()
        for copy, original in library.copies.items()
    }
    save_file(tensors | copies, folder / "model.safetensors")
    assert text_encoders.read(library, folder, Options()).unused == ()
    copy = next(iter(copies))
    copies[copy][0] += 1
    save_file(tensors | copies, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"{copy}: differs from embeddings.word_embeddings.weight; our LM head"):
        text_encoders.read(library, folder, Options())


@pytest.mark.parametrize(
    ("library", "key", "value"),
    [
        (BERT, "hidden_act", "gelu_new"),
        (BERT, "position_embedding_type", "relative_key"),
        (BERT, "is_decoder", True),
        (BERT, "intermediate_size", 60),
        (ROBERTA, "hidden_act", "relu"),
        (PADDLENLP, "normalize_before", True),
        (PADDLENLP, "hidden_act", "tanh"),
        (PADDLENLP, "intermediate_size", 32),
    ],
)
def test_what_we_cannot_be_is_refused_by_name(library: Library, key: str, value: object, tmp_path: Path):
    folder, _ = make(library, tmp_path, **{key: value})
    with pytest.raises(CheckpointError, match=rf"(?s)1 problem.*{key}: {value!r}, expected "):
        text_encoders.read(library, folder, Options())


@pytest.mark.parametrize("key", ["type_vocab_size", "hidden_size", "max_position_embeddings", "pad_token_id"])
@pytest.mark.parametrize("value", [None, "1", [], 1.5, True])
def test_a_size_that_is_no_whole_number_is_refused_by_name(key: str, value: object, tmp_path: Path):
    folder, _ = make(ROBERTA, tmp_path, **{key: value})
    with pytest.raises(CheckpointError, match=f"{key}: .*, expected a whole number"):
        text_encoders.read(ROBERTA, folder, Options())


@pytest.mark.parametrize(
    ("library", "sizes", "message"),
    [
        (ROBERTA, {"hidden_act": "relu"}, "hidden_act: 'relu', expected 'gelu'"),
        (PADDLENLP, {"layer_norm_eps": 1e-12}, "layer_norm_eps: 1e-12, expected 1e-05"),
    ],
)
def test_what_they_cannot_be_is_refused_by_name(library: Library, sizes: dict, message: str, tmp_path: Path):
    with pytest.raises(CheckpointError, match=message):
        text_encoders.write(library, tmp_path / "theirs", ours(library, **sizes)[1])
    assert not list(tmp_path.iterdir())


@LIBRARIES
def test_all_that_does_not_fit_is_listed(library: Library, tmp_path: Path):
    folder, tensors = make(library, tmp_path)
    name = next(n for n in tensors if "layer" in n and "2" in n and n.endswith("bias"))
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    values = json.loads((folder / "config.json").read_text())
    values |= {"vocab_size": 50, "max_position_embeddings": 30, "type_vocab_size": 7, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "vocab.txt").write_text("".join(f"{t}\t{i}\n" for i, t in enumerate(SPECIALS + list("abc") + ["z" * 60])))
    with pytest.raises(CheckpointError) as caught:
        text_encoders.read(library, folder, Options())
    for part in (
        "config.json says max_position_embeddings 30, the weights have 20",
        f"config.json says type_vocab_size 7, the weights have {TYPES[library.name]}",
        "config.json says num_hidden_layers 2, the weights have 3",
        "embeddings.word_embeddings.weight: shape [40, 16], expected [50, 16]",
    ):
        assert part in str(caught.value)


def test_sizes_can_be_given(tmp_path: Path):
    """By a release's json, which knows no types, by a YAML file, or by a config.json of ours."""
    folder, tensors = make(BERT, tmp_path, layer_norm_eps=1e-5)
    sizes = {"hidden_size": HIDDEN, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": VOCABULARY}
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(sizes | {"max_position_embeddings": 12, "hidden_act": "gelu"}))
    checkpoint = bert.read(folder, Options(config=path))
    expected = tensors["bert." + BERT.positions][:10] + tensors["bert." + BERT.types][0]
    assert np.array_equal(checkpoint.tensors["position_embedding.weight"].read()[2:], expected)
    assert "type_embedding.weight" not in checkpoint.tensors and checkpoint.config.num_hidden_layers == 2
    cuts = {"only the first 2 of 3 layers were taken", "only the first 10 of 20 positions were taken"}
    assert cuts <= set(checkpoint.notes)
    path.write_text(
        json.dumps({"system": "unimo", "heads": [], **UnimoConfig(**sizes, type_vocab_size=2).model_dump()})
    )
    with pytest.raises(CheckpointError, match=r"\(20, 16\), expected at least 512 rows of 16"):
        bert.read(folder, Options(config=path))
    (tmp_path / "sizes.yaml").write_text(json.dumps(sizes | {"max_position_embeddings": 12}))  # json is YAML
    assert bert.read(folder, Options(config=tmp_path / "sizes.yaml")).config == checkpoint.config
    with pytest.raises(ConfigError, match="is a config of unimo, expected one of unimo-2"):
        bert.read(folder, Options(system="unimo-2", config=path))


def test_vocabularies_that_do_not_fit(tmp_path: Path):
    lines = "".join(f"{token}\n" for token in [*SPECIALS, *(f"w{i}" for i in range(40))])
    folder, _ = make(BERT, tmp_path, vocabulary=lines)
    with pytest.raises(CheckpointError, match="the vocabulary has 45 tokens, the word table 40 rows"):
        bert.read(folder, Options())


def test_a_missing_config_and_a_system_without_text(tmp_path: Path):
    folder, _ = make(BERT, tmp_path)
    with pytest.raises(CheckpointError, match="has a place in UNIMO and UNIMO-2 .*, not in oner"):
        bert.read(folder, Options(system="oner"))
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="no config.json beside the weights"):
        bert.read(folder, Options())


def test_a_pooler_is_not_used(tmp_path: Path):
    folder, tensors = make(BERT, tmp_path)
    pooler = {
        "bert.pooler.dense.weight": np.ones((16, 16), np.float32),
        "bert.pooler.dense.bias": np.ones(16, np.float32),
    }
    save_file(tensors | pooler, folder / "model.safetensors")
    assert set(bert.read(folder, Options()).unused) == {"pooler.dense.weight", "pooler.dense.bias"}


def test_written_folders_replace_nothing(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="exists already; name a new folder"):
        bert.write(tmp_path / "mine", ours(BERT)[1])
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


def test_files_of_other_kinds(tmp_path: Path):
    """PaddleNLP's .pdparams with the older config, and with its names of UNIMOLMHeadModel."""
    folder, tensors = make(PADDLENLP, tmp_path)
    wanted = paddlenlp.read(folder, Options())
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    inner = {"init_args": [values | {"init_class": "UNIMOModel"}], "init_class": "UNIMOLMHeadModel"}
    (folder / "model_config.json").write_text(json.dumps(inner))
    paddle.save(
        {name: paddle.to_tensor(tensor) for name, tensor in tensors.items()}, str(folder / "model_state.pdparams")
    )
    got = paddlenlp.read(folder, Options())
    assert got.config == wanted.config and got.tensors.keys() == wanted.tensors.keys()
    assert all(np.array_equal(got.tensors[n].read(), wanted.tensors[n].read()) for n in wanted.tensors)


def test_hostile_weights_run_nothing(tmp_path: Path):
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    folder, _ = make(PADDLENLP, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model_state.pdparams").write_bytes(pickle.dumps({"encoder.layers.0.norm1.weight": Hostile()}, 2))
    with pytest.raises(CheckpointError):
        paddlenlp.read(folder, Options())
    assert not (tmp_path / "touched").exists()


def test_a_model_of_our_own_sizes_takes_what_fits(tmp_path: Path):
    """As `initialise_from` uses it: layers, tables and the masked LM of a smaller model."""
    folder, tensors = make(ROBERTA, tmp_path, layer_norm_eps=1e-5)
    sizes = dict(hidden_size=HIDDEN, num_attention_heads=4, num_hidden_layers=2, vocab_size=VOCABULARY)
    model = Unimo(UnimoConfig(**sizes, max_position_embeddings=12, image_embedding_size=8), ["lm", "match"])
    assert start(model, folder) == [
        f"loaded 33 of 41 parameters from {folder}",
        "not in the checkpoint, starting at random: box_embedding, image_embedding, image_norm, match",
        "not used (16): " + ", ".join(sorted(n.removeprefix("roberta.") for n in tensors if ".layer.2." in n)),
        "only the first 2 of 3 layers were taken",
        "only the first 12 of 20 positions were taken",
        f"{folder} holds no vocabulary; `port convert` takes one by --tokenizer",
    ]
    found = dict(model.named_parameters())
    assert np.array_equal(found["position_embedding.weight"].numpy(), tensors["roberta." + ROBERTA.positions][:12])
    assert np.array_equal(found["lm.transform.weight"].numpy(), tensors["lm_head.dense.weight"].T)
    key = "roberta.encoder.layer.1.attention.self.{}.weight"
    joined = np.concatenate([tensors[key.format(kind)].T for kind in ("query", "key", "value")], axis=1)
    assert np.array_equal(found["layers.1.attention.qkv.weight"].numpy(), joined)


@pytest.mark.parametrize("kind", ["camembert", "xlm-roberta", "roberta"])
def test_models_of_robertas_function_start_behind_the_pad(kind: str, tmp_path: Path):
    tensors = random_tensors(ROBERTA, types=1)
    folder = write_library_folder(tmp_path / "theirs", ROBERTA, tensors, pad_token_id=2, model_type=kind)
    assert detect(folder) == "roberta"
    table = roberta.read(folder, Options()).tensors["position_embedding.weight"].read()
    expected = tensors["roberta." + ROBERTA.positions] + tensors["roberta." + ROBERTA.types]
    assert np.array_equal(table[2:], expected[3:])


@pytest.mark.parametrize("classes", [["XLMRobertaForMaskedLM"], ["RobertaForSequenceClassification"]])
def test_an_older_config_states_its_model_type_by_a_class(classes: list[str], tmp_path: Path):
    folder, _ = make(ROBERTA, tmp_path, model_type=None, architectures=classes, pad_token_id=1)
    assert detect(folder) == "roberta" and roberta.read(folder, Options())
    with pytest.raises(CheckpointError, match="is of model type '(XLM)?Roberta.*', BERT is 'bert'"):
        bert.read(folder, Options())


@LIBRARIES
@pytest.mark.parametrize("kind", ["electra", "distilbert", "roberta-prelayernorm", "mobilebert"])
def test_another_model_type_is_refused_by_name_also_when_the_format_is_given(library, kind: str, tmp_path: Path):
    folder, _ = make(library, tmp_path, model_type=kind)
    with pytest.raises(CheckpointError, match=f"is of model type '{kind}', .* is '{library.model_type}'"):
        text_encoders.read(library, folder, Options())
    with pytest.raises(CheckpointError, match=f"is of model type '{kind}', known are roberta, "):
        detect(folder)
