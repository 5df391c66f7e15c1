"""What a command reads and where it writes are looked at before weights are: these are damaged, and nothing says so."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from data_prep.__main__ import main as data_prep
from unimo.cli import main as unimo
from unimo.engine import checkpoint
from unimo.engine.model_folder import write_model
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.readers.tokenizer import load_tokenizer
from unimo.storage.locks import alone

DAMAGED = "model.safetensors"


def said(*call: object, command=unimo) -> str:
    result = CliRunner().invoke(command, [str(part) for part in call])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 2 and result.output.count("error:") == 1, result.output
    return result.output


@pytest.fixture
def damaged(small_world, small_recipe, tmp_path) -> Path:
    """A model folder whose sizes and vocabulary are whole and whose weights are not."""
    sizes = UnimoConfig(**small_recipe["model"])
    write_model(tmp_path / "model", Unimo(sizes, ["pool", "match"]), load_tokenizer(small_world / "vocabulary"))
    file = tmp_path / "model" / checkpoint.MODEL
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return tmp_path / "model"


@pytest.fixture
def lacking(small_world, tmp_path) -> dict[str, str]:
    """Pairs that are not there, that are no pairs, and of a picture without regions, and what is said of each."""
    line = json.loads((small_world / "pairs.jsonl").read_text().splitlines()[0])
    (tmp_path / "broken.jsonl").write_text("{}\n")
    held_out = [line | {"image_id": f"lost-{split}", "split": split} for split in ("dev", "test")]
    kept = (small_world / "pairs.jsonl").read_text()
    (tmp_path / "lost.jsonl").write_text(kept + "".join(json.dumps(pair) + "\n" for pair in held_out))
    return {"no/pairs.jsonl": "no/pairs.jsonl does not exist", "broken.jsonl": "broken.jsonl", "lost.jsonl": "lost-"}


@pytest.fixture
def in_the_way(tmp_path) -> Path:
    """A folder to write that cannot be made."""
    (tmp_path / "file").write_text("no folder")
    return tmp_path / "file" / "output"


def test_pretraining(small_recipe, damaged, lacking, in_the_way, tmp_path):
    def run(output: Path = tmp_path / "run", **changes: object) -> str:
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(small_recipe | changes))
        return said("pretrain", tmp_path / "recipe.yaml", "--output", output)

    start, data = {"initialise_from": str(damaged)}, small_recipe["data"]
    assert DAMAGED in run(**start)
    for name, words in lacking.items():
        asked = start | {"engine": small_recipe["engine"] | {"eval_every": 3}}
        output = run(**asked, data=data | {"pairs": str(tmp_path / name)})
        assert words in output and DAMAGED not in output
    output = run(**start, data=data | {"pairs": "no/pairs", "texts": "no/texts", "rewrites": "no/rewrites"})
    assert all(f"no/{name} does not exist" in output for name in ("pairs", "texts", "rewrites"))
    output = run(**start, engine=small_recipe["engine"] | {"eval_every": 3, "best_metric": "f1"})
    assert "engine.best_metric is f1" in output and DAMAGED not in output
    output = run(in_the_way, **start)
    assert f"{in_the_way.parent} is no folder" in output and DAMAGED not in output
    with alone(tmp_path / "held"):
        output = run(tmp_path / "held", **start)
    assert "another process" in output and DAMAGED not in output
    output = run(initialise_from="unimo-bas-en", data=data | {"pairs": str(tmp_path / "broken.jsonl")})
    assert "did you mean 'unimo-base-en'" in output and "broken.jsonl" not in output, "before any data is read"


def test_fine_tuning(small_world, damaged, lacking, in_the_way, tmp_path):
    def run(output: Path = tmp_path / "run", *options: object, model: object = damaged, **changes: object) -> str:
        engine = {"steps": 2, "learning_rate": 1e-3, "eval_every": 1}
        recipe = {"pairs": str(small_world / "pairs.jsonl"), "regions": str(small_world / "regions"), "max_tokens": 9}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"engine": engine} | changes))
        return said("finetune", tmp_path / "recipe.yaml", "--model", model, "--output", output, *options)

    assert DAMAGED in run()
    for name, words in lacking.items():
        output = run(pairs=str(tmp_path / name))
        assert words in output and DAMAGED not in output
    for output in (
        run(in_the_way, model="unimo-base-en"),
        run(pairs="no/pairs", model="unimo-base-en"),  # neither is anything fetched
        run(max_tokens=300),
        run(tmp_path / "run", "--against", tmp_path / "none"),
    ):
        assert DAMAGED not in output and "fetch" not in output
    assert not (tmp_path / "run").exists()


def test_evaluation(small_world, damaged, lacking, in_the_way, tmp_path):
    def run(pairs: Path, output: Path = tmp_path / "eval", *options: object, model: object = damaged) -> str:
        data = ["--pairs", pairs, "--regions", small_world / "regions"]
        return said("evaluate", "retrieval", model, *data, "--output", output, *options)

    pairs = small_world / "pairs.jsonl"
    assert DAMAGED in run(pairs)
    for name, words in lacking.items():
        output = run(tmp_path / name)
        assert words in output and DAMAGED not in output
    for output in (
        run(pairs, in_the_way, model="unimo-base-en"),
        run(tmp_path / "none", model="unimo-base-en"),
        run(pairs, tmp_path / "eval", "--max-tokens", 1, model="unimo-base-en"),
        run(pairs, tmp_path / "eval", "--against", tmp_path / "none"),
    ):
        assert DAMAGED not in output and "fetch" not in output


def test_export_and_recording(damaged, in_the_way, tmp_path):
    assert DAMAGED in said("export", damaged, tmp_path / "graphs")
    assert "decode_step needs the heads" in said("export", damaged, tmp_path / "graphs", "--parts", "decode_step")
    assert "is no folder" in said("export", "unimo-base-en", in_the_way)
    assert DAMAGED in said("port", "record", damaged, tmp_path / "golden.npz")
    assert "is no folder" in said("port", "record", damaged, in_the_way / "golden.npz")


def test_an_untrained_model_is_not_made_for_a_place_that_is_taken(small_recipe, in_the_way, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(small_recipe | {"tokenizer": "no/vocabulary"}))
    assert "no/vocabulary does not exist" in said("init", tmp_path / "recipe.yaml", "--output", tmp_path / "new")
    assert "is no folder" in said("init", tmp_path / "recipe.yaml", "--output", in_the_way)
    assert "not a model folder" in said("init", tmp_path / "recipe.yaml", "--output", tmp_path)


def test_regions(small_world, damaged, in_the_way, tmp_path):
    """A detector of damaged weights, and one whose weights would be downloaded."""

    def run(pairs: Path, output: Path = tmp_path / "store", *options: object) -> str:
        call = ["regions", "extract", "--pairs", pairs, "--output", output]
        return said(*call, "--extractor", "butd", "--model-dir", damaged, *options, command=data_prep)

    (tmp_path / "pairs.jsonl").write_text((small_world / "pairs.jsonl").read_text())  # its pictures are elsewhere
    pairs = small_world / "pairs.jsonl"
    assert DAMAGED in run(pairs)
    for output in (
        run(tmp_path / "pairs.jsonl"),
        run(tmp_path / "none.jsonl"),
        run(pairs, in_the_way),
        run(pairs, tmp_path / "store", "--class-names", tmp_path / "none.txt"),
        run(pairs, tmp_path / "store", "--selection", "lxmert", "--threshold", 0.3),
    ):
        assert DAMAGED not in output
    assert not (tmp_path / "store").exists()
    call = ["regions", "extract", "--pairs", tmp_path / "pairs.jsonl", "--cache", tmp_path / "empty"]
    said(*call, "--output", tmp_path / "store", command=data_prep)
    said(*call[:3], pairs, *call[4:], "--output", in_the_way, command=data_prep)
    assert not (tmp_path / "empty").exists()


def test_rewriting_and_retrieving(small_world, tmp_path):
    """Names of engines and an index that lacks come before parser and dictionaries; an index outlives a wrong call."""
    call = ["rewrite", "build", "--pairs", small_world / "pairs.jsonl", "--output", tmp_path / "rewrites.jsonl"]
    call += ["--cache", tmp_path / "empty"]
    assert "no engine babelfish" in said(*call, "--engine", "babelfish", command=data_prep)
    assert "manifest" in said(*call, "--index", tmp_path / "none", command=data_prep)
    assert not (tmp_path / "empty").exists()
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "manifest.json").write_text("{}")
    said("retrieve", "fit", "--pairs", tmp_path / "none", "--output", tmp_path / "index", command=data_prep)
    assert (tmp_path / "index" / "manifest.json").exists()
