"""The vision transformer: sizes, which pixels it reads, and its positions on other grids."""

import numpy as np
import paddle
import pytest

from unimo.models.layers import initialise
from unimo.models.vision import VisionTransformer


@pytest.fixture(scope="module")
def vit() -> VisionTransformer:
    paddle.seed(1)
    model = VisionTransformer(16, 2, 4, patch_size=4, image_size=16, patch_padding=1, initializer_range=0.2)
    initialise(model, 0.2)
    model.eval()
    return model


def test_size_of_vit_base():
    with paddle.LazyGuard():  # shapes only, no memory
        base = VisionTransformer(768, 12, 12)
    assert sum(int(np.prod(p.shape)) for p in base.parameters()) == 85_798_656
    assert base.position.shape == [1, 197, 768] and base.patch.weight.shape == [768, 3, 16, 16]


@pytest.mark.parametrize(("side", "patches"), [(224, 196), (384, 576)])
def test_grid_of_the_release(side, patches):
    """224 and 384 pixels give 14 x 14 and 24 x 24 patches in spite of the padding by 7."""
    model = VisionTransformer(4, 1, 1, patch_padding=7)
    assert model(paddle.zeros([2, 3, side, side])).shape == [2, patches + 1, 4]


@pytest.mark.parametrize(("padding", "unread"), [(0, 0), (1, 1)])
def test_padding_shifts_the_patches(padding, unread):
    """Padded by p, the first patch starts p pixels outside and the last p rows and columns are never read."""
    model = VisionTransformer(8, 1, 2, patch_size=4, image_size=16, patch_padding=padding)
    pixels = paddle.rand([1, 3, 16, 16])
    pixels.stop_gradient = False
    states = model.patch(pixels)
    states[0, :, 0, 0].sum().backward()
    first = pixels.grad.abs().sum([0, 1]).numpy() > 0
    assert first[: 4 - padding, : 4 - padding].all() and first.sum() == (4 - padding) ** 2
    pixels.clear_grad()
    model.patch(pixels).square().sum().backward()
    read = pixels.grad.abs().sum([0, 1]).numpy() > 0
    assert read[: 16 - unread, : 16 - unread].all() and read.sum() == (16 - unread) ** 2


def test_patches_are_read_row_by_row(vit):
    pixels = paddle.rand([1, 3, 16, 16])
    changed = pixels.clone()
    changed[:, :, 1, 9] += 1.0  # with the padding: grid row 0, column 2
    before, after = vit.embed(pixels), vit.embed(changed)
    moved = ((before - after).abs().sum([0, 2]) > 0).numpy()
    assert moved.tolist() == [i == 1 + 2 for i in range(17)]


def test_positions_of_other_grids(vit):
    assert vit.positions(4, 4) is vit.position
    same = vit.positions(8, 8)
    assert same.shape == [1, 65, 16] and (same[:, 0] == vit.position[:, 0]).all()
    wide = vit.positions(4, 8)  # rows keep their own values where only columns are resized
    half = wide[0, 1:].reshape([4, 8, 16])
    table = vit.position[0, 1:].reshape([4, 4, 16])
    # weights of the cubic kernel of a = -0.75 a quarter of a pixel off, on the second and third of four columns
    a, d = -0.75, np.array([1.25, 0.25, 0.75, 1.75])
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    weights = np.where(d <= 1, near, far)
    assert weights.sum() == pytest.approx(1)
    expected = np.einsum("c,rch->rh", weights, table.numpy())
    assert np.abs(half[:, 3].numpy() - expected).max() < 1e-6


def test_gradients_reach_the_table_through_the_resize(vit):
    vit(paddle.rand([1, 3, 32, 32])).square().sum().backward()
    assert (vit.position.grad.abs().sum(-1) > 0).all() and vit.cls.grad.shape == [1, 1, 16]
    vit.clear_gradients()


def test_blocks_are_pre_norm_and_the_last_norm_is_the_only_one_outside(vit):
    """With all maps of the blocks at zero, a block is the identity."""
    still = VisionTransformer(16, 2, 4, patch_size=4, image_size=16)
    for block in still.layers:
        for layer in (block.attention.out, block.feed_forward.outer):
            layer.weight.set_value(paddle.zeros(layer.weight.shape))
    pixels = paddle.rand([2, 3, 16, 16])
    assert (still(pixels) - still.norm(still.embed(pixels))).abs().max() < 1e-6


def test_training_without_dropout_equals_evaluation(vit):
    pixels = paddle.rand([2, 3, 20, 20])
    expected = vit(pixels)
    vit.train()
    assert (vit(pixels) - expected).abs().max() < 1e-5
    vit.recompute = True
    states = vit(pixels)
    assert (states - expected).abs().max() < 1e-5
    states.sum().backward()
    recomputed = {name: p.grad.numpy() for name, p in vit.named_parameters()}
    vit.clear_gradients()
    vit.recompute = False
    vit(pixels).sum().backward()
    for name, p in vit.named_parameters():
        assert np.abs(p.grad.numpy() - recomputed[name]).max() < 1e-5, name
    vit.clear_gradients()
    vit.eval()
