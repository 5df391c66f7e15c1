"""The stage: pictures show what the lists say, and a run is a function of its arguments."""

import json
import tarfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from data_prep.scenes.build import ANSWERS, FILES, build
from data_prep.scenes.paint import SHADES, painted
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import read_images, read_pairs, read_rewrites, read_texts
from unimo.readers.examples import read_examples
from unimo.readers.picture_shards import PictureShards
from unimo.readers.targets import Targets, read_labels

SHAPES = "ball box disc flag kite lamp pole ring sail tube vase wheel".split()


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory) -> Path:
    """Twelve kinds of two grey cut-outs each: ellipses and boxes of other proportions."""
    folder = tmp_path_factory.mktemp("cutouts")
    for k, kind in enumerate(SHAPES):
        (folder / kind).mkdir()
        for j in range(2):
            picture = Image.new("RGBA", (100, 60 + 10 * k), (0, 0, 0, 0))
            draw = (ImageDraw.Draw(picture).ellipse, ImageDraw.Draw(picture).rectangle)[j]
            draw((5, 5, 94, 50 + 10 * k), fill=(150, 150, 150, 255), outline=(90, 90, 90, 255), width=6)
            picture.save(folder / kind / f"{j}.png")
    return folder


@pytest.fixture(scope="module")
def made(cutouts, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made")
    said = build(out, train=900, dev=10, test=300, plain=True, cutouts=cutouts)
    assert "900 train pictures, 10 dev pictures, 300 test pictures" in said
    return out


def records(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_what_readers_open_is_there(made):
    pairs = read_pairs(made / "pairs.jsonl", pictures=True)
    assert Counter(p.split for p in pairs) == {"train": 900, "dev": 10, "test": 300}
    rewrites = read_rewrites(made / "rewrites.jsonl", pairs)
    assert len(rewrites) == sum(len(p.captions) for p in pairs)
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["settings"]["synthetic"] is True and set(manifest["sha256"]) == {*FILES, ANSWERS}
    assert {p.source for p in pairs} == {"scenes (synthetic)"}


def test_unpaired_pictures_and_texts_are_of_scenes_of_their_own(cutouts, made, tmp_path):
    said = build(tmp_path, train=900, dev=10, test=300, unpaired=20, plain=True, cutouts=cutouts, shards=True)
    assert "20 pictures without captions" in said and "1,230 pictures" in said
    assert (tmp_path / "pairs.jsonl").read_bytes() == (made / "pairs.jsonl").read_bytes()
    pictures, texts = read_images(tmp_path / "images.jsonl"), read_texts(tmp_path / "texts.jsonl")
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    assert len(pictures) == 20 and not {p.image_id for p in pictures} & {p.image_id for p in pairs}
    spoken_of = {text.id.split("#")[0] for text in texts}
    assert len(spoken_of) == 20 and not spoken_of & {p.image_id for p in [*pictures, *pairs]}
    with tarfile.open(next((tmp_path / "shards").glob("*.tar"))) as tar:
        said_of = [json.load(tar.extractfile(member)) for member in tar if member.name.endswith(".json")]
    known = {one["id"]: one["captions"] for one in said_of}
    assert all(known[picture.image_id] == [] for picture in pictures) and all(known[p.image_id] for p in pairs)


def test_the_same_arguments_make_the_same_bytes_and_another_seed_others(cutouts, made, tmp_path):
    for name, seed in (("again", 0), ("other", 1)):
        build(tmp_path / name, train=20, dev=10, test=10, plain=True, cutouts=cutouts, seed=seed)
    first = [p for p in read_pairs(tmp_path / "again" / "pairs.jsonl") if p.split == "train"]
    assert first == read_pairs(made / "pairs.jsonl", "train")[:20]
    for pair in first:
        assert (tmp_path / "again" / pair.image).read_bytes() == (made / pair.image).read_bytes()
    assert read_pairs(tmp_path / "other" / "pairs.jsonl", "train") != first


def test_shards_hold_the_same_pictures(cutouts, made, tmp_path):
    arguments = {"train": 20, "dev": 10, "test": 10, "plain": True, "cutouts": cutouts, "shards": True}
    for _ in range(2):  # a run that was stopped begins anew
        build(tmp_path / "packed", **arguments)
        (tmp_path / "packed" / "manifest.json").unlink()
    pairs, shards = read_pairs(tmp_path / "packed" / "pairs.jsonl"), PictureShards(tmp_path / "packed" / "shards")
    assert not (tmp_path / "packed" / "images").exists() and shards.ids == [pair.image_id for pair in pairs]
    for pair in pairs[:20]:
        assert shards.read(pair.image_id) == (made / pair.image).read_bytes()


def test_things_are_where_the_boxes_are_in_the_colours_that_are_said(made):
    """Outside of all boxes the ground is plain; the middle of a lone coloured thing is nearest to its colour."""
    pairs, lone = {p.image_id: p for p in read_pairs(made / "pairs.jsonl")}, 0
    for scene in records(made, "scenes.jsonl")[:250]:
        picture = cv2.imread(str(made / pairs[scene["image_id"]].image))[..., ::-1].astype(int)
        outside = np.ones(picture.shape[:2], bool)
        for thing in scene["things"]:
            left, top, right, bottom = (round(edge) for edge in thing["box"])
            outside[max(0, top - 16) : bottom + 16, max(0, left - 16) : right + 16] = False  # JPEG's blocks
            if len(scene["things"]) == 1 and thing["colour"] and thing["size"] == "large":
                middle = picture[(top + bottom) // 2 - 3 : (top + bottom) // 2 + 3, (left + right) // 2 - 3 :][:, :6]
                distance = {name: np.abs(middle.mean((0, 1)) - shade).sum() for name, shade in SHADES.items()}
                assert min(distance, key=distance.__getitem__) == thing["colour"]
                lone += 1
        assert np.ptp(picture[outside], axis=0).max() < 8
    assert lone > 5


def test_only_test_has_what_is_held_out(made):
    novel = Counter((scene["split"], scene["novel"]) for scene in records(made, "scenes.jsonl"))
    assert novel == {("train", False): 900, ("dev", False): 10, ("test", False): 150, ("test", True): 150}
    combinations: dict[str, set] = {"train": set(), "new": set()}
    for scene in records(made, "scenes.jsonl"):
        if scene["split"] == "train" or scene["novel"]:
            kinds = [(t["kind"], t["colour"]) for t in scene["things"] if t["colour"]]
            related = [(scene["things"][a]["kind"], r, scene["things"][b]["kind"]) for a, r, b in scene["relations"]]
            split = "train" if scene["split"] == "train" else "new"
            combinations[split] |= {*kinds, *related}
            if split == "new":
                assert {*kinds, *related} - combinations["train"]


def test_words_and_colours_alone_do_not_answer_about_relations(made):
    """Bag of words of the question and colour histogram of the picture, by logistic regression; chance is a sixth."""
    pairs = {p.image_id: p for p in read_pairs(made / "pairs.jsonl")}
    asked = [q for q in records(made, "questions.jsonl") if q["kind"] == "relation"]
    words = CountVectorizer(ngram_range=(1, 1)).fit_transform([q["source"][0] for q in asked]).toarray()
    histograms = []
    for question in asked:
        picture = cv2.imread(str(made / pairs[question["image_id"]].image))
        histogram = cv2.calcHist([picture], [0, 1, 2], None, [4, 4, 4], [0, 256] * 3).ravel()
        histograms.append(np.sqrt(histogram / histogram.sum()))
    inputs = np.hstack([words, histograms])
    train = np.array([q["split"] == "train" for q in asked])
    answers = np.array([q["target"] for q in asked])
    assert train.sum() > 300 and (~train).sum() > 100 and len(set(answers)) == 6
    found = LogisticRegression(max_iter=2000).fit(inputs[train], answers[train])
    assert found.score(inputs[~train], answers[~train]) < 0.3


def test_questions_are_examples_of_the_answers_listed(made):
    labels = read_labels([str(made / "answers.txt")], "class")
    assert {"red", "two", "yes", "above"} <= set(labels)
    for split in ("train", "dev", "test"):
        found = read_examples(made / "questions.jsonl", split)
        assert len(Targets(found, "class", labels)) == len(found) > 0
        assert all(example.source[0].endswith("?") and example.image_id.startswith(split) for example in found)


@pytest.mark.parametrize("colour", SHADES)
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_black_and_white_take_any_colour(colour, grey):
    cutout = np.full([8, 8, 4], (grey, grey, grey, 255), np.uint8)
    cutout[:2, :, :3] = 100
    assert np.array_equal(painted(cutout, colour)[5, 5], (*SHADES[colour], 255))
    assert not np.array_equal(painted(cutout, colour)[0, 0], painted(cutout, colour)[5, 5]), "its drawing is kept"


def test_wrong_input_is_one_clear_error(cutouts, tmp_path, stage):
    with pytest.raises(ConfigError, match="at least 1 picture in each split"):
        build(tmp_path / "out", train=0, plain=True, cutouts=cutouts)
    with pytest.raises(DataError, match="cut-outs of 0 kinds; expected 5 or more"):
        build(tmp_path / "out", plain=True, cutouts=tmp_path)
    for kind in SHAPES[:5]:
        (tmp_path / "own" / kind).mkdir(parents=True)
        Image.new("RGB", (20, 20), "red").save(tmp_path / "own" / kind / "opaque.png")
    done = stage("scenes", tmp_path / "out", "--plain", "--cutouts", tmp_path / "own")
    assert done.returncode == 2 and "no transparent ground" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "own" / "ball" / "opaque.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="is no picture"):
        build(tmp_path / "out", plain=True, cutouts=tmp_path / "own")


def test_a_folder_with_another_set_is_left_alone(cutouts, made):
    with pytest.raises(DataError, match="holds a set that was made otherwise"):
        build(made, train=5, dev=5, test=5, plain=True, cutouts=cutouts)
    assert len(read_pairs(made / "pairs.jsonl")) == 1210


@pytest.mark.heavy
def test_the_packages_have_all_cutouts(tmp_path):
    """215 MB through apt, unless cached."""
    build(tmp_path / "out", train=30, dev=5, test=10)
    assert len(read_pairs(tmp_path / "out" / "pairs.jsonl", pictures=True)) == 45
