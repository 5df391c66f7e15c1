import numpy as np
import paddle
import pytest

from unimo.models.vision import Bottleneck, ConvBN, ResNet50


@pytest.fixture(scope="module")
def resnet() -> ResNet50:
    model = ResNet50()
    model.eval()
    return model


def test_size_and_shapes(resnet):
    # 25,636,712 variables in the published weights, statistics of batch norm included
    assert sum(int(np.prod(v.shape)) for v in resnet.state_dict().values()) == 25_636_712
    feature_map = resnet(paddle.zeros([2, 3, 64, 96]))
    assert feature_map.shape == [2, 2048, 2, 3] and resnet.logits(feature_map).shape == [2, 1000]


def test_the_stride_is_in_the_first_convolution():
    block = Bottleneck(256, 128, stride=2)
    assert list(block.reduce.conv._stride) == [2, 2] and list(block.spatial.conv._stride) == [1, 1]
    # so a pixel at an odd place cannot reach the output, whatever the weights
    block.eval()
    x = paddle.randn([1, 256, 8, 8])
    changed = x.clone()
    changed[:, :, 1, 1] += 1.0
    assert (block(x) == block(changed)).all()
    changed[:, :, 2, 2] += 1.0
    assert not (block(x) == block(changed)).all()


def test_batch_norm_uses_the_stored_statistics_and_keras_epsilon():
    layer = ConvBN(1, 1, 1)
    layer.train()  # no mode may change frozen statistics
    for parameter, value in [(layer.conv.weight, 3.0), (layer.conv.bias, 1.0), (layer.norm.weight, 2.0)]:
        parameter.set_value(paddle.full(parameter.shape, value))
    layer.norm._mean.set_value(paddle.to_tensor([4.0]))
    layer.norm._variance.set_value(paddle.to_tensor([0.01]))
    y = layer(paddle.full([1, 1, 1, 1], 2.0)).item()
    assert y == pytest.approx(2 * (2 * 3 + 1 - 4) / (0.01 + 1e-3) ** 0.5, rel=1e-5)
