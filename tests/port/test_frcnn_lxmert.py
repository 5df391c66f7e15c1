"""The detector of Hugging Face's LXMERT example: tables both ways, what is refused, and equality at full size.

LXMERT_FRCNN=FOLDER python -m pytest -m heavy -s tests/port/test_frcnn_lxmert.py    # FOLDER: see peer_frcnn.py
"""

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import paddle
import pytest
import yaml

from unimo import zoo
from unimo.errors import CheckpointError, ConfigError, UnimoError
from unimo.models.faster_rcnn import FasterRCNN, FasterRCNNConfig
from unimo.port.convert import convert
from unimo.port.files.tensor_files import open_tensors
from unimo.port.formats import detect
from unimo.port.frcnn_lxmert import read, write
from unimo.port.interchange import Options
from unimo.port.names.frcnn_lxmert_names import COUNTERS, FIXED, KEYS, name_table

FIXTURES = Path(__file__).parents[1] / "fixtures" / "detector"
LIBRARIES = Path(__file__).parents[1] / "parity" / "libraries"


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of the recorded detector that a test may spoil."""
    return Path(shutil.copytree(FIXTURES / "published", tmp_path / "source"))


def change_config(folder: Path, **changes) -> None:
    values = yaml.safe_load((folder / "config.yaml").read_text())
    for path, value in changes.items():
        *section, key = path.split("__")
        target = values[section[0]] if section else values
        if value is None:
            del target[key]
        else:
            target[key] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def change_weights(folder: Path, changes: dict) -> None:
    """Rewrite the weights as safetensors, which is looked for first."""
    from safetensors.numpy import save_file

    arrays = {name: tensor.read() for name, tensor in open_tensors(folder / "pytorch_model.bin").items()}
    arrays |= {name: array for name, array in changes.items() if array is not None}
    kept = {name: np.ascontiguousarray(a) for name, a in arrays.items() if changes.get(name, 0) is not None}
    save_file(kept, folder / "model.safetensors")


def refusal(folder: Path, error: type[Exception] = CheckpointError) -> str:
    with pytest.raises(error) as caught:
        read(folder, Options())
    return str(caught.value)


# ---- tables


@pytest.mark.parametrize("name", ["published", "other"])
def test_every_tensor_of_theirs_has_one_place(name):
    stored = open_tensors(FIXTURES / name)
    table = name_table(read(FIXTURES / name, Options()).config)
    theirs = [their for (their,) in table.values()]
    assert len(set(theirs)) == len(theirs)
    assert set(theirs) == {n for n in stored if not n.endswith(COUNTERS)}


@pytest.mark.parametrize("name", ["published", "other"])
def test_there_and_back_is_bit_equal(name, tmp_path):
    first = read(FIXTURES / name, Options())
    write(tmp_path / "again", first)
    again = read(tmp_path / "again", Options())
    assert again.config == first.config and again.tensors.keys() == first.tensors.keys()
    stored, written = open_tensors(FIXTURES / name), open_tensors(tmp_path / "again")
    for (theirs,) in name_table(first.config).values():
        assert np.array_equal(stored[theirs].read().astype(np.float32), written[theirs].read())


def test_config_keys_of_the_source(source):
    """Each key changes the field it should; files in capitals are read too."""
    config = read(source, Options()).config
    assert (config.width, config.depth, config.pooled_size, config.num_classes) == (4, 50, 6, 20)
    assert config.anchor_sizes == (16, 48, 96) and config.lxmert_overlaps == (0.3,) and config.blue_first
    other = read(FIXTURES / "other", Options()).config
    assert (other.stride_in_1x1, other.caffe_maxpool, other.halve_stage5) == (False, False, True)
    assert (other.anchor_offset, other.rpn_smallest, other.lxmert_overlaps) == (0.5, 6, (0.5,))
    values = yaml.safe_load((source / "config.yaml").read_text())
    capitals = {
        k.upper(): {a.upper(): b for a, b in v.items()} if isinstance(v, dict) else v for k, v in values.items()
    }
    (source / "config.yaml").write_text(yaml.safe_dump(capitals))
    assert read(source, Options()).config == config
    change_config(source, INPUT__FORMAT="BGR")
    red_first = read(source, Options())
    assert not red_first.config.blue_first and "blue_first: true" in red_first.notes[0]


def test_without_a_config_the_published_constants_are_taken_and_named(source, tmp_path):
    (source / "config.yaml").unlink()
    assert "backbone.res4.22.conv3.weight: missing" in refusal(source)
    change_config(_with_config(source), rpn__nms_thresh=None)
    (note, _) = read(source, Options()).notes
    assert note == "not in config.yaml, the published detector's were taken: RPN.NMS_THRESH"
    sizes = tmp_path / "sizes.json"
    sizes.write_text(json.dumps(read(source, Options()).config.model_dump()))
    (source / "config.yaml").unlink()
    assert read(source, Options(config=sizes)).config.width == 4


def _with_config(folder: Path) -> Path:
    shutil.copy(FIXTURES / "published" / "config.yaml", folder)
    return folder


def test_a_model_folder_and_the_zoo(source, tmp_path):
    assert detect(source) == "frcnn-lxmert" == detect(source / "pytorch_model.bin")
    lines = convert(source, tmp_path / "butd")
    assert any("53 counters" in line for line in lines)
    model = zoo.from_pretrained(tmp_path / "butd")
    assert isinstance(model, FasterRCNN) and not model.training
    zoo.save_pretrained(model, tmp_path / "copy")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("butd", "copy")]
    assert weights[0] == weights[1]
    pixels = paddle.ones([1, 3, 64, 64])
    with pytest.warns(UserWarning, match="ported on the fly"):
        direct = zoo.from_pretrained(source)
    with paddle.no_grad():
        assert (direct(pixels, [(64, 64)]).features == model(pixels, [(64, 64)]).features).all()


# ---- refusals


def test_all_that_does_not_fit_is_listed_at_once(source):
    change_weights(
        source,
        {
            "backbone.res2.0.conv1.weight": None,
            "roi_heads.box_predictor.cls_score.weight": np.zeros((5, 128), np.float32),
            "roi_heads.mask_head.weight": np.zeros(3, np.float32),
            "proposal_generator.anchor_generator.cell_anchors.0": np.zeros((9, 4), np.int64),
        },
    )
    said = refusal(source)
    assert "4 problem(s)" in said
    assert "backbone.res2.0.conv1.weight: missing, expected [4, 8, 1, 1]" in said
    assert "roi_heads.box_predictor.cls_score.weight: shape [5, 128], expected [21, 128]" in said
    assert "roi_heads.mask_head.weight: unexpected" in said
    assert "cell_anchors.0: data type int64, expected a floating one" in said


def test_another_network_is_refused_key_by_key(source):
    change_config(source, resnets__norm="GN", resnets__res2_out_channels=32, roi_box_head__attr=False)
    change_config(source, anchor_generator__sizes=[[16], [32]], size_divisibility=32)
    said = refusal(source)
    for problem in (
        "RESNETS.NORM is 'GN', expected 'BN'",
        "RESNETS.RES2_OUT_CHANNELS is 32, expected 16",
        "ROI_BOX_HEAD.ATTR is False, expected True",
        "ANCHOR_GENERATOR.SIZES is [[16], [32]], expected a list of one list",
        "SIZE_DIVISIBILITY is 32, expected 0",
    ):
        assert problem in said
    _with_config(source)
    change_config(source, resnets__depth=34, rpn__nms_thresh="much")
    said = refusal(source, ConfigError)
    assert "2 problem(s)" in said and "depth" in said and "rpn_overlap" in said


@pytest.mark.parametrize("text", ["[1, 2]", "a: !!python/object/apply:os.system ['true']", "a: [", "\0", "x" * 2**21])
def test_a_hostile_config_is_one_clear_error(source, text):
    (source / "config.yaml").write_text(text)
    assert "config.yaml is not the detector's config" in refusal(source)


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_one_clear_error(source, share):
    weights = source / "pytorch_model.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    assert str(weights) in refusal(source)


def test_a_pickle_that_runs_code_is_refused(source, tmp_path):
    mark = tmp_path / "ran"
    weights = source / "pytorch_model.bin"
    with zipfile.ZipFile(weights) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (pickle,) = (name for name in entries if name.endswith("data.pkl"))
    entries[pickle] = b"cposix\nsystem\n(Vtouch " + str(mark).encode() + b"\ntR."
    with zipfile.ZipFile(weights, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert "system" in refusal(source) and not mark.exists()


def test_a_value_that_is_not_finite_is_refused(source, tmp_path):
    change_weights(source, {"roi_heads.box_predictor.cls_score.bias": np.full(21, np.nan, np.float32)})
    with pytest.raises(CheckpointError, match="classify.bias: 21 of 21 values are not finite"):
        convert(source, tmp_path / "butd")
    assert not (tmp_path / "butd").exists()


def test_options_and_formats_that_do_not_go_together(source, tmp_path):
    with pytest.raises(ConfigError, match="not unimo-2"):
        read(source, Options(system="unimo-2"))
    with pytest.raises(ConfigError, match="a detector reads no text"):
        convert(source, tmp_path / "butd", tokenizer=Path("model_files/dict"))
    for form in ("release", "release-combined", "paddlenlp", "roberta", "vit-hf"):
        with pytest.raises(UnimoError, match="bottom-up-attention"):
            convert(source, tmp_path / form, target_format=form)


def test_the_tables_cover_the_config():
    assert KEYS.keys() == FasterRCNNConfig.model_fields.keys()
    assert not set(KEYS.values()) & set(FIXED)


# ---- full size


@pytest.mark.heavy
@paddle.no_grad()
def test_the_published_size_beside_the_source(tmp_path):
    """Random weights, one picture of 600 x 800, each stage on the source's inputs; prints a table."""
    if "LXMERT_FRCNN" not in os.environ:
        pytest.skip(
            "set LXMERT_FRCNN to a folder with the source's modeling_frcnn.py, processing_image.py and utils.py"
        )
    sys.path.append(str(LIBRARIES))
    import paddle.nn.functional as F
    from environments import FRCNN, environment, run_program

    from data_prep.regions.butd import prepare
    from unimo.models.faster_rcnn import choose_lxmert

    run_program(environment(FRCNN), LIBRARIES / "peer_frcnn.py", os.environ["LXMERT_FRCNN"], tmp_path)
    convert(tmp_path / "theirs", tmp_path / "butd")
    model, record = zoo.from_pretrained(tmp_path / "butd"), np.load(tmp_path / "record.npz")
    theirs = {name: paddle.to_tensor(record[name]) for name in record.files}
    (size,) = (tuple(s) for s in record["sizes"].tolist())
    pixels, own_size = prepare(np.ascontiguousarray(record["picture"][:, :, ::-1]), model.config)
    objectness, deltas = model.rpn(theirs["feature_map"])
    classes, deltas_of_boxes, attributes = model.judge(theirs["features"])
    grid = record["feature_map"].shape[2:]
    proposals = model.rpn.propose(theirs["objectness"][0], theirs["anchor_deltas"][0], grid, size).numpy()
    ranks = [np.lexsort([*boxes.T, -record["proposal_scores"]]) for boxes in (proposals, record["proposals"])]
    class_boxes = model.class_boxes(theirs["proposals"], theirs["box_deltas"], size)
    probs = F.softmax(theirs["class_logits"], -1).numpy()
    chosen = choose_lxmert(class_boxes, probs, model.config.lxmert_overlaps, 36, 36)
    whole = model(pixels, [own_size])
    apart = np.abs(whole.proposals[0].numpy()[:, None] - record["proposals"]).max(-1)
    found, nearest = apart.min(0) <= 1e-4 * max(size), apart.argmin(0)  # equal scores but for rounding change places
    stages = {
        "picture as read": (pixels, record["pixels"]),
        "map of stage 4": (model.read(theirs["pixels"]), record["feature_map"]),
        "RPN objectness": (objectness, record["objectness"]),
        "RPN deltas": (deltas, record["anchor_deltas"]),
        "proposals on the same logits": (proposals[ranks[0]], record["proposals"][ranks[1]]),
        "pooled features on the same proposals": (
            model.pool(theirs["feature_map"], theirs["proposals"]),
            record["features"],
        ),
        "class logits on the same features": (classes, record["class_logits"]),
        "box deltas on the same features": (deltas_of_boxes, record["box_deltas"]),
        "attribute logits on the same features": (attributes, record["attribute_logits"]),
        "chosen boxes on the same logits": (chosen.boxes, record["final_boxes"]),
        "scores of the chosen": (chosen.scores, record["final_scores"]),
    }
    for name in ("features", "class_logits", "box_deltas", "attribute_logits"):
        what = f"picture to {name.replace('_', ' ')}, proposals found by both"
        stages[what] = (getattr(whole, name).numpy()[nearest[found]], record[name][found])
    assert own_size == size and (chosen.classes == record["final_classes"]).all()
    worst = {}
    for stage, (ours, reference) in stages.items():
        ours = np.asarray(ours)
        assert ours.shape == reference.shape, stage
        worst[stage] = np.abs(ours - reference).max() / np.abs(reference).max()
        print(f"| {stage} | {' x '.join(map(str, ours.shape))} | {worst[stage]:.1e} |")
    print(f"proposals found by both from the picture on: {found.sum()} of {len(found)}")
    assert max(worst.values()) <= 1e-4 and found.mean() > 0.95
