"""Image backbones: ResNet blocks, the ResNet-50 of Caffe's and Keras's weights; the ViT of UNIMO-2 and OneR."""

import math
from collections.abc import Callable

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from unimo.models.layers import LayerNorm, PreNormBlock, dropout, run_blocks, truncated_normal

BN_EPSILON = 1e-3  # Keras's weights; Caffe used 1e-5


class ConvBN(nn.Layer):
    """Convolution of an odd kernel, then batch norm with fixed statistics, without the activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
        epsilon: float = BN_EPSILON,
    ):
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv2D(inputs, outputs, kernel, stride, padding, dilation, bias_attr=None if bias else False)
        self.norm = nn.BatchNorm2D(outputs, epsilon=epsilon, use_global_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride], rounded up."""
        return self.norm(self.conv(x))


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 and the shortcut.

    Args:
        stride_in_1x1: the stride sits in the first 1x1 ("v1"), not in the 3x3 as in later variants.
        conv: makes each convolution with its norm, by the arguments of `ConvBN`.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int = 1,
        dilation: int = 1,
        stride_in_1x1: bool = True,
        conv: Callable[..., nn.Layer] = ConvBN,
    ):
        super().__init__()
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.reduce = conv(inputs, width, 1, first)
        self.spatial = conv(width, width, 3, second, dilation)
        self.expand = conv(width, 4 * width, 1)
        self.shortcut = conv(inputs, 4 * width, 1, stride) if inputs != 4 * width else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, 4 * width, H / stride, W / stride], rounded up."""
        y = self.expand(F.relu(self.spatial(F.relu(self.reduce(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet50(nn.Layer):
    """Pixels -> the map of stage 5 -> ImageNet logits (He et al. 2016).

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


def resize_positions(table: Tensor, height: int, width: int) -> Tensor:
    """A position table for another grid, bicubically (a = -0.75, no anti-aliasing); the class token's row stays.

    [1, n * n + 1, H] -> [1, height * width + 1, H].
    """
    rows, h = table.shape[1:]
    grid = math.isqrt(rows - 1)
    image = table[:, 1:].reshape([1, grid, grid, h]).transpose([0, 3, 1, 2])
    image = F.interpolate(image, [height, width], mode="bicubic", align_corners=False)  # (1, H, height, width)
    return paddle.concat([table[:, :1], image.flatten(2).transpose([0, 2, 1])], axis=1)


class VisionTransformer(nn.Layer):
    """Patches, a class token, learnt positions, pre-LN blocks and a final layer norm (Dosovitskiy et al. 2021).

    Weights of the blocks are drawn by the model that owns this one (`layers.initialise`).

    Args:
        image_size: side in pixels of the images that the position table has one row a patch for; others interpolate it.
        patch_padding: zero pixels around the image. 0 in the published ViTs; UNIMO-2's release pads by
            (patch_size - 1) // 2, which shifts every patch and leaves the last pixels unread.
        epsilon: of all layer norms; 1e-12 in UNIMO-2's release and Hugging Face, 1e-6 in timm and the published files.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        patch_size: int = 16,
        image_size: int = 224,
        patch_padding: int = 0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        epsilon: float = 1e-12,
        initializer_range: float = 0.02,
        recompute: bool = False,
    ):
        super().__init__()
        self.grid, self.dropout, self.recompute = image_size // patch_size, dropout, recompute
        drawn = truncated_normal(initializer_range)
        self.patch = nn.Conv2D(3, hidden_size, patch_size, patch_size, patch_padding)
        self.cls = self.create_parameter([1, 1, hidden_size], default_initializer=drawn)
        self.position = self.create_parameter([1, self.grid**2 + 1, hidden_size], default_initializer=drawn)
        self.layers = nn.LayerList(
            PreNormBlock(hidden_size, num_heads, dropout, attention_dropout, epsilon) for _ in range(num_layers)
        )
        self.norm = LayerNorm(hidden_size, epsilon)

    def positions(self, height: int, width: int) -> Tensor:
        """The table for a grid of height x width patches, [1, height * width + 1, H].

        Another grid than the table's own is interpolated at every call, so that the table keeps its size and gradients
        reach it.
        """
        own = (height, width) == (self.grid, self.grid)
        return self.position if own else resize_positions(self.position, height, width)

    def embed(self, pixels: Tensor) -> Tensor:
        """[B, 3, height, width] -> class token and patches, row by row: [B, P + 1, H], after dropout."""
        patches = self.patch(pixels)  # (B, H, height / patch, width / patch)
        positions = self.positions(*patches.shape[2:])
        patches = patches.flatten(2).transpose([0, 2, 1])
        cls = self.cls.expand([patches.shape[0], 1, -1])
        x = paddle.concat([cls, patches], axis=1) + positions
        return dropout(x, self.dropout, self.training)

    def encode(self, x: Tensor, bias: Tensor) -> Tensor:
        """Blocks and final norm over embedded positions [B, S, H], bias broadcastable to [B, heads, S, S]."""
        x, _ = run_blocks(self.layers, x, bias, keep_cache=False, recomputed=self.recompute)
        return self.norm(x)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, height, width] -> states of the class token and of every patch, [B, P + 1, H]."""
        return self.encode(self.embed(pixels), paddle.zeros([1, 1, 1, 1]))
