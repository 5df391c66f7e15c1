"""OneR: one tower for images and texts, its legal inputs, masked patches, and that every parameter is saved."""

from pathlib import Path

import numpy as np
import paddle
import pytest

from unimo.config import load
from unimo.errors import ConfigError
from unimo.models.oner import HEADS, Oner, OnerConfig
from unimo.models.systems import SYSTEMS
from unimo.models.unimo import Text
from unimo.models.unimo2 import Pixels
from unimo.models.vision import VisionTransformer

SIZES = sorted((Path(__file__).parents[2] / "model_configs" / "models").glob("oner_*.yaml"))
TINY = OnerConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=50,
    max_position_embeddings=20,
    image_size=32,
    resolution=8,
    projection_size=16,
    initializer_range=0.2,  # large enough for every position to matter
)


@pytest.fixture(scope="module")
def model() -> Oner:
    paddle.seed(5)
    model = Oner(TINY, HEADS)
    model.eval()
    return model


def pixels(batch: int = 2, side: int = 32, seed: int = 0) -> Pixels:
    values = np.random.default_rng(seed).uniform(-1, 1, [batch, 3, side, side])
    return Pixels(paddle.to_tensor(values, dtype="float32"))


def words(lengths: list[int], size: int) -> Text:
    """Random tokens, the same for every `size`; pads are id 1 at position 1."""
    ids, positions, mask = (np.full([len(lengths), size], value) for value in (1, 1, 0))
    for i, length in enumerate(lengths):
        ids[i, :length] = np.random.default_rng([7, i]).integers(2, TINY.vocab_size, length)
        positions[i, :length] = np.arange(2, 2 + length)
        mask[i, :length] = 1
    return Text(*map(paddle.to_tensor, (ids, positions, mask)))


def difference(a: paddle.Tensor, b: paddle.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


def test_an_image_goes_through_the_vision_transformer_as_it_is(model):
    plain = VisionTransformer(32, 2, 4, patch_size=8, image_size=32, epsilon=TINY.layer_norm_eps)
    missing, _ = plain.set_state_dict(model.tower.state_dict())
    assert not missing
    plain.eval()
    expected, encoded = plain(pixels().images), model(pixels=pixels())
    assert difference(paddle.concat([encoded.cls.unsqueeze(1), encoded.image], axis=1), expected) < 1e-6
    assert encoded.text is None


def test_each_input_has_an_embedding_of_length_one(model):
    text, image = words([5, 3], 6), pixels()
    encoded = {"image": model(pixels=image), "text": model(text), "both": model(text, image)}
    shapes = {
        n: (e.image is not None and e.image.shape[1], e.text is not None and e.text.shape[1])
        for n, e in encoded.items()
    }
    assert shapes == {"image": (16, False), "text": (False, 6), "both": (16, 6)}
    vectors = [model.project(e.cls) for e in encoded.values()] + [
        model.project(model.mean_state(e)) for e in encoded.values()
    ]
    vectors.append(model.mixed(encoded["image"].cls, encoded["text"].cls))
    for i, vector in enumerate(vectors):
        assert vector.shape == [2, 16] and np.allclose(vector.norm(axis=-1), 1, atol=1e-6)
        assert all(difference(vector, other) > 1e-3 for other in vectors[:i])


def test_padding_changes_nothing(model):
    for image in (None, pixels()):
        short, long = model(words([5, 3], 5), image), model(words([5, 3], 9), image)
        assert difference(short.cls, long.cls) < 1e-5
        assert difference(model.mean_state(short), model.mean_state(long)) < 1e-5


def test_the_text_changes_what_the_patches_see_and_a_mask_forbids_it(model):
    text, image = words([4, 4], 4), pixels()
    alone, both = model(pixels=image), model(text, image)
    assert difference(alone.image, both.image) > 1e-2
    visible = paddle.ones([2, 21, 21])
    visible[:, :17, 17:] = 0
    assert difference(alone.image, model(text, image, attention_mask=visible).image) < 1e-5


def test_a_masked_patch_does_not_enter(model):
    masked = paddle.zeros([2, 16])
    masked[:, 5] = 1
    image, other = pixels(), pixels()
    other.images[:, :, 8:16, 8:16] = 0  # patch 5 of the 4 x 4 grid
    assert difference(model(pixels=image).image, model(pixels=other).image) > 1e-2
    kept, changed = (model(pixels=p, masked_patches=masked) for p in (image, other))
    assert difference(kept.image, changed.image) < 1e-6
    assert difference(kept.image, model(pixels=image).image) > 1e-2
    assert model.mim_pixels(kept.image[:, 5]).shape == [2, 3 * 8 * 8]


def test_images_of_another_size(model):
    assert model(pixels=pixels(side=48)).image.shape == [2, 36, 32]


def test_gradients_reach_every_parameter_but_those_of_the_other_objective():
    paddle.seed(1)
    model = Oner(TINY, HEADS)
    masked = paddle.ones([2, 16])
    encoded = model(words([5, 3], 6), pixels(), masked)
    loss = model.mixed(model.mean_state(encoded), encoded.cls).sum()
    loss = loss + model.mlm_logits(encoded.text[:, 0]).sum() + model.mim_pixels(encoded.image[:, 0]).square().sum()
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or float(p.grad.abs().sum()) == 0]
    # a fully masked image leaves no patch to learn from
    assert without == ["tower.patch.weight", "tower.patch.bias"]


@pytest.mark.parametrize("path", SIZES, ids=lambda p: p.stem)
def test_sizes(path):
    config = load(OnerConfig, path)
    with paddle.LazyGuard():
        names = dict(Oner(config, HEADS).named_parameters())
    side = config.image_size // config.resolution
    assert names["tower.position"].shape == [1, side**2 + 1, config.hidden_size]
    assert len(SIZES) == 2


def test_it_is_a_system():
    assert SYSTEMS["oner"].model is Oner and SYSTEMS["oner"].config is OnerConfig


def test_bad_calls_are_config_errors(model):
    with pytest.raises(ConfigError, match="no stream"):
        model()
    with pytest.raises(ConfigError, match="need pixels and a model with the head mim"):
        Oner(TINY)(pixels=pixels(), masked_patches=paddle.zeros([2, 16]))
    with pytest.raises(ConfigError, match=r"unknown heads \['pool'\]; OneR has"):
        Oner(TINY, ["pool"])
