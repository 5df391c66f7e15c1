"""docs/flickr30k.md: its commands, as they stand there, on a few pictures in the exact formats."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from unimo.config import ROOT
from unimo.engine.model_folder import write_model
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.readers.tokenizer import load_tokenizer

SPLITS = {"train": 12, "val": 3, "test": 4}
COLOURS = ("red", "blue", "green")
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def numbers() -> dict[str, list[int]]:
    """Flickr's numbers of the pictures of each split."""
    starts = {"train": 1000092795, "val": 2000092795, "test": 3000092795}
    return {split: [starts[split] + k for k in range(count)] for split, count in SPLITS.items()}


def raw(folder: Path) -> None:
    """Karpathy's file, the pictures, and the release's features of them."""
    rng = np.random.default_rng(0)
    (folder / "flickr30k-images").mkdir(parents=True)
    images = []
    for split, all_of_it in numbers().items():
        features = folder / "flickr30k-features" / "bbox100" / {"val": "dev"}.get(split, split)
        features.mkdir(parents=True)
        lines = []
        for number in all_of_it:
            colour = COLOURS[number % 3]
            sentences = [{"raw": f"A {colour} thing, seen {k} times.", "tokens": [], "imgid": 0} for k in range(5)]
            images.append({"filename": f"{number}.jpg", "split": split, "imgid": len(images), "sentences": sentences})
            Image.new("RGB", (50, 40), colour).save(folder / "flickr30k-images" / f"{number}.jpg")
            corners = np.array([[1, 2, 30, 35], [10, 5, 45, 20]], np.float32)
            probs = rng.dirichlet(np.ones(1601), 2).astype(np.float32)
            arrays = (corners, rng.random((2, 2048), np.float32), probs)
            encoded = [base64.b64encode(array.tobytes()).decode() for array in arrays]
            sides = ["50", "40"] if split == "train" else ["40", "50"]
            lines.append("\t".join([str(number), *sides, "2", *encoded]))
        (features / "part-0").write_text("\n".join(lines) + "\n")
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))


def models(folder: Path) -> dict[str, str]:
    """Name on the page -> folder of a tiny model of the system."""
    paddle.seed(1)
    tokenizer = load_tokenizer(ROOT / "model_files" / "dict")
    stacks = {f"{stack}num_{of}": 1 for stack in ("text_", "vit_") for of in ("hidden_layers", "attention_heads")}
    grounded = Unimo2Config(**SMALL, **stacks, image_size=32, resolution=16, num_codebook=8, topk_value=2)
    made = {
        "unimo-base-en": Unimo(UnimoConfig(**SMALL), ["pool", "match"]),
        "unimo-2-base-en": Unimo2(grounded, ["pool", "match"]),
    }
    for name, model in made.items():
        write_model(folder / name, model, tokenizer)
    return {name: str(folder / name) for name in made}


def clone(folder: Path) -> None:
    """What of the clone the commands name; of the two recipes shorter copies."""
    for name in ("run_scripts", "data_prep", "model_files"):
        (folder / name).symlink_to(ROOT / name)
    recipes = folder / "model_configs" / "finetune"
    recipes.mkdir(parents=True)
    (folder / "model_configs" / "paper_tables.yaml").symlink_to(ROOT / "model_configs" / "paper_tables.yaml")
    for size in ("base", "unimo2_base"):
        recipe = yaml.safe_load((ROOT / "model_configs" / "finetune" / f"flickr30k_{size}.yaml").read_text())
        recipe["engine"] |= {"steps": 3, "epochs": None, "eval_every": 2, "log_every": 1, "reader_threads": 0}
        (recipes / f"flickr30k_{size}.yaml").write_text(yaml.safe_dump(recipe | {"captions_per_batch": 2}))


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("flickr30k")
    raw(folder / "raw")
    clone(folder)
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "flickr30k.md").read_text(), re.MULTILINE | re.DOTALL)
    script = "".join(blocks)
    for name, place in models(folder / "models").items():  # the released ones are gigabytes
        assert f"export MODEL={name}\n" in script
        script = script.replace(f"export MODEL={name}\n", f"export MODEL={place}\n")
    environment = {**os.environ, "NPROC": "1", "PYTHONPATH": f"{folder}:{ROOT / 'src'}"}
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    (folder / "output.txt").write_text(ran.stdout)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return folder


def metrics(folder: Path, run: str) -> dict:
    return json.loads((folder / "runs" / run / "metrics.json").read_text())


def test_each_run_measured_the_test_split(done):
    for run in ("flickr30k_zero_shot", "flickr30k_base", "flickr30k_unimo2_zero_shot", "flickr30k_unimo2_base"):
        found = metrics(done, run)
        assert (found["split"], found["images"], found["captions"]) == ("test", 4, 20), run
    assert metrics(done, "flickr30k_base")["paper"]["row"] == "UNIMO-base"
    config = yaml.safe_load((done / "runs" / "flickr30k_unimo2_base" / "config.yaml").read_text())
    assert config["pixels"] == {**config["pixels"], "side": 384, "preparation": "release"}


def test_the_features_stand_where_their_pictures_are(done):
    """The sides of dev and test are told in the other order, so that all boxes are shares of the same sides."""
    from unimo.readers.feature_store import FeatureStore

    for split, all_of_it in numbers().items():
        store = FeatureStore(done / "data" / "flickr30k" / "regions" / {"val": "dev"}.get(split, split))
        assert sorted(store.ids) == [f"flickr30k-{number}" for number in all_of_it]
        record = store.read(store.ids[0])
        assert (record.width, record.height) == (50, 40)


def test_the_reports_hold_them(done):
    output = (done / "output.txt").read_text()
    assert "paper: Table 1, UNIMO-base" in output
    grid = output.split("### Flickr30k, fine-tuned", 1)[1].split("###", 1)[0]
    assert "(n 1)" in next(line for line in grid.splitlines() if line.startswith("| UNIMO-base ") and "| ours " in line)
    assert (done / "runs" / "flickr30k.html").is_file()
    rows = (done / "runs" / "paper" / "paper.csv").read_text().splitlines()
    assert len(rows) == 521
