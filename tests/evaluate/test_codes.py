"""Codes of a dictionary: overlaps by hand, closeness as the choice sees it, and the files of a whole evaluation."""

import json
from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest
from click.testing import CliRunner

from unimo.cli import main
from unimo.config import ROOT
from unimo.engine.model_folder import write_model
from unimo.errors import ConfigError
from unimo.evaluate.codes import PATCHES, SHOWN, Chosen, CodeSettings, CodeUsage, Look, closeness, overlaps
from unimo.evaluate.results import measure
from unimo.models.unimo2 import Unimo2, Unimo2Config
from unimo.readers.annotations import write_jsonl
from unimo.readers.tokenizer import load_tokenizer
from unimo.report.code_pictures import code_rows, mapped_pairs
from unimo.report.run_folder import open_runs

SIZES = dict(
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    text_num_hidden_layers=1,
    text_num_attention_heads=2,
    vit_num_hidden_layers=1,
    vit_num_attention_heads=2,
    text_vocab_size=200,
    text_max_position_embeddings=34,
    image_size=32,
    resolution=8,
    num_codebook=24,
    topk_value=3,
    initializer_range=0.3,
    padding_votes=False,
)


def made(**changes) -> Unimo2:
    paddle.seed(5)
    model = Unimo2(Unimo2Config(**SIZES | changes), ["pool", "match"])
    if model.config.grounding_method != "none":
        model.dictionary.codes.set_value(paddle.randn([24, 16]))
        model.dictionary.temperature.set_value(paddle.to_tensor([2.0]))
    model.eval()
    return model


@pytest.fixture(scope="module")
def world(small_world, tmp_path_factory) -> Path:
    """Its pictures drawn anew, that patches differ: one bright square on a dark ground, in another place in each."""
    folder = tmp_path_factory.mktemp("codes")
    pairs = [json.loads(line) for line in (small_world / "pairs.jsonl").read_text().splitlines()]
    for number, pair in enumerate(pairs):
        picture = np.full((32, 32, 3), 20, np.uint8)
        row, column = number % 4, number // 4 % 4
        picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 40 + 6 * number, 255, 255 - 6 * number
        cv2.imwrite(str(folder / pair["image"]), picture)
    write_jsonl(folder / "pairs.jsonl", pairs)
    return folder


def settings(world: Path) -> CodeSettings:
    return CodeSettings(pairs=str(world / "pairs.jsonl"), max_tokens=12)


def test_overlaps_by_hand():
    sets = lambda *rows: Chosen(np.array([[k in row for k in range(6)] for row in rows]))  # noqa: E731
    pictures, captions = sets({0, 1}, {2, 3}, {0, 5}), sets({0, 1}, {1, 2}, {2, 4}, {4, 5})
    found = overlaps(captions, pictures, np.array([0, 0, 1, 2]))
    own, others = [1, 0.5, 0.5, 0.5], [0.5 / 2, 0.5 / 2, 0, 0]
    assert found["codes_shared_with_own"].ratio == pytest.approx(np.mean(own))
    assert found["codes_shared_with_others"].ratio == pytest.approx(np.mean(others))
    assert found["difference"].ratio == pytest.approx(np.mean(own) - np.mean(others))
    assert found["difference"].weights.tolist() == [2, 1, 1]
    same = overlaps(sets({1, 2}, {1, 2}, {1, 2}), sets({1, 4}, {1, 4}, {1, 4}), np.arange(3))
    assert same["difference"].ratio == 0 and measure(same["codes_shared_with_own"]).value == 50


@pytest.mark.parametrize("method", ["topk", "normal"])
def test_closeness_is_what_decides_the_choice(method):
    model = made(grounding_method=method)
    states = paddle.randn([1, 17, 16])
    grounding = model.choose(states, None)
    near = closeness(grounding, model.dictionary.codes)
    assert near.shape == (16, 24)
    if method == "normal":
        assert (near.argmax(1) == grounding.chosen[0].numpy()).all()
    else:
        votes = 1 / (1 + np.exp(-2.0 * near))
        assert set(np.argsort(-votes.sum(0))[:3]) == set(grounding.chosen[0].tolist())


def test_a_whole_evaluation_and_its_pictures(world, small_world, tmp_path):
    model = made()
    write_model(tmp_path / "model", model, load_tokenizer(small_world / "vocabulary"))
    call = ["evaluate", "codes", tmp_path / "model", "--pairs", world / "pairs.jsonl", "--max-tokens", 12]
    done = CliRunner().invoke(main, [str(part) for part in [*call, "--output", tmp_path / "run"]])
    assert done.exit_code == 0, done.output
    (run,) = open_runs([tmp_path / "run"])
    assert run.metrics.task == "codes" and run.metrics.metrics["difference"].low is not None
    gallery = CodeUsage(model.config, load_tokenizer(small_world / "vocabulary"), settings(world), "test").gallery
    look = Look(model, gallery, silent=True)
    with paddle.no_grad():
        one = gallery.captions.sequences[3]
        chosen = model.choose(None, model.encode_text(gallery.text(one))[0]).chosen[0].numpy()
    assert set(np.flatnonzero(look.captions.sets[3])) == set(chosen)

    codes = run.codes
    assert codes.grid == 4 and len(codes.codes) == SHOWN
    usage = look.pictures.shares + look.captions.shares
    assert [code.code for code in codes.codes] == np.argsort(-usage, kind="stable")[:SHOWN].tolist()
    first = codes.codes[0]
    assert first.pictures == pytest.approx(100 * look.pictures.shares[first.code])
    images = [near.image_id for near in first.patches]
    assert len(images) == len(set(images)) == min(PATCHES, len(gallery.pairs)), "each of another picture"
    near = closeness(look._choose(image=gallery.units.index(images[0])), model.dictionary.codes)[:, first.code]
    assert first.patches[0].patch == near.argmax()
    best = [
        closeness(look._choose(image=row), model.dictionary.codes)[:, first.code].max()
        for row in range(len(gallery.pairs))
    ]
    assert gallery.units[int(np.argmax(best))] == images[0]
    assert set(first.words) <= {word for text in gallery.captions.texts for word in text.split()}, "and no [SEP]"

    rows, pairs = code_rows(codes, run.path), mapped_pairs(codes, run.path)
    assert all(patch["picture"].startswith("data:image/jpeg") for row in rows for patch in row["patches"])
    assert pairs[0]["maps"] and all(0 <= heat <= 1 for one in pairs[0]["maps"] for _, heat in one["words"])
    assert pairs[0]["maps"][0]["words"][-1][0] == "[SEP]"


def test_models_without_codes_are_refused(world, small_world):
    tokenizer = load_tokenizer(small_world / "vocabulary")
    with pytest.raises(ConfigError, match="no dictionary"):
        CodeUsage(made(grounding_method="none").config, tokenizer, settings(world), "test")
    done = CliRunner().invoke(main, ["evaluate", "codes", "x", "--pairs", "missing.jsonl", "--output", "y"])
    assert done.exit_code == 2 and "missing.jsonl does not exist" in done.output
    assert not (ROOT / "y").exists()
