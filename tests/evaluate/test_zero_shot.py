"""Pictures by the names of their classes: batches against one at a time, what is learnt, the papers' row, errors."""

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from click.testing import CliRunner

from unimo.cli import main
from unimo.engine.distributed import World
from unimo.engine.model_folder import write_model
from unimo.errors import DataError
from unimo.evaluate import zero_shot
from unimo.evaluate.pair_scorers import pair_scorer
from unimo.evaluate.zero_shot import ZeroShot, ZeroShotSettings
from unimo.models.oner import Oner, OnerConfig
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.readers.annotations import write_jsonl
from unimo.readers.captions import caption_ids, collate_text
from unimo.readers.names_of_classes import read_class_names
from unimo.readers.tensors import as_picture, as_text
from unimo.readers.tokenizer import load_tokenizer
from unimo.report.reproduction import read_reproduction

LAYER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = LAYER | {"vocab_size": 40, "max_position_embeddings": 30}
PIXELS = {"image_size": 32, "resolution": 8}
TOWERS = {"text_num_hidden_layers": 1, "text_num_attention_heads": 2, "vit_num_hidden_layers": 1}
TOWERS |= {"vit_num_attention_heads": 2, "text_vocab_size": 40, "text_max_position_embeddings": 30}
CODES = {"num_codebook": 12, "topk_value": 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
CODES |= {"text_hidden_dropout_prob": 0.0, "initializer_range": 0.2}
MODELS = {
    "unimo-2": lambda: Unimo2(Unimo2Config(**LAYER, **PIXELS, **TOWERS, **CODES), ["pool", "match"]),
    "oner": lambda: Oner(OnerConfig(**TEXT, **PIXELS, projection_size=8)),
    "unimo": lambda: Unimo(UnimoConfig(**TEXT, image_embedding_size=16), ["pool", "match"]),
    "alone": lambda: Unimo(UnimoConfig(**TEXT, image_embedding_size=16, match_on="alone"), ["pool", "match"]),
}
TEMPLATES = ["a {}", "the {} on a table near the tree", "{}s"]


@pytest.fixture
def world(small_world, tmp_path) -> Path:
    """Examples of its pictures by the thing on them, numbered as classes; pictures drawn anew, a colour a thing."""
    pairs = [json.loads(line) for line in (small_world / "pairs.jsonl").read_text().splitlines()]
    things = list(dict.fromkeys(pair["image_id"].split("-")[1] for pair in pairs))
    rng, rows, images = np.random.default_rng(0), [], []
    for pair in pairs:
        place = things.index(pair["image_id"].split("-")[1])
        picture = rng.integers(100, 156, (32, 32, 3), np.uint8)
        left, top = rng.integers(0, 4, 2).tolist()
        colour = [255 * (place >> bit & 1) for bit in range(3)]
        cv2.rectangle(picture, (left, top), (left + 28, top + 28), colour, -1)
        cv2.imwrite(str(tmp_path / f"{pair['image_id']}.png"), picture)
        keys = {"id": pair["image_id"], "split": pair["split"], "image_id": pair["image_id"]}
        rows.append(keys | {"target": f"n{place}"})
        images.append({"image_id": pair["image_id"], "image": f"{pair['image_id']}.png", "source": "made"})
    write_jsonl(tmp_path / "examples.jsonl", rows)
    write_jsonl(tmp_path / "images.jsonl", images)
    (tmp_path / "names.txt").write_text("".join(f"n{place}\t{thing}, x\n" for place, thing in enumerate(things)))
    return tmp_path


def settings(world: Path, small_world: Path, system: str, **given: object) -> ZeroShotSettings:
    regions = {"regions": str(small_world / "regions")}
    pictures = regions if system in ("unimo", "alone") else {"images": str(world / "images.jsonl")}
    given = {"examples": str(world / "examples.jsonl"), "names": str(world / "names.txt"), **given}
    return ZeroShotSettings(template=TEMPLATES, max_regions=3, **pictures, **given)


def call(*parts: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["evaluate", "zero_shot", *map(str, parts)])
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize("system", MODELS)
def test_batches_say_what_one_at_a_time_does(world, small_world, system, monkeypatch):
    paddle.seed(3)
    model, tokenizer = MODELS[system](), load_tokenizer(small_world / "vocabulary")
    monkeypatch.setattr(zero_shot, "BATCH", 4)
    evaluator = ZeroShot(model.config, tokenizer, settings(world, small_world, system), "test")
    model.train()
    found = evaluator.measure(model, World())
    assert model.training and set(found.metrics) == {*evaluator.measures} == {"accuracy", "top5_accuracy"}
    model.eval()
    scorer, classes = pair_scorer(model), []
    with paddle.no_grad():
        for name in evaluator.names.values():
            texts = [caption_ids(tokenizer, template.replace("{}", name), 30) for template in TEMPLATES]
            one = [scorer.text_vectors(as_text(collate_text([ids], tokenizer.pad_id))) for ids in texts]
            classes.append(F.normalize(sum(F.normalize(x, axis=-1) for x in one) / len(one), axis=-1))
        classes = paddle.concat(classes)
        pictures = [as_picture(evaluator.questions.collate([row])) for row in range(len(evaluator.units))]
        cosines = [F.cosine_similarity(classes, scorer.image_vectors(one)).numpy() for one in pictures]
    said = found.shown()["predictions.json"]
    assert [row["id"] for row in said] == evaluator.units and len(said) == 6
    right = top = 0
    for row, own in zip(said, cosines, strict=True):
        best = np.argsort(-own)[:5]
        assert [*row["cosines"]] == [f"n{place}" for place in best] and row["prediction"] == f"n{best[0]}"
        assert [*row["cosines"].values()] == pytest.approx(own[best].tolist(), abs=2e-6)
        right, top = right + (row["prediction"] == row["target"]), top + (row["target"] in row["cosines"])
    assert found.values == pytest.approx({"accuracy": 100 * right / 6, "top5_accuracy": 100 * top / 6})
    counts = sorted(np.unique([row["target"] for row in said], return_counts=True)[1])
    assert found.metrics["accuracy"].chance == pytest.approx(100 * counts[-1] / 6)
    assert found.metrics["top5_accuracy"].chance == pytest.approx(100 * sum(counts[-5:]) / 6)


def test_processes_share_the_names(world, small_world):
    model = MODELS["oner"]()
    tokenizer = load_tokenizer(small_world / "vocabulary")
    evaluator = ZeroShot(model.config, tokenizer, settings(world, small_world, "oner"), "test")
    parts: dict[int, list] = {}
    for rank in (2, 1, 0):  # the last one has what all gather

        def gather(value: list, rank: int = rank) -> list:
            parts[rank] = value
            return [parts.get(other, []) for other in range(3)]

        share = SimpleNamespace(rank=rank, size=3, gather=gather)
        shared = evaluator.class_vectors(model, pair_scorer(model), share)
    alone = evaluator.class_vectors(model, pair_scorer(model), World())
    assert [len(part) for part in parts.values()] == [2, 3, 3]
    np.testing.assert_allclose(shared, alone, atol=1e-6)
    np.testing.assert_allclose((alone**2).sum(1), 1, atol=1e-5)


def test_what_the_contrast_has_learnt_is_read_off(world, small_world, tmp_path):
    """A UNIMO-2 that has learnt two sentences of each training picture knows the others by further ones; the row of the
    paper stands beside it."""
    paddle.seed(1)
    model, tokenizer = MODELS["unimo-2"](), load_tokenizer(small_world / "vocabulary")
    evaluator = ZeroShot(model.config, tokenizer, settings(world, small_world, "unimo-2"), "train")
    images = paddle.to_tensor(evaluator.questions.collate(range(len(evaluator.units)))["pixels"]["images"])
    right = paddle.to_tensor(evaluator.targets.take(range(20)))
    texts = []
    for template in ("a {}", "the {} on a table"):
        sequences = [caption_ids(tokenizer, template.replace("{}", name), 30) for name in evaluator.names.values()]
        texts.append(as_text(collate_text(sequences, tokenizer.pad_id)))
    optimizer = paddle.optimizer.Adam(5e-3, parameters=model.parameters())
    for step in range(70):
        words = F.normalize(model.contrasted("text", model.encode_text(texts[step % 2])[0]), axis=-1)
        seen = F.normalize(model.contrasted("image", model.vit(images)), axis=-1)
        loss = F.cross_entropy(10 * seen @ words.T, right)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    write_model(tmp_path / "model", model, tokenizer)

    data = ["--examples", world / "examples.jsonl", "--images", world / "images.jsonl", "--names", world / "names.txt"]
    paper = "table=unimo2_table2 row=UNIMO-2 dataset=ImageNet-1k mode=zero_shot".split()
    row = [part for pair in paper for part in ("--paper", pair)]
    (tmp_path / "templates.txt").write_text("the {}\n{} near a tree\n")
    given = ["--template", tmp_path / "templates.txt", "--split", "dev", *row]
    code, output = call(tmp_path / "model", *data, *given, "--output", tmp_path / "runs" / "ours")
    assert code == 0 and "paper 66.3" in output, output
    written = json.loads((tmp_path / "runs" / "ours" / "metrics.json").read_text())
    value = written["metrics"]["accuracy"]["value"]
    assert value >= 80 > 2 * written["metrics"]["accuracy"]["chance"]
    assert written["task"] == "classify" and written["scoring"]["templates"] == ["the {}", "{} near a tree"]
    assert json.loads((tmp_path / "runs" / "ours" / "items.json").read_text())["units"]
    (line,) = [line for line in read_reproduction(tmp_path / "runs").lines if line.runs]
    assert (line.table, line.printed, line.number.mode) == ("unimo2_table2", "66.3", "zero_shot")
    assert line.mean == pytest.approx(value) and line.difference == pytest.approx(value - 66.3)


def test_layouts_of_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffn01440764 tench, Tinca tinca\r\n\r\nn2\tgreat white shark, white shark\n".encode())
    assert read_class_names(path) == {"n01440764": "tench", "n2": "great white shark"}
    path.write_text("blue flower\tflax, x\nred rose\trose")
    assert read_class_names(path) == {"blue flower": "flax", "red rose": "rose"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("n1\tcat\nn2\nn3 \n", "2 bad record(s).*line 2: class 'n2' has no name, got 'n2', expected CLASS<TAB>name"),
        ("n1\tcat\nn2\t, tomcat\n", "line 2: class 'n2' has no name"),
        ("n1 cat\nn2 dog\nn1 horse\n", "line 3: class 'n1' was already on line 1"),
        ("\n\n", "holds no names of classes; expected CLASS<TAB>name a line"),
        (b"n1 \xff\xfe\xfa", "holds no names of classes: .*; expected text"),
    ],
)
def test_names_that_are_none(tmp_path, text, words):
    path = tmp_path / "names.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=r"(?s)" + words.replace("(s)", r"\(s\)")):
        read_class_names(path)


def test_one_clear_error_for_what_does_not_fit(world, small_world, tmp_path):
    write_model(tmp_path / "model", MODELS["unimo-2"](), load_tokenizer(small_world / "vocabulary"))
    names, rows = (world / "names.txt").read_text().splitlines(), (world / "examples.jsonl").read_text().splitlines()
    texts = [json.dumps(json.loads(row) | {"source": ["a dog"]}) for row in rows]
    alone = [json.dumps({**json.loads(row), "image_id": None}) for row in texts]

    def refused(*given: object, names: list[str] = names, rows: list[str] = rows) -> str:
        (world / "n.txt").write_text("\n".join(names))
        (world / "e.jsonl").write_text("\n".join(rows))
        data = ["--examples", world / "e.jsonl", "--names", world / "n.txt", "--images", world / "images.jsonl"]
        code, output = call(tmp_path / "model", *data, *given, "--output", tmp_path / "x")
        assert code == 2 and output.count("error:") == 1 and not (tmp_path / "x").exists(), output
        return " ".join(output.split())

    kinds = {json.loads(row)["target"] for row in rows if json.loads(row)["split"] == "test"}
    lost = [line for line in names if line.split("\t")[0] not in sorted(kinds)[:2]]
    shown = f"n.txt has no name for 2 of {len(kinds)} classes of {world}/e.jsonl, such as '{min(kinds)}'; add a line"
    assert shown in refused(names=lost)
    known = refused(names=[*names, "n9\tmouse"])
    assert f"n.txt names 1 of 9 classes, such as 'n9', that {world}/e.jsonl has no example of; leave them" in known
    assert "expected pictures without texts, whose targets are classes" in refused(rows=texts)
    assert "expected pictures without texts, whose targets are classes" in refused(rows=alone)
    answers = [json.dumps(json.loads(row) | {"target": None}) for row in rows]
    assert "(6 of 6 like it): it has no answer" in refused(rows=answers)
    assert "templates: 'a photo' has 0 {}, expected one" in refused("--template", "a photo")
    assert "templates: '{} and {}' has 2 {}" in refused("--template", "a {}", "--template", "{} and {}")
    assert "--names" in call(tmp_path / "model", "--examples", world / "examples.jsonl", "--output", "x")[1]
    write_model(tmp_path / "headless", Unimo(UnimoConfig(**TEXT, image_embedding_size=16), ["pool"]),
                load_tokenizer(small_world / "vocabulary"))  # fmt: skip
    data = ["--examples", world / "examples.jsonl", "--names", world / "names.txt"]
    data += ["--regions", small_world / "regions", "--output", tmp_path / "x"]
    code, output = call(tmp_path / "headless", *data)
    assert code == 2 and "the model has no head match" in output and output.count("error:") == 1


def test_names_of_several_classes_are_told(world, small_world, capsys):
    (world / "names.txt").write_text((world / "names.txt").read_text().replace("dog", "cat"))
    model = MODELS["unimo-2"]()
    tokenizer = load_tokenizer(small_world / "vocabulary")
    ZeroShot(model.config, tokenizer, settings(world, small_world, "unimo-2"), "test")
    assert "notice: 1 name(s) are of several classes each, which stay alike: 'cat'" in "".join(capsys.readouterr())
