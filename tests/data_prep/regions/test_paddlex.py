"""PaddleX detectors from a local folder: one that is exported here, and what is wrong with folders that are not."""

import json
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml
from paddle import nn

from data_prep.regions.build import build
from data_prep.regions.registry import make
from unimo.errors import ConfigError, DataError, MissingDependencyError
from unimo.readers.feature_store import FeatureStore

SIDE = 64  # pixels that the exported network sees


class Dark(nn.Layer):
    """A detector with PaddleX's inputs and outputs: the bounding box of what is darker than mid-grey, of class 1; as
    many boxes of class 0 as `more`, with falling scores; none in a white picture."""

    def __init__(self, more: int):
        super().__init__()
        self.more = more
        self.grey = self.create_parameter([1], default_initializer=nn.initializer.Constant(0.5))

    def forward(self, image, scale_factor):
        dark = (image.mean([0, 1]) < self.grey).astype("float32")  # (SIDE, SIDE)
        places = paddle.arange(SIDE, dtype="float32")
        columns, rows = dark.max(0), dark.max(1)
        low = [(places + (1 - line) * SIDE).min() for line in (columns, rows)]
        high = [((places + 1) * line).max() for line in (columns, rows)]
        there = paddle.stack([dark.max(), dark.max() * 0.9, *low, *high])
        scale = paddle.concat([paddle.ones([2]), scale_factor[0].flip(0), scale_factor[0].flip(0)])  # (h, w) -> x, y
        found = (there / scale).unsqueeze(0)
        others = [paddle.to_tensor([[0.0, 0.5 - 0.1 * i, 0.0, 0.0, 8.0 + i, 8.0]]) for i in range(self.more)]
        boxes = paddle.concat([found, *others])
        return boxes, paddle.full([1], 1 + self.more, "int32")


def export(folder: Path, more: int = 3, name: str = "PicoDet-S") -> Path:
    """Write the three files of a PaddleX model_dir."""
    specs = [paddle.static.InputSpec([None, 3, SIDE, SIDE], "float32", "image")]
    specs.append(paddle.static.InputSpec([None, 2], "float32", "scale_factor"))
    network = Dark(more)
    network.eval()
    paddle.jit.save(paddle.jit.to_static(network, input_spec=specs, full_graph=True), str(folder / "inference"))
    steps = [{"type": "Resize", "target_size": [SIDE, SIDE], "keep_ratio": False, "interp": 1}]
    steps.append({"type": "NormalizeImage", "mean": [0.0] * 3, "std": [1.0] * 3, "is_scale": True})
    steps.append({"type": "Permute"})
    described = {"Global": {"model_name": name}, "Preprocess": steps, "label_list": ["paper", "stain"]}
    (folder / "inference.yml").write_text(yaml.safe_dump({**described, "draw_threshold": 0.5}))
    return folder


def test_without_paddlex_the_error_names_the_hint(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "paddlex", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'paddlex\[cv\]==3.7.2'"):
        make("paddlex", {"model_dir": tmp_path})


def test_a_model_dir_is_needed():
    with pytest.raises(ConfigError, match="--extractor paddlex: --model-dir is missing"):
        make("paddlex", {})


@pytest.mark.heavy
def test_regions_of_an_exported_detector(tmp_path):
    """Needs PaddleX (requirements.txt installs it) and 95 MB of ResNet-50's weights through npm, unless cached."""
    pytest.importorskip("paddlex", reason="install requirements.txt")
    import cv2

    picture = np.full((100, 200, 3), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "white.png"), picture)
    picture[25:75, 50:150] = (0, 0, 60)
    cv2.imwrite(str(tmp_path / "stain.png"), picture)
    lines = [json.dumps({"image_id": k, "image": f"{k}.png", "source": "made"}) for k in ("stain", "white")]
    (tmp_path / "images.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "model").mkdir()
    settings = {"extractor": "paddlex", "model_dir": export(tmp_path / "model"), "min_boxes": 2}
    build(None, tmp_path / "images.jsonl", tmp_path / "out", **settings)
    store = FeatureStore(tmp_path / "out")
    assert store.class_names == ["background", "paper", "stain"] and store.feature_dim == 2048
    assert store.header["class_probs"] is False and store.extractor["model_name"] == "PicoDet-S"
    stain, white = store.read("stain"), store.read("white")
    assert stain.classes.tolist() == [2, 1, 1, 1] and np.allclose(stain.scores, [0.9, 0.5, 0.4, 0.3], atol=1e-6)
    assert np.allclose(stain.boxes[0], [50, 25, 150, 75], atol=2)
    assert white.classes.tolist() == [1, 1, 1] and stain.features.std() > 0.1
    stricter = make("paddlex", settings | {"threshold": 0.6, "extractor": None})
    assert len(stricter(picture).boxes) == 2  # --min-boxes holds below the threshold
    for wrong, said in (("no-such-net", "cannot open .* as no-such-net"), (None, "lacks inference.yml")):
        folder = tmp_path / f"{wrong}"
        folder.mkdir()
        if wrong:
            export(folder, name=wrong)
        with pytest.raises(DataError, match=said):
            make("paddlex", {"model_dir": folder})
    (tmp_path / "none").mkdir()
    whole = make("paddlex", {"model_dir": export(tmp_path / "none", more=0)})(np.full((100, 200, 3), 255, np.uint8))
    assert whole.boxes.tolist() == [[0, 0, 200, 100]] and whole.classes.tolist() == [0]
