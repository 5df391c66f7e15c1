"""The Faster R-CNN of bottom-up attention (Anderson et al. 2018): picture -> boxes with features, classes, attributes.

In order of use: ResNet up to stage 4, region proposals, RoI pooling and stage 5 over every proposal, class, box and
attribute heads, choice of boxes. It computes what `modeling_frcnn.py` of Hugging Face's LXMERT research example does
(repository huggingface/transformers-research-projects, folder lxmert, commit fccd0cdab03c), whose weights are Caffe's;
docs/regions.md compares the two. Training is not part of it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.vision.ops import roi_pool
from pydantic import Field, model_validator

from unimo.config import Config
from unimo.errors import ConfigError
from unimo.models.boxes import by_score, classwise_nms, clip, decode, nms
from unimo.models.vision import Bottleneck, ConvBN

STRIDE = 16  # pixels of a cell of stage 4
EPSILON = 1e-5  # of batch norms: the default of Caffe and torch, which both leave
NMS_OVERLAP = 0.3  # cfg.TEST.NMS of the Caffe code; the original choice of boxes uses no other
POOLED_AT_ONCE = 25  # proposals; ours. 25 maps of 2048 x 14 x 14 float32 are 40 MB, all 300 would be 480 MB a layer
_BLOCKS = {50: (3, 4, 6), 101: (3, 4, 23), 152: (3, 8, 36)}  # in stages 2 to 4; stage 5 has 3

Four = tuple[float, float, float, float]
Colour = tuple[float, float, float]


class FasterRCNNConfig(Config):
    """Sizes and constants. A converted model has those of its config.yaml; the defaults are the published detector's.

    Where the defaults come from is in docs/regions.md.
    """

    depth: Literal[50, 101, 152] = 101
    stem_size: int = Field(64, gt=0)
    width: int = Field(64, gt=0)  # of the 3x3 of stage 2; stage s gives 2 ** s * width channels
    stride_in_1x1: bool = True
    caffe_maxpool: bool = True  # 3 x 3 without padding, the last window cut off; else padded by 1

    rpn_size: int = Field(512, gt=0)
    anchor_sizes: tuple[float, ...] = (64.0, 128.0, 256.0, 512.0)  # pixels
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)  # height / width
    anchor_offset: float = Field(0.0, ge=0, lt=1)  # of the first anchor's centre, in cells
    rpn_box_weights: Four = (1.0, 1.0, 1.0, 1.0)
    rpn_candidates: int = Field(6000, gt=0)  # best anchors that go into non-maximum suppression
    rpn_overlap: float = Field(0.7, gt=0, le=1)
    rpn_smallest: float = Field(0.0, ge=0)  # pixels; a proposal's sides are longer
    proposals: int = Field(300, gt=0)  # best that come out of it

    pooled_size: int = Field(14, gt=0)
    halve_stage5: bool = False  # stride 2; else stride 1, and its 3x3 have a dilation of 2
    box_weights: Four = (10.0, 10.0, 5.0, 5.0)
    num_classes: int = Field(1600, gt=0)  # without background
    num_attributes: int = Field(400, gt=0)  # without "none"

    # LXMERT's choice of boxes only
    lxmert_overlaps: tuple[float, ...] = Field((NMS_OVERLAP,), min_length=1)  # tried in turn

    # what a picture becomes before it is read: data_prep/regions/butd.py
    pixel_mean: Colour = (102.9801, 115.9465, 122.7717)
    pixel_std: Colour = (1.0, 1.0, 1.0)
    blue_first: bool = True
    shorter_side: int = Field(600, gt=0)
    longest_side: int = Field(1000, gt=0)

    @model_validator(mode="after")
    def _fits(self) -> "FasterRCNNConfig":
        if not self.anchor_sizes or not self.anchor_ratios:
            raise ValueError("anchor_sizes and anchor_ratios need at least one value each")
        if not all(value > 0 for value in (*self.anchor_sizes, *self.anchor_ratios, *self.pixel_std)):
            raise ValueError("anchor_sizes, anchor_ratios and pixel_std must be above 0")
        return self

    @property
    def feature_size(self) -> int:
        """Width of a region's feature vector, 2048 in the published detector."""
        return 32 * self.width


@dataclass(frozen=True, eq=False)
class Detected:
    """Every stage of a batch. A anchors a cell; N proposals, those of the first picture first."""

    feature_map: Tensor  # [B, 16 * width, h, w], stage 4
    objectness: Tensor  # [B, h * w * A], logits
    anchor_deltas: Tensor  # [B, h * w * A, 4]
    proposals: list[Tensor]  # of each picture [n, 4], pixels of the picture as read, best first
    features: Tensor  # [N, 32 * width], stage 5 averaged over a proposal
    class_logits: Tensor  # [N, num_classes + 1], background last
    box_deltas: Tensor  # [N, num_classes, 4]
    attribute_logits: Tensor  # [N, num_attributes + 1], "none" last


@dataclass(frozen=True, eq=False)
class Chosen:
    """Boxes of one picture, best first."""

    rows: np.ndarray  # [n] int64, places among its proposals
    boxes: np.ndarray  # [n, 4] float32
    classes: np.ndarray  # [n] int64, 0 .. num_classes - 1
    scores: np.ndarray  # [n] float32


class FasterRCNN(nn.Layer):
    """The network.

    Args:
        heads: none exist; there for the sake of `models.systems`.
    """

    def __init__(self, config: FasterRCNNConfig, heads: Iterable[str] = ()):
        super().__init__()
        self.config, self.heads = config, tuple(heads)
        if self.heads:
            raise ConfigError(f"a Faster R-CNN has no heads, got {', '.join(self.heads)}")
        width, features, classes = config.width, config.feature_size, config.num_classes
        self.stem = _conv(3, config.stem_size, 7, 2)
        self.res2, self.res3, self.res4 = (
            _stage(config, stage, blocks, stride=1 if stage == 2 else 2)
            for stage, blocks in zip((2, 3, 4), _BLOCKS[config.depth])
        )
        self.rpn = RegionProposals(config, 16 * width)
        stride, dilation = (2, 1) if config.halve_stage5 else (1, 2)
        self.res5 = _stage(config, 5, 3, stride, dilation)
        self.classify = nn.Linear(features, classes + 1)
        self.locate = nn.Linear(features, 4 * classes)
        self.class_embedding = nn.Embedding(classes + 1, features // 8)
        self.attribute_inner = nn.Linear(features + features // 8, features // 4)
        self.attribute_outer = nn.Linear(features // 4, config.num_attributes + 1)

    def forward(
        self,
        pixels: Tensor,
        sizes: Sequence[tuple[int, int]],
        stage5: Callable[[Tensor], Tensor] | None = None,
    ) -> Detected:
        """Read a batch of pictures.

        Args:
            pixels: [B, 3, height, width], normalised, each picture at the upper left, zeros besides.
            sizes: height and width of each picture in pixels; proposals end at its border.
            stage5: what runs in the place of `res5`, such as a graph of it.
        """
        feature_map = self.read(pixels)
        objectness, anchor_deltas = self.rpn(feature_map)
        grid = feature_map.shape[2:]
        proposals = [
            self.rpn.propose(score, deltas, grid, size)
            for score, deltas, size in zip(objectness, anchor_deltas, sizes, strict=True)
        ]
        pooled = [self.pool(feature_map[i : i + 1], boxes, stage5) for i, boxes in enumerate(proposals)]
        features = paddle.concat(pooled)
        return Detected(feature_map, objectness, anchor_deltas, proposals, features, *self.judge(features))

    @property
    def pooled_shape(self) -> list[int]:
        """Of the maps that one call of stage 5 reads: proposals at most, channels, cells."""
        return [POOLED_AT_ONCE, 16 * self.config.width, self.config.pooled_size, self.config.pooled_size]

    def read(self, pixels: Tensor) -> Tensor:
        """[B, 3, height, width] -> the map of stage 4, [B, 16 * width, h, w], a cell for STRIDE pixels."""
        x = F.relu(self.stem(pixels))
        if self.config.caffe_maxpool:
            x = F.max_pool2d(x, 3, 2, padding=0, ceil_mode=True)
        else:
            x = F.max_pool2d(x, 3, 2, padding=1)
        return self.res4(self.res3(self.res2(x)))

    def pool(self, feature_map: Tensor, boxes: Tensor, stage5: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Features of `boxes` [n, 4] of one picture, feature_map [1, 16 * width, h, w] -> [n, 32 * width].

        RoI pooling as in Fast R-CNN: corners rounded to cells, the maximum of each bin; then stage 5, averaged.
        `stage5` as of `forward`.
        """
        stage5, pooled = stage5 or self.res5, []
        for start in range(0, len(boxes), POOLED_AT_ONCE):
            part = boxes[start : start + POOLED_AT_ONCE]
            count = paddle.to_tensor([len(part)], "int32")
            maps = roi_pool(feature_map, part, count, self.config.pooled_size, 1 / STRIDE)
            pooled.append(stage5(maps).mean([2, 3]))
        return paddle.concat(pooled) if pooled else paddle.zeros([0, self.config.feature_size])

    def judge(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, 32 * width] -> logits of classes, deltas of boxes, logits of attributes, shaped as in `Detected`.

        Attributes see the embedding of the best class, which may be background.
        """
        classes = self.classify(features)
        best = self.class_embedding(classes.argmax(-1))
        inner = F.relu(self.attribute_inner(paddle.concat([features, best], axis=-1)))
        return classes, self.locate(features).reshape([-1, self.config.num_classes, 4]), self.attribute_outer(inner)

    def class_boxes(self, proposals: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
        """Each class's box of each proposal, [n, 4] and [n, num_classes, 4] -> [n, num_classes, 4], in the picture."""
        return clip(decode(deltas, proposals.unsqueeze(1), self.config.box_weights), *size)


class RegionProposals(nn.Layer):
    """Anchors, their scores and deltas; and the proposals made of them (Ren et al. 2015)."""

    def __init__(self, config: FasterRCNNConfig, inputs: int):
        super().__init__()
        self.config = config
        anchors = len(config.anchor_sizes) * len(config.anchor_ratios)
        self.hidden = nn.Conv2D(inputs, config.rpn_size, 3, padding=1)
        self.objectness = nn.Conv2D(config.rpn_size, anchors, 1)
        self.deltas = nn.Conv2D(config.rpn_size, 4 * anchors, 1)
        # kept with the weights, as in the port's source: those that the weights were trained with count
        start = nn.initializer.Assign(cell_anchors(config.anchor_sizes, config.anchor_ratios))
        self.cell_anchors = self.create_parameter([anchors, 4], default_initializer=start)

    def forward(self, feature_map: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, h, w] -> objectness [B, h * w * A] and deltas [B, h * w * A, 4]; a cell's anchors together."""
        b, _, h, w = feature_map.shape
        hidden = F.relu(self.hidden(feature_map))
        objectness = self.objectness(hidden).transpose([0, 2, 3, 1]).reshape([b, -1])
        deltas = self.deltas(hidden).reshape([b, -1, 4, h, w]).transpose([0, 3, 4, 1, 2])  # (B, h, w, A, 4)
        return objectness, deltas.reshape([b, -1, 4])

    def anchors(self, grid: Sequence[int]) -> Tensor:
        """The anchors of a map of height and width `grid`, [h * w * A, 4]."""
        y, x = ((paddle.arange(n, dtype="float32") + self.config.anchor_offset) * STRIDE for n in grid)
        y, x = paddle.meshgrid(y, x)
        shifts = paddle.stack([x, y, x, y], axis=-1).unsqueeze(2)  # (h, w, 1, 4)
        return (shifts + self.cell_anchors).reshape([-1, 4])

    def propose(self, objectness: Tensor, deltas: Tensor, grid: Sequence[int], size: tuple[int, int]) -> Tensor:
        """Proposals of one picture, [n, 4] float32, best first: n is `proposals`, or fewer where fewer remain.

        Args:
            objectness: [h * w * A].
            deltas: [h * w * A, 4].
            size: height and width of the picture in pixels.
        """
        config = self.config
        scores = objectness.numpy()
        best = by_score(scores)[: config.rpn_candidates]
        rows = paddle.to_tensor(best)
        boxes = clip(decode(deltas[rows], self.anchors(grid)[rows], config.rpn_box_weights), *size)
        large = (boxes[:, 2:] - boxes[:, :2] > config.rpn_smallest).all(-1).numpy().nonzero()[0]
        boxes = boxes[paddle.to_tensor(large)]
        kept = nms(boxes, scores[best[large]], config.rpn_overlap)[: config.proposals]
        return boxes[paddle.to_tensor(kept)]


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Anchors about the origin, [sizes * ratios, 4] float32: all of an area size ** 2, of each ratio height / width."""
    anchors = []
    for size in sizes:
        for ratio in ratios:
            width = (size**2 / ratio) ** 0.5
            height = ratio * width
            anchors.append([-width / 2, -height / 2, width / 2, height / 2])
    return np.array(anchors, np.float32)


# ---- choice of boxes


def choose(proposals: np.ndarray, probs: np.ndarray, least: int, most: int, threshold: float) -> Chosen:
    """The original choice of boxes.

    It is `get_detections_from_im` of tools/generate_tsv.py in peteanderson80/bottom-up-attention, commit 514e561b7179.
    Proposals stay as they are, the heads' deltas are not used. Each class suppresses its overlapping proposals; a
    proposal's score is the best of the classes that keep it. All that reach the threshold stay, but at least `least`
    and at most `most`. Ours are the order, best first, and the class, the one that gives the score.

    Args:
        proposals: [n, 4] float32.
        probs: [n, num_classes + 1] float32, background last; it has no part in the choice.
    """
    scores = probs[:, :-1] * classwise_nms(proposals, probs[:, :-1], NMS_OVERLAP)
    best = scores.max(1, initial=0)
    rows = by_score(best)[: int(np.clip((best >= threshold).sum(), least, most))]
    return Chosen(rows, proposals[rows], scores[rows].argmax(1), best[rows])


def choose_lxmert(boxes: Tensor, probs: np.ndarray, overlaps: Sequence[float], least: int, most: int) -> Chosen:
    """The choice of boxes in LXMERT's extractor, `do_nms` of modeling_frcnn.py.

    Each proposal has its best class's box; one suppression over all classes, no threshold on scores, at most `most`.
    Where fewer than `least` remain, the next of `overlaps` is tried; after the last, the source fails, and ours stays
    with what it gave.

    Args:
        boxes: [n, num_classes, 4], of `FasterRCNN.class_boxes`.
        probs: [n, num_classes + 1] float32, background last; it has no part in the choice.
    """
    classes, scores = probs[:, :-1].argmax(1), probs[:, :-1].max(1)
    own = paddle.take_along_axis(boxes, paddle.to_tensor(classes).reshape([-1, 1, 1]), axis=1).squeeze(1)  # (n, 4)
    for overlap in overlaps:
        rows = nms(own, scores, overlap)[:most]
        if len(rows) >= least:
            break
    return Chosen(rows, own.numpy()[rows], classes[rows], scores[rows])


_conv = partial(ConvBN, bias=False, epsilon=EPSILON)


def _stage(config: FasterRCNNConfig, stage: int, blocks: int, stride: int, dilation: int = 1) -> nn.Sequential:
    """Stage 2 to 5 of the ResNet; 2 ** stage * width channels."""
    width = 2 ** (stage - 2) * config.width
    inputs = config.stem_size if stage == 2 else 2 * width
    make = partial(Bottleneck, width=width, dilation=dilation, stride_in_1x1=config.stride_in_1x1, conv=_conv)
    return nn.Sequential(make(inputs, stride=stride), *(make(4 * width) for _ in range(blocks - 1)))
