"""The shortlist: whole it changes nothing, what is outside ranks below, ties are not decided by an order."""

import numpy as np
import paddle
import pytest
from unpadded import FEATURES, WORDS, caption, picture

from unimo.engine.distributed import World
from unimo.errors import ConfigError
from unimo.evaluate.pair_scorers import pair_scorer
from unimo.evaluate.retrieval import recall_samples
from unimo.evaluate.scoring import score_matrix
from unimo.evaluate.shortlist import Shortlist, alone_scores
from unimo.models.oner import Oner, OnerConfig
from unimo.models.unimo import Unimo, UnimoConfig

CONFIG = UnimoConfig(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=WORDS, image_embedding_size=FEATURES
)


def test_single_streams_are_matched_as_in_pre_training():
    paddle.seed(3)
    model = Unimo(CONFIG, ["pool", "match"])
    captions, images = [caption(n) for n in (3, 5, 4)], [picture(n) for n in (2, 6)]
    model.train()
    alone = alone_scores(model, captions, images, World())
    assert model.training
    model.eval()
    texts, pictures = ([model(text) for text in captions], [model(regions=image) for image in images])
    wanted = [[model.match(model.pooled_text(t), model.pooled_image(p)).item() for p in pictures] for t in texts]
    np.testing.assert_allclose(alone + model.match.affine.bias.item(), wanted, atol=1e-5)


def test_a_model_that_scores_all_pairs_so_is_refused():
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 30}
    model = Oner(OnerConfig(**small, image_size=32, resolution=8, projection_size=8))
    assert not pair_scorer(model).joint
    with pytest.raises(ConfigError, match="a model of oner scores all pairs by streams encoded alone"):
        alone_scores(model, [], [], World())


def test_each_caption_and_each_picture_keeps_its_best():
    alone = np.random.default_rng(0).standard_normal([12, 4]).astype(np.float32)
    shortlist = Shortlist.of(alone, 1)
    assert shortlist.kept == (1, 3)
    best_pictures, best_captions = alone.argmax(axis=1), np.argsort(-alone, axis=0)[:3]
    wanted = np.zeros([12, 4], bool)
    wanted[np.arange(12), best_pictures] = wanted[best_captions, np.arange(4)] = True
    assert (shortlist.chosen == wanted).all() and 12 <= wanted.sum() < 25


def test_the_whole_shortlist_is_the_full_matrix():
    paddle.seed(4)
    model = Unimo(CONFIG, ["pool", "match"])
    captions, images = [caption(n) for n in (3, 5, 4, 3)], [picture(n) for n in (2, 6)]
    for pictures in (2, 9):
        shortlist = Shortlist.of(alone_scores(model, captions, images, World()), pictures)
        scores = score_matrix(model, captions, images, wanted=shortlist.chosen)
        assert (shortlist.complete(scores) == score_matrix(model, captions, images)).all()
        facts = shortlist.facts(np.array([0, 0, 1, 1]))
        assert (facts["pairs_scored"], facts["image_recall"], facts["text_recall"]) == (100, 100, 100)


def test_what_is_outside_ranks_below_by_single_streams():
    rng = np.random.default_rng(1)
    alone, scores = rng.standard_normal([2, 20, 10]).astype(np.float32)
    shortlist = Shortlist.of(alone, 2)
    complete = shortlist.complete(np.where(shortlist.chosen, scores, np.nan))
    assert np.isfinite(complete).all() and (complete[shortlist.chosen] == scores[shortlist.chosen]).all()
    outside = complete[~shortlist.chosen]
    assert outside.max() < scores[shortlist.chosen].min()
    assert (np.argsort(outside) == np.argsort(alone[~shortlist.chosen])).all()
    rows = np.repeat(np.arange(10), 2)
    found = shortlist.facts(rows)
    assert 0 < found["image_recall"] < 100 and 0 < found["pairs_scored"] < 60
    own = np.arange(20), rows
    assert found["image_recall"] == pytest.approx(100 * shortlist.chosen[own].mean())
    assert found["text_recall"] == pytest.approx(100 * shortlist.chosen[own].reshape(10, 2).any(axis=1).mean())


def test_only_wanted_pairs_are_scored():
    paddle.seed(5)
    model, done = Unimo(CONFIG, ["pool", "match"]), []
    captions, images = [caption(n) for n in (3, 5, 4)], [picture(n) for n in (2, 6)]
    wanted = np.array([[True, False], [False, False], [True, True]])
    scores = score_matrix(model, captions, images, progress=done.append, wanted=wanted)
    assert sum(done) == 3 and (np.isnan(scores) == ~wanted).all()
    assert (scores[wanted] == score_matrix(model, captions, images)[wanted]).all()


def test_a_scorer_that_says_the_same_for_all_makes_no_hits():
    """All tie with the best, so all are scored; where only the joint scores tie, recalls are those of chance inside."""
    rows = np.arange(30)
    flat = Shortlist.of(np.zeros([30, 30], np.float32), 3)
    assert flat.chosen.all()
    samples = recall_samples(flat.complete(np.zeros([30, 30], np.float32)), rows)
    assert samples["image_recall@1"].ratio == pytest.approx(1 / 30)
    missed = Shortlist.of(np.where(np.eye(30, dtype=bool), -1, np.random.default_rng(2).random([30, 30])), 3)
    assert not missed.chosen.diagonal().any()
    samples = recall_samples(missed.complete(np.where(missed.chosen, 0.0, np.nan)), rows)
    assert samples["image_recall@10"].ratio == 0, "what is outside cannot tie with what is inside"


def test_a_diverged_model_is_not_hidden():
    alone = np.random.default_rng(3).standard_normal([4, 4]).astype(np.float32)
    shortlist = Shortlist.of(alone, 1)
    scores = np.zeros([4, 4], np.float32)
    scores[np.nonzero(shortlist.chosen)[0][0], np.nonzero(shortlist.chosen)[1][0]] = np.nan
    assert np.isnan(shortlist.complete(scores)[~shortlist.chosen]).all()
