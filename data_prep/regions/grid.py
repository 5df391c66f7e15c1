"""Grid features: each cell of a network's last map, or each patch of a ViT, is a region (Jiang et al. 2020)."""

from pathlib import Path

import numpy as np
import paddle
from PIL import Image

from data_prep.regions.extractor import Regions
from data_prep.regions.resnet import FEATURE_DIM, ResNetFeatures
from unimo import zoo
from unimo.errors import ConfigError
from unimo.hardware import compute_in_one_thread
from unimo.models.oner import Oner
from unimo.models.unimo2 import Unimo2


class ResNetGrid:
    """7 x 7 cells of ResNet-50's last map, 2048-d."""

    feature_dim, class_names = FEATURE_DIM, ["background"]

    def __init__(self, cache: Path | None):
        self._resnet = ResNetFeatures(cache)
        self.threads = self._resnet.threads
        self.description = {"name": "grid+resnet50", "version": self._resnet.package.version}
        self.description |= self._resnet.description
        self.description["cells"] = "row by row"  # stores without it may hold features in a wrong order (CHANGELOG.md)
        self.packages = [self._resnet.package.record()]

    def __call__(self, picture: np.ndarray) -> Regions:
        cells = self._resnet.feature_map(picture)[0].numpy()  # (2048, 7, 7)
        edges = np.arange(cells.shape[1] + 1) / cells.shape[1]
        return _regions(picture, edges, cells.reshape(FEATURE_DIM, -1).T)


class PatchGrid:
    """The patches of a ViT, its states after the last norm.

    Args:
        model: a model folder of UNIMO-2 or OneR, or a name of the zoo.

    Raises:
        ConfigError, CheckpointError, DataError: as of `zoo.locate`, or a model that does not read pixels.
    """

    class_names = ["background"]

    def __init__(self, model: Path):
        folder = zoo.locate(str(model))
        network = zoo.from_pretrained(folder)
        if not isinstance(network, Unimo2 | Oner):
            raise ConfigError(f"{model} reads no pixels; grid features need a model of UNIMO-2 or OneR")
        self._vit = network.vit if isinstance(network, Unimo2) else network.tower
        size = network.config
        padding = (size.resolution - 1) // 2 if isinstance(network, Unimo2) else 0  # see VisionTransformer
        self._side, self.feature_dim = size.image_size, size.hidden_size
        self.packages: list[dict[str, str]] = []
        self.threads = compute_in_one_thread()
        starts = np.arange(self._vit.grid + 1) * size.resolution - padding
        self._edges = np.clip(starts / size.image_size, 0, 1)  # in one direction; what is padding is cut off
        self.description = {"name": "grid+vit", "version": "1", "weights_sha256": zoo.digest(folder)}

    @paddle.no_grad()
    def __call__(self, picture: np.ndarray) -> Regions:
        """The picture is stretched to a square bicubically and scaled to -1..1, as UNIMO-2's release does."""
        small = Image.fromarray(picture).resize((self._side, self._side), Image.Resampling.BICUBIC)
        pixels = np.asarray(small, np.float32) / 127.5 - 1
        states = self._vit(paddle.to_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])))
        return _regions(picture, self._edges, states[0, 1:].numpy())  # without the class token


def _regions(picture: np.ndarray, edges: np.ndarray, features: np.ndarray) -> Regions:
    """Cells row by row between `edges` (n + 1 shares of a side), each of class background with score 1."""
    height, width = picture.shape[:2]
    n = len(edges) - 1
    top, left = (k.ravel() for k in np.divmod(np.arange(n * n), n))
    boxes = np.stack([edges[left], edges[top], edges[left + 1], edges[top + 1]], axis=1) * ([width, height] * 2)
    return Regions(boxes.astype(np.float32), np.zeros(n * n, np.int64), np.ones(n * n, np.float32), features)
