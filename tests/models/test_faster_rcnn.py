"""The detector beside recordings of Hugging Face's implementation (tests/fixtures/detector), one stage after another.

Each stage gets what the recording's stage before it gave, so that a difference shows where it arises.
"""

from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from unimo.errors import ConfigError
from unimo.models.faster_rcnn import FasterRCNN, FasterRCNNConfig, choose, choose_lxmert
from unimo.models.systems import SYSTEMS, skeleton
from unimo.port.frcnn_lxmert import read
from unimo.port.interchange import Options
from unimo.port.weights import fill, shapes_of

FIXTURES = Path(__file__).parents[1] / "fixtures" / "detector"
TOLERANCE = 1e-4  # of the largest value
CHOICES = np.load(FIXTURES / "choices.npz")
KINDS = ("few", "many", "ties", "crowd")


@pytest.fixture(scope="module", params=["published", "other"])
def recorded(request) -> tuple[FasterRCNN, dict[str, np.ndarray]]:
    checkpoint = read(FIXTURES / request.param, Options())
    model = skeleton(checkpoint.system, checkpoint.config, ())
    fill(model, checkpoint.tensors)
    model.eval()
    with np.load(FIXTURES / request.param / "record.npz") as record:
        return model, dict(record)


def same(ours: paddle.Tensor | np.ndarray, theirs: np.ndarray) -> bool:
    ours = np.asarray(ours)
    return ours.shape == theirs.shape and np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


def split(record: dict[str, np.ndarray], name: str, counts: str = "counts") -> list[np.ndarray]:
    return np.split(record[name], np.cumsum(record[counts])[:-1])


def sizes_of(record: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    return [tuple(size) for size in record["sizes"].tolist()]


@paddle.no_grad()
def test_each_stage_on_the_recordings_inputs(recorded):
    model, record = recorded
    theirs = {name: paddle.to_tensor(array) for name, array in record.items()}
    assert same(model.read(theirs["pixels"]), record["feature_map"])
    objectness, deltas = model.rpn(theirs["feature_map"])
    assert same(objectness, record["objectness"]) and same(deltas, record["anchor_deltas"])
    grid = record["feature_map"].shape[2:]
    for i, (size, boxes) in enumerate(zip(sizes_of(record), split(record, "proposals"), strict=True)):
        assert same(model.rpn.propose(theirs["objectness"][i], theirs["anchor_deltas"][i], grid, size), boxes)
    pooled = [
        model.pool(theirs["feature_map"][i : i + 1], paddle.to_tensor(boxes))
        for i, boxes in enumerate(split(record, "proposals"))
    ]
    assert same(paddle.concat(pooled), record["features"])
    for name, ours in zip(("class_logits", "box_deltas", "attribute_logits"), model.judge(theirs["features"])):
        assert same(ours, record[name])


@paddle.no_grad()
def test_the_choice_on_the_recordings_logits(recorded):
    model, record = recorded
    deltas, logits = split(record, "box_deltas"), split(record, "class_logits")
    for i, (size, proposals) in enumerate(zip(sizes_of(record), split(record, "proposals"), strict=True)):
        boxes = model.class_boxes(paddle.to_tensor(proposals), paddle.to_tensor(deltas[i]), size)
        chosen = choose_lxmert(
            boxes, F.softmax(paddle.to_tensor(logits[i])).numpy(), model.config.lxmert_overlaps, 5, 12
        )
        height, width = record[f"picture_{i}"].shape[:2]
        scale = np.float32([width / size[1], height / size[0]] * 2)
        assert same(chosen.boxes * scale, split(record, "final_boxes", "final_counts")[i])
        assert same(chosen.scores, split(record, "final_scores", "final_counts")[i])
        assert (chosen.classes == split(record, "final_classes", "final_counts")[i]).all()
        features = split(record, "features")[i][chosen.rows]
        assert (features == split(record, "final_features", "final_counts")[i]).all()
        attributes = split(record, "attribute_logits")[i][chosen.rows, :-1].argmax(1)
        assert (attributes == split(record, "final_attributes", "final_counts")[i]).all()


@paddle.no_grad()
def test_all_stages_in_turn(recorded):
    """Pictures of two sizes in one batch: the smaller is padded, its proposals end at its own border."""
    model, record = recorded
    found = model(paddle.to_tensor(record["pixels"]), sizes_of(record))
    assert [len(boxes) for boxes in found.proposals] == record["counts"].tolist()
    assert same(paddle.concat(found.proposals), record["proposals"])
    for name in ("feature_map", "objectness", "anchor_deltas", "features", "class_logits", "box_deltas"):
        assert same(getattr(found, name), record[name]), name
    assert same(found.attribute_logits, record["attribute_logits"])


@paddle.no_grad()
def test_a_picture_without_proposals_has_no_regions(recorded):
    model, record = recorded
    found = model(paddle.to_tensor(record["pixels"][:1]), [(0, 0)])  # every box is clipped to nothing
    assert found.proposals[0].shape == [0, 4] and found.features.shape == [0, model.config.feature_size]
    probs = F.softmax(found.class_logits, -1).numpy()
    chosen = choose(found.proposals[0].numpy(), probs, 10, 100, 0.2)
    assert len(chosen.rows) == len(chosen.boxes) == len(chosen.classes) == 0
    boxes = model.class_boxes(found.proposals[0], found.box_deltas, (0, 0))
    assert len(choose_lxmert(boxes, probs, (0.3,), 10, 100).rows) == 0


# ---- choice of boxes


@pytest.mark.parametrize("kind", KINDS)
def test_lxmerts_choice(kind):
    given = {name: CHOICES[f"{kind}_{name}"] for name in ("class_boxes", "probs", "rows", "boxes", "classes", "scores")}
    boxes = paddle.to_tensor(given["class_boxes"])
    boxes = paddle.stack([boxes[..., i].clip(0, (100, 80)[i % 2]) for i in range(4)], axis=-1)
    chosen = choose_lxmert(boxes, given["probs"], (0.3, 0.5, 0.7), 10, 20)
    for name in ("rows", "boxes", "classes", "scores"):
        assert (getattr(chosen, name) == given[name]).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_original_choice(kind):
    """The loop of generate_tsv.py over the boxes that torchvision keeps of each class."""
    proposals, probs, kept = (CHOICES[f"{kind}_{name}"] for name in ("proposals", "probs", "kept"))
    best = np.zeros(len(probs), np.float32)
    for c in range(probs.shape[1] - 1):
        best[kept[:, c]] = np.maximum(best[kept[:, c]], probs[kept[:, c], c])
    chosen = choose(proposals, probs, 10, 20, 0.2)
    count = int(np.clip((best >= 0.2).sum(), 10, 20))
    assert len(chosen.rows) == count and len(set(chosen.rows.tolist())) == count
    assert (chosen.scores == np.sort(best)[::-1][:count]).all() and (chosen.scores == best[chosen.rows]).all()
    assert (chosen.boxes == proposals[chosen.rows]).all()
    assert (probs[chosen.rows, chosen.classes] == chosen.scores).all() and kept[chosen.rows, chosen.classes].all()


def test_the_recorded_kinds_are_what_they_are_called():
    """Below, within and above the bounds of 10 to 20 boxes, equal scores, and more than one overlap tried."""
    best = {k: (CHOICES[f"{k}_kept"] * CHOICES[f"{k}_probs"][:, :-1]).max(1) for k in KINDS}
    above = {k: int((scores >= 0.2).sum()) for k, scores in best.items()}
    assert above["few"] < above["crowd"] < 10 < above["ties"] <= 20 < above["many"]
    assert len(set(best["ties"].tolist())) < len(best["ties"]) - 5
    assert {float(CHOICES[f"{k}_overlap"]) for k in KINDS} == {0.3, 0.5}


def test_where_lxmerts_choice_fails_ours_gives_what_there_is():
    boxes = np.tile(np.float32([[[0, 0, 10, 10]]]), (6, 2, 1))
    probs = np.tile(np.float32([[0.5, 0.3, 0.2]]), (6, 1))
    chosen = choose_lxmert(paddle.to_tensor(boxes), probs, (0.3, 0.5), 5, 12)
    assert chosen.rows.tolist() == [0] and chosen.scores.tolist() == [0.5]


# ---- sizes


def test_the_published_size():
    config = FasterRCNNConfig()
    shapes = shapes_of(skeleton("bottom-up-attention", config, ()))
    assert config.feature_size == 2048 and shapes["classify.weight"] == (2048, 1601)
    assert shapes["locate.weight"] == (2048, 6400) and shapes["attribute_outer.weight"] == (512, 401)
    assert shapes["rpn.cell_anchors"] == (12, 4) and "res4.22.expand.conv.weight" in shapes
    assert SYSTEMS["bottom-up-attention"].model is FasterRCNN


def test_wrong_sizes_and_heads_are_refused():
    with pytest.raises(ValueError, match="anchor_sizes"):
        FasterRCNNConfig(anchor_sizes=())
    with pytest.raises(ValueError, match="above 0"):
        FasterRCNNConfig(pixel_std=(1, 0, 1))
    with pytest.raises(ConfigError, match="has no heads, got pool"):
        FasterRCNN(FasterRCNNConfig(depth=50, width=1), ["pool"])
