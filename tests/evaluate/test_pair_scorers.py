"""What retrieval asks of the three systems, against each one's own forward pass over whole pairs."""

import numpy as np
import paddle
import pytest

from unimo.errors import ConfigError
from unimo.evaluate.pair_scorers import SCORERS, encoded_by_length, pair_scorer, pair_scores
from unimo.evaluate.scoring import score_matrix
from unimo.models.faster_rcnn import FasterRCNNConfig
from unimo.models.oner import Oner, OnerConfig
from unimo.models.streams import Pixels, Regions, Text
from unimo.models.systems import SYSTEMS, skeleton
from unimo.models.unimo import Unimo, UnimoConfig
from unimo.models.unimo2 import CONTRAST_WEIGHT, Unimo2, Unimo2Config
from unimo.readers.tensors import as_text

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 30}
GROUNDED = {"text_num_hidden_layers": 1, "text_num_attention_heads": 2, "vit_num_hidden_layers": 1}
GROUNDED |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "text_vocab_size": 30}
GROUNDED |= {"vit_num_attention_heads": 2, "image_size": 32, "resolution": 8, "num_codebook": 12, "topk_value": 4}


def make(system: str):
    paddle.seed(1)
    if system == "unimo":
        model = Unimo(UnimoConfig(**SMALL, image_embedding_size=6), ["pool", "match"])
    elif system == "unimo-2":
        model = Unimo2(Unimo2Config(**GROUNDED), ["pool", "match"])
    else:
        model = Oner(OnerConfig(**SMALL, image_size=32, resolution=8, projection_size=8))
    model.eval()
    return model


def text(rows: int, length: int = 5) -> Text:
    ids = paddle.randint(4, 30, [rows, length])
    return Text(ids, paddle.arange(2, length + 2).expand([rows, length]), paddle.ones([rows, length]))


def arrays(words: Text) -> dict[str, np.ndarray]:
    """As a reader gives them."""
    return {name: getattr(words, name).numpy() for name in ("ids", "positions", "mask")}


def pictures(system: str, rows: int) -> Regions | Pixels:
    if system == "unimo":
        return Regions(paddle.randn([rows, 4, 6]), paddle.rand([rows, 4, 5]), paddle.ones([rows, 4]))
    return Pixels(paddle.randn([rows, 3, 32, 32]))


def one(stream, row: int):
    return type(stream)(*(None if v is None else v[row : row + 1] for v in vars(stream).values()))


def by_whole_pass(system: str, model, words: Text, picture) -> float:
    """The score of one pair, without any part of the scorer."""
    if system == "unimo":
        return model.match_score(model(words, picture)).item()
    if system == "unimo-2":
        encoded = model(text=words, pixels=picture)
        return (model.match_logits(encoded)[:, 1:] + CONTRAST_WEIGHT * model.contrast_score(encoded)).item()
    sides = [model.project(state.cls) for state in (model(text=words), model(pixels=picture))]
    return (sides[0] * sides[1]).sum().item()


def test_every_system_that_reads_text_scores_pairs():
    assert set(SCORERS) == {name for name, system in SYSTEMS.items() if system.positions}


@pytest.mark.parametrize("system", SCORERS)
def test_scores_are_those_of_the_whole_pass(system):
    model, words, images = make(system), text(3), pictures(system, 2)
    rows, columns = [0, 2, 1, 1], [1, 0, 0, 1]
    scores = pair_scores(pair_scorer(model), arrays(words), images, rows, columns).numpy()
    for score, row, column in zip(scores, rows, columns):
        assert score == pytest.approx(by_whole_pass(system, model, one(words, row), one(images, column)), abs=1e-5)


@pytest.mark.parametrize("system", SCORERS)
def test_the_matrix_is_every_pair(system):
    """Captions of several lengths, gone through once, from generators."""
    model, images = make(system), pictures(system, 3)
    captions = [one(text(1, length), 0) for length in (4, 6, 4)]
    done: list[int] = []
    scores = score_matrix(
        model, iter(captions), (one(images, i) for i in range(3)), batch_positions=60, progress=done.append
    )
    wanted = [[by_whole_pass(system, model, c, one(images, i)) for i in range(3)] for c in captions]
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    assert sum(done) == 9


@pytest.mark.parametrize("system", SCORERS)
def test_scores_carry_gradients_to_both_sides(system):
    model = make(system)
    model.train()
    pair_scores(pair_scorer(model), arrays(text(2)), pictures(system, 2), [0, 1], [1, 0]).sum().backward()
    touched = {n for n, p in model.named_parameters() if p.grad is not None and float(p.grad.abs().sum()) > 0}
    sides = {
        "unimo": ["word_embedding.weight", "image_embedding.weight", "match.affine.weight"],
        "unimo-2": ["text.word_embedding.weight", "vit.layers.0.attention.qkv.weight", "match.affine.weight"],
        "oner": ["tower.word_embedding.weight", "tower.position", "projection.weight"],
    }[system]
    assert set(sides) <= touched


def test_a_model_that_scores_no_pairs_is_refused_by_what_it_lacks():
    with pytest.raises(ConfigError, match="no head pool and no head match, by which a unimo scores"):
        pair_scorer(Unimo(UnimoConfig(**SMALL), ["lm"]))
    detector = skeleton("bottom-up-attention", FasterRCNNConfig(), ())
    with pytest.raises(ConfigError, match="a model of bottom-up-attention scores no pairs; expected one of unimo, "):
        pair_scorer(detector)


def test_texts_of_unlike_length_are_encoded_as_in_one_call():
    """Values in their order, and gradients."""
    paddle.seed(1)
    model = Unimo(UnimoConfig(**SMALL, image_embedding_size=6, match_on="alone"), ["pool", "match"])
    model.eval()
    mask = (np.arange(9) < np.array([3, 9, 2, 7, 5, 9])[:, None]).astype(np.float32)
    ids = np.random.default_rng(0).integers(4, 30, mask.shape) * mask.astype(np.int64)
    words = {"ids": ids, "positions": np.tile(np.arange(9), [6, 1]), "mask": mask}
    encode = pair_scorer(model).encode_texts
    found = []
    for (vectors,) in (encoded_by_length(encode, words), encode(as_text(words))):
        (vectors**2).sum().backward()
        found.append((vectors.numpy(), model.word_embedding.weight.grad.numpy().copy()))
        model.clear_gradients()
    for ours, plain in zip(*found):
        np.testing.assert_allclose(ours, plain, atol=1e-5 * np.abs(plain).max())
