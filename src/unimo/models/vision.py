"""Image backbones. ResNet-50 as He et al. (2016) published it, which is what Caffe's and Keras's weights expect."""

import paddle.nn.functional as F
from paddle import Tensor, nn

BN_EPSILON = 1e-3  # Keras's weights; Caffe used 1e-5


class ConvBN(nn.Layer):
    """Convolution with bias, then batch norm with fixed statistics, without the activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2D(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.norm = nn.BatchNorm2D(outputs, epsilon=BN_EPSILON, use_global_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 and the shortcut. The stride sits in the first 1x1 ("v1"), not in the 3x3 as in later variants."""

    def __init__(self, inputs: int, width: int, stride: int = 1):
        super().__init__()
        self.reduce = ConvBN(inputs, width, 1, stride)
        self.spatial = ConvBN(width, width, 3)
        self.expand = ConvBN(width, 4 * width, 1)
        self.shortcut = ConvBN(inputs, 4 * width, 1, stride) if inputs != 4 * width else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(F.relu(self.spatial(F.relu(self.reduce(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet50(nn.Layer):
    """Pixels -> the map of stage 5 -> ImageNet logits.

    Pixels are Caffe's: channels blue, green, red in 0..255, minus the means 103.939, 116.779, 123.68.
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.stem = ConvBN(3, 64, 7, 2)
        widths, depths = (64, 128, 256, 512), (3, 4, 6, 3)
        self.stages = nn.LayerList()
        inputs = 64
        for width, depth, stride in zip(widths, depths, (1, 2, 2, 2)):
            blocks = [Bottleneck(inputs, width, stride)] + [Bottleneck(4 * width, width) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            inputs = 4 * width
        self.classify = nn.Linear(inputs, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 2048, H/32, W/32]."""
        x = F.relu(self.stem(pixels))
        x = F.max_pool2d(F.pad(x, [1, 1, 1, 1]), 3, 2)  # zeros count as values: all are positive after the ReLU
        for stage in self.stages:
            x = stage(x)
        return x

    def logits(self, feature_map: Tensor) -> Tensor:
        """[B, 2048, h, w] -> [B, num_classes]."""
        return self.classify(feature_map.mean([2, 3]))
