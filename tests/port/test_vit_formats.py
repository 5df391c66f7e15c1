"""ViTs of other libraries: name tables, round trips through every writer, and what is refused.

Files are made under the libraries' own names and shapes, or by the libraries themselves (tests/fixtures/vit); equality
at real sizes is measured by tests/parity/libraries.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from unimo.errors import CheckpointError, ConfigError
from unimo.models.oner import OnerConfig
from unimo.models.systems import skeleton
from unimo.models.vision import VisionTransformer, resize_positions
from unimo.port import vit
from unimo.port.convert import convert
from unimo.port.files.tensor_files import open_tensors
from unimo.port.interchange import Checkpoint, Options
from unimo.port.names.vit_names import BIG_VISION, HF, HF_MODULES, NPZ, TIMM, Layout
from unimo.port.weights import fill, shapes_of, values_of

H, HEADS, LAYERS, PATCH, GRID = 64, 4, 2, 8, 4
WRITERS = {
    "vit-hf": (vit.read_hf, vit.write_hf, "written"),
    "vit-timm": (vit.read_timm, vit.write_timm, "written.safetensors"),
    "vit-npz": (vit.read_npz, vit.write_npz, "written.npz"),
}
ONER = OnerConfig(
    hidden_size=H,
    num_hidden_layers=LAYERS,
    num_attention_heads=HEADS,
    vocab_size=20,
    max_position_embeddings=8,
    image_size=GRID * PATCH,
    resolution=PATCH,
)


def torch_arrays(layout: Layout, layers: int = LAYERS, rows: int = GRID**2 + 1, patch: int = PATCH) -> dict:
    """A file of Hugging Face's or timm's ViT, [out, in], written down apart from the tables' shapes."""
    rng, shapes = np.random.default_rng(3), {}
    for ours, names in layout.names(layers).items():
        end = ours.split(".", 2)[-1] if ours.startswith("layers.") else ours
        wide = 3 * H // len(names)
        shape = {
            "cls": (1, 1, H),
            "position": (1, rows, H),
            "patch.weight": (H, 3, patch, patch),
            "attention.qkv.weight": (wide, H),
            "attention.qkv.bias": (wide,),
            "attention.out.weight": (H, H),
            "feed_forward.inner.weight": (4 * H, H),
            "feed_forward.inner.bias": (4 * H,),
            "feed_forward.outer.weight": (H, 4 * H),
        }.get(end, (H,))
        shapes |= dict.fromkeys(names, shape)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def google_arrays(layout: Layout, rows: int = GRID**2 + 1) -> dict:
    """The same under Google's names: kernels [in, heads, width], convolutions [side, side, in, out]."""
    arrays = torch_arrays(layout, rows=rows)
    for name, array in arrays.items():
        if name.endswith("embedding/kernel"):
            arrays[name] = array.transpose(2, 3, 1, 0)
        elif name.endswith(("query/kernel", "key/kernel", "value/kernel")):
            arrays[name] = array.T.reshape(H, HEADS, -1)
        elif name.endswith("out/kernel"):
            arrays[name] = array.T.reshape(HEADS, -1, H)
        elif name.endswith(("query/bias", "key/bias", "value/bias")):
            arrays[name] = array.reshape(HEADS, -1)
        elif name.endswith("kernel"):
            arrays[name] = array.T
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def hf_folder(folder: Path, arrays: dict, **config) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": HEADS} | config))
    return folder


def timm_file(folder: Path, arrays: dict) -> Path:
    save_file(arrays, folder / "timm.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": HEADS}))  # no published width
    return folder / "timm.safetensors"


def npz_file(folder: Path, arrays: dict) -> Path:
    np.savez(folder / "google.npz", **arrays)
    return folder / "google.npz"


def sources(folder: Path, rows: int) -> dict[str, Path]:
    return {
        "vit-hf": hf_folder(folder / "hf", torch_arrays(HF, rows=rows)),
        "vit-timm": timm_file(folder, torch_arrays(TIMM, rows=rows)),
        "vit-npz": npz_file(folder, google_arrays(NPZ, rows)),
    }


def values(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    return {name: tensor.read() for name, tensor in checkpoint.tensors.items()}


def refusal(read: Callable, path: Path, **options) -> str:
    with pytest.raises(CheckpointError) as error:
        read(path, Options(**{"system": "oner"} | options))
    return str(error.value)


# ---- tables


@pytest.mark.parametrize("layout", [HF, HF_MODULES, TIMM, NPZ, BIG_VISION], ids=range(5))
def test_a_table_covers_every_parameter_and_has_an_inverse(layout):
    with paddle.LazyGuard():
        names = set(shapes_of(VisionTransformer(H, LAYERS, HEADS)))
    table = layout.names(LAYERS)
    theirs = [name for group in table.values() for name in group]
    assert set(table) == names and len(set(theirs)) == len(theirs)


# ---- there and back


@pytest.mark.parametrize("system", ["unimo-2", "oner"])
@pytest.mark.parametrize("source", WRITERS)
def test_every_writer_gives_back_every_bit(source, system, tmp_path):
    config = tmp_path / "unimo2.json"
    sizes = {f"{stack}num_hidden_layers": LAYERS for stack in ("", "text_", "vit_")}
    sizes |= {f"{stack}num_attention_heads": HEADS for stack in ("", "text_", "vit_")}
    config.write_text(json.dumps(sizes | {"hidden_size": H, "resolution": PATCH}))
    if system == "oner":
        config.write_text(json.dumps({"system": "oner", "heads": [], **ONER.model_dump()}))
    options = Options(system=system, config=config)
    rows = 14 * 14 + 1 if system == "unimo-2" else GRID**2 + 1
    read, path = WRITERS[source][0], sources(tmp_path, rows)[source]
    checkpoint = read(path, options)
    theirs = {name: tensor.read() for name, tensor in open_tensors(path).items()}
    for target, (read_back, write, name) in WRITERS.items():
        file = tmp_path / "out" / target / name
        file.parent.mkdir(parents=True)
        write(file, checkpoint)
        again = read_back(file, options)
        ours, back = values(checkpoint), values(again)
        assert ours.keys() == back.keys() and all(np.array_equal(ours[n], back[n]) for n in ours)
        if target == source:
            written = {n: tensor.read() for n, tensor in open_tensors(file).items()}
            assert written.keys() == theirs.keys() and all(np.array_equal(written[n], theirs[n]) for n in theirs)


def test_one_model_under_the_names_of_two_libraries(tmp_path):
    arrays = torch_arrays(TIMM)
    by_ours = {ours: arrays[group[0]] for ours, group in TIMM.names(LAYERS).items()}
    for layout, name in ((HF, "hf"), (HF_MODULES, "modules")):
        cut = {
            theirs: np.ascontiguousarray(part)
            for ours, group in layout.names(LAYERS).items()
            for theirs, part in zip(group, np.split(by_ours[ours], len(group)) if len(group) > 1 else [by_ours[ours]])
        }
        hf_folder(tmp_path / name, cut)
    first = values(vit.read_timm(timm_file(tmp_path, arrays), Options(system="oner")))
    for name in ("hf", "modules"):
        second = values(vit.read_hf(tmp_path / name, Options(system="oner")))
        assert all(np.array_equal(first[n], second[n]) for n in first)


def test_a_converted_tower_runs_and_the_rest_starts_at_random(tmp_path):
    path = timm_file(tmp_path, torch_arrays(TIMM))
    lines = convert(path, tmp_path / "model", options=Options(system="oner"))
    assert any("vit-timm, oner" in line for line in lines)
    assert any("starting at random" in line and "projection" in line for line in lines)
    assert (tmp_path / "model" / "model.safetensors").is_file()
    table = load_file(tmp_path / "model" / "model.safetensors")
    assert np.array_equal(table["tower.cls"], load_file(path)["cls_token"])


FIXTURES = Path(__file__).parents[1] / "fixtures" / "vit"  # made by make.py there


@pytest.mark.parametrize(
    ("read", "name", "record", "epsilon"),
    [
        (vit.read_hf, "hf", "hf", 1e-12),
        (vit.read_timm, "timm", "timm", 1e-6),
        (vit.read_npz, "npz/google.npz", "npz", 1e-6),
    ],
)
def test_states_are_those_that_the_library_gave(read, name, record, epsilon, tmp_path):
    sizes = ONER.model_dump() | {"hidden_size": 16, "num_attention_heads": 2, "layer_norm_eps": epsilon}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    checkpoint = read(FIXTURES / name, Options(system="oner", config=tmp_path / "sizes.json"))
    with paddle.LazyGuard():
        model = VisionTransformer(16, 2, 2, patch_size=8, image_size=32, epsilon=epsilon)
    fill(model, {n.removeprefix("tower."): t for n, t in checkpoint.tensors.items()})
    model.eval()
    with np.load(FIXTURES / record / "record.npz") as theirs, paddle.no_grad():
        states = model(paddle.to_tensor(theirs["images"])).numpy()
        np.testing.assert_allclose(states, theirs["states"], rtol=0, atol=1e-5)


# ---- what is said and what is refused


def thin(width: int) -> dict[str, np.ndarray]:
    """timm's ViT of one layer and that width, of zeros in half precision."""
    arrays = torch_arrays(TIMM, layers=1, rows=2 * 2 + 1)
    wide = lambda n: n * width // H if n % H == 0 and n else n  # noqa: E731
    return {name: np.zeros([wide(n) for n in array.shape], np.float16) for name, array in arrays.items()}


@pytest.mark.parametrize(("width", "heads"), [(192, 3), (384, 6), (1152, 16), (1408, 16)])
def test_heads_of_published_widths_are_known(width, heads, tmp_path):
    save_file(thin(width), tmp_path / "weights.safetensors")
    found = vit.read_timm(tmp_path / "weights.safetensors", Options(system="oner"))
    assert found.config.num_attention_heads == heads
    assert any(f"{heads} were taken, as in published ViTs of width {width}" in note for note in found.notes)


@pytest.mark.parametrize("beside", [{"num_attention_heads": 12}, {"model_args": {"num_heads": 12}}])
def test_a_config_beside_the_weights_says_the_heads(beside, tmp_path):
    save_file(thin(384), tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(beside))
    found = vit.read_timm(tmp_path / "weights.safetensors", Options(system="oner"))
    assert found.config.num_attention_heads == 12 and not any("heads" in note for note in found.notes)


@pytest.mark.parametrize("width", [320, 1000, 4096])
def test_heads_of_other_widths_are_asked_for(width, tmp_path):
    arrays = {name: array for name, array in thin(width).items() if "mlp" not in name}  # asked before shapes are read
    save_file(arrays, tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError, match=f"{width} is none of the published widths 64, .*put a config.json"):
        vit.read_timm(tmp_path / "weights.safetensors", Options(system="oner"))


@pytest.mark.parametrize("kind", ["mobilevit", "dinov2", "vit_hybrid"])
def test_another_model_type_than_vit_is_refused_by_name(kind, tmp_path):
    folder = hf_folder(tmp_path / "hf", torch_arrays(HF), model_type=kind)
    assert f"config.json is of model type '{kind}', expected 'vit' or " in refusal(vit.read_hf, folder)


def test_notes_and_unused_heads(tmp_path):
    arrays = torch_arrays(HF, rows=24 * 24 + 1, patch=16)
    arrays = {f"vit.{n}": a for n, a in arrays.items()} | {"classifier.weight": np.ones([5, H], np.float32)}
    arrays["vit.pooler.dense.bias"] = np.ones(H, np.float32)
    checkpoint = vit.read_hf(hf_folder(tmp_path / "hf", arrays, layer_norm_eps=1e-6), Options())
    assert checkpoint.system == "unimo-2" and checkpoint.config.vit_num_hidden_layers == LAYERS
    assert checkpoint.unused == ("pooler.dense.bias (pooler)", "classifier.weight (outside of the encoder)")
    assert any("resized bicubically from 24 x 24 to 14 x 14" in note for note in checkpoint.notes)
    assert any("pads images by 7 pixels" in note for note in checkpoint.notes)
    assert any("epsilon is 1e-12 here, 1e-06 in Hugging Face's ViT" in note for note in checkpoint.notes)


def test_a_table_without_a_row_for_the_class_token(tmp_path):
    arrays = google_arrays(BIG_VISION)
    arrays["pos_embedding"] = arrays["pos_embedding"][:, 1:]
    arrays |= {"MAPHead_0/probe": np.ones([1, 1, H], np.float32)}
    path = npz_file(tmp_path, {f"params/{n}": a for n, a in arrays.items()})
    checkpoint = vit.read_npz(path, Options(system="oner"))
    position = checkpoint.tensors["tower.position"].read()
    assert not position[:, 0].any() and np.array_equal(position[:, 1:], arrays["pos_embedding"])
    assert checkpoint.unused == ("MAPHead_0/probe (attention pooling behind the encoder)",)
    assert any("zeros were put there" in note for note in checkpoint.notes)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dist_token", "a distillation token"),
        ("reg_token", "register tokens"),
        ("blocks.1.ls1.gamma", "layer scale"),
        ("blocks.0.attn.q_norm.weight", "norms of queries and keys"),
        ("norm_pre.weight", "a norm before the first block"),
        ("fc_norm.weight", "the mean of the patches"),
        ("blocks.0.surprise", "a part that this reader does not know"),
    ],
)
def test_what_changes_the_function_is_refused_by_name(name, reason, tmp_path):
    message = refusal(vit.read_timm, timm_file(tmp_path, torch_arrays(TIMM) | {name: np.ones(H, np.float32)}))
    assert f"{name}: {reason}" in message and "our encoder has none" in message


def test_all_refusals_are_listed_at_once(tmp_path):
    extra = {f"vit.embeddings.{n}": np.ones([1, 1, H], np.float32) for n in ("distillation_token", "register_tokens")}
    arrays = {f"vit.{n}": a for n, a in torch_arrays(HF, rows=19).items()} | extra
    message = refusal(vit.read_hf, hf_folder(tmp_path / "hf", arrays, hidden_act="relu", layer_norm_eps="x"))
    for part in (
        "hidden_act is 'relu'",
        "layer_norm_eps is 'x'",
        "distillation_token",
        "register_tokens",
        "19 rows, expected n * n + 1",
    ):
        assert part in message


def test_missing_and_misshapen_tensors(tmp_path):
    arrays = torch_arrays(TIMM)
    del arrays["blocks.1.attn.qkv.bias"]
    arrays["blocks.0.mlp.fc1.weight"] = np.ones([3 * H, H], np.float32)
    message = refusal(vit.read_timm, timm_file(tmp_path, arrays))
    assert "blocks.1.attn.qkv.bias: missing, expected [192]" in message
    assert "blocks.0.mlp.fc1.weight: shape [192, 64], expected [256, 64]" in message
    for lost, expected in (
        ("cls_token", "0 tensors named cls_token"),
        ("patch_embed.proj.weight", "missing, expected [width, 3, side, side]"),
    ):
        path = timm_file(tmp_path, {n: a for n, a in torch_arrays(TIMM).items() if n != lost})
        assert expected in refusal(vit.read_timm, path)
    assert "so no layer is there" in refusal(vit.read_timm, timm_file(tmp_path, torch_arrays(TIMM, layers=0)))


def test_stacked_layers_and_hybrids_of_google(tmp_path):
    arrays = google_arrays(BIG_VISION) | {"Transformer/encoderblock/LayerNorm_0/scale": np.ones([12, H], np.float32)}
    assert "stacked in one tensor" in refusal(vit.read_npz, npz_file(tmp_path, arrays))
    arrays = google_arrays(NPZ) | {"conv_root/kernel": np.ones([7, 7, 3, 64], np.float32)}
    assert "a ResNet in front" in refusal(vit.read_npz, npz_file(tmp_path, arrays))


def test_sizes_that_differ_from_the_users(tmp_path):
    path = timm_file(tmp_path, torch_arrays(TIMM))
    sizes = ONER.model_dump() | {"num_hidden_layers": 5, "resolution": 16}
    (tmp_path / "sizes.json").write_text(json.dumps({"system": "oner", "heads": []} | sizes))
    message = refusal(vit.read_timm, path, config=tmp_path / "sizes.json")
    assert "num_hidden_layers: 2, expected 5" in message and "resolution: 8, expected 16" in message
    assert "patches of 8 pixels, expected 16" in refusal(vit.read_timm, path, system="unimo-2")
    with pytest.raises(ConfigError, match="a ViT starts unimo-2 or oner, not unimo"):
        vit.read_timm(path, Options(system="unimo"))


def test_a_writer_needs_the_whole_tower(tmp_path):
    checkpoint = vit.read_timm(timm_file(tmp_path, torch_arrays(TIMM)), Options(system="oner"))
    tensors = {n: t for n, t in checkpoint.tensors.items() if n != "tower.norm.bias"}
    with pytest.raises(CheckpointError, match=r"lacks 1 parameters of the ViT: tower\.norm\.bias"):
        vit.write_timm(tmp_path / "out.safetensors", Checkpoint("oner", ONER, (), tensors))
    assert not (tmp_path / "out.safetensors").exists()


def test_what_a_library_has_no_place_for_is_said(tmp_path):
    model = skeleton("oner", ONER, ())
    for parameter in model.parameters():
        parameter.initialize()
    notes = vit.write_npz(tmp_path / "out.npz", Checkpoint("oner", ONER, (), values_of(model)))
    assert any("projection, tower.word_embedding.weight" in note for note in notes)


# ---- positions


def bicubic(table: np.ndarray, size: int) -> np.ndarray:
    """[n, n, H] -> [size, size, H] by the definition: Keys's kernel, a = -0.75, half-pixel centres, edges repeated."""
    a, n = -0.75, len(table)
    near = lambda d: (a + 2) * d**3 - (a + 3) * d**2 + 1  # noqa: E731
    far = lambda d: a * (d**3 - 5 * d**2 + 8 * d - 4)  # noqa: E731
    weights = np.zeros([size, n])
    for i in range(size):
        centre = (i + 0.5) * n / size - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            distance = abs(centre - j)
            weights[i, min(max(j, 0), n - 1)] += near(distance) if distance <= 1 else far(distance)
    return np.einsum("ai,bj,ijh->abh", weights, weights, table)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 24), size=st.integers(2, 24), seed=st.integers(0, 9))  # to one patch Paddle takes a corner
def test_resized_positions_are_bicubic_and_keep_the_class_token(n, size, seed):
    table = np.random.default_rng(seed).standard_normal([1, n * n + 1, 5]).astype(np.float32)
    found = resize_positions(paddle.to_tensor(table), size, size).numpy()
    assert np.array_equal(found[:, :1], table[:, :1])
    expected = bicubic(table[0, 1:].reshape(n, n, 5).astype(np.float64), size).reshape(1, -1, 5)
    np.testing.assert_allclose(found[:, 1:], expected, rtol=0, atol=2e-5)
