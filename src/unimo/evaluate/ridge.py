"""The linear baseline of retrieval: ridge regression from a picture's mean region feature, or its thumbnail, to the
sentence vector of its caption, pictures and captions ranked by cosine. Ours; seconds of work, and what a trained model
must be read against."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import Tensor, nn
from tqdm import tqdm

from unimo.errors import ConfigError
from unimo.evaluate.retrieval import mean_recall
from unimo.models.streams import Pixels, Regions, Text, given
from unimo.models.unimo import Unimo
from unimo.models.unimo2 import Unimo2
from unimo.readers.captions import collate_text
from unimo.readers.tensors import as_text

STRENGTHS = (300.0, 1000.0, 3000.0, 10000.0)  # of the penalty, of up to a thousand captions; dev chooses
Encoder = Unimo | Unimo2  # of texts
THUMBNAIL = 16  # pixels a side


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1, but for zeros. [n, d]"""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def ridge(inputs: np.ndarray, targets: np.ndarray, strength: float) -> np.ndarray:
    """W of least |inputs W - targets|^2 + strength |W|^2. [n, d], [n, e] -> [d, e]

    Solved in the smaller of both spaces, in float64.
    """
    x = inputs.astype(np.float64)
    if len(x) < x.shape[1]:
        return x.T @ np.linalg.solve(x @ x.T + strength * np.eye(len(x)), targets)
    return np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ targets)


def sentence_vector(model: Encoder, text: Text) -> Tensor:
    """Mean over the tokens' last states, length 1 (Reimers and Gurevych 2019), of each text encoded alone; by a UNIMO,
    or by the text encoder of a UNIMO-2. [B, H]"""
    states = model.encode_text(text)[0] if isinstance(model, Unimo2) else given(model(text=text).text)
    mask = text.mask.unsqueeze(2)
    return nn.functional.normalize((states * mask).sum(1), axis=1)


@paddle.no_grad()
def text_vectors(
    model: Any,
    sequences: Sequence[Sequence[int]],
    pad_id: int,
    read: Callable[[Any, Text], Tensor] = sentence_vector,
    batch: int = 64,
    silent: bool = True,
) -> np.ndarray:
    """What `read` makes of at least one token sequence, in batches of similar length; not silent, with a progress bar.
    [n, H] float32"""
    parts, was_training = [], model.training
    model.eval()
    order = np.argsort([len(s) for s in sequences], kind="stable")
    for start in tqdm(range(0, len(order), batch), desc="reading texts", mininterval=2, disable=silent):
        rows = order[start : start + batch]
        parts.append(read(model, as_text(collate_text([sequences[row] for row in rows], pad_id))).numpy())
    found: np.ndarray = np.concatenate(parts)[np.argsort(order)]
    if was_training:
        model.train()
    return found


def seen(picture: Regions | Pixels) -> Tensor:
    """What a ridge sees of pictures: the mean region, slot 0, or the pixels of a thumbnail. [B, D] float32"""
    if isinstance(picture, Regions):
        return picture.features[:, 0].astype("float32")
    return nn.functional.adaptive_avg_pool2d(picture.images, THUMBNAIL).flatten(1)


class RidgeMatch(nn.Layer):
    """A fitted ridge as a match of captions and pictures: cosine of a centred sentence vector and the predicted one."""

    def __init__(
        self, text_model: nn.Layer, centre: np.ndarray, mean: np.ndarray, deviation: np.ndarray, map: np.ndarray
    ):
        super().__init__()
        self.text_model: Any = text_model
        self.centre = paddle.to_tensor(centre.astype(np.float32))  # [H] mean sentence vector
        self.mean = paddle.to_tensor(mean.astype(np.float32))  # [D] of the features
        self.map = paddle.to_tensor((map / deviation[:, None]).astype(np.float32))  # [D, H]

    def encode_texts(self, text: Text) -> tuple[Tensor]:
        """Centred sentence vectors of length 1. [B, H]"""
        return (nn.functional.normalize(sentence_vector(self.text_model, text) - self.centre, axis=1),)

    def encode_images(self, picture: Regions | Pixels) -> tuple[Tensor]:
        """What `seen` predicts, of length 1. [B, H]"""
        return (nn.functional.normalize((seen(picture) - self.mean) @ self.map, axis=1),)

    def score(self, texts: tuple[Tensor, ...], images: tuple[Tensor, ...], rows: Tensor, columns: Tensor) -> Tensor:
        """Cosine of each pairing. [P]"""
        return (texts[0].index_select(rows) * images[0].index_select(columns)).sum(1)


class Captioned(NamedTuple):
    """Pictures with captions, as a ridge sees them."""

    features: np.ndarray  # [images, D] float32, `seen` of each picture
    sequences: Sequence[Sequence[int]]  # token ids of each caption
    rows: np.ndarray  # [captions] int64, the picture of each


def fit_ridge(text_model: nn.Layer, train: Captioned, dev: Captioned, pad_id: int) -> tuple[RidgeMatch, float]:
    """The ridge of the training pictures and captions, of the strength that is best on dev by mean recall.

    Raises:
        ConfigError: the model has no text encoder of its own.

    Returns:
        It and the strength.
    """
    if not isinstance(text_model, Unimo | Unimo2):
        raise ConfigError(f"the ridge baseline needs sentence vectors, and a {type(text_model).__name__} has none")
    vectors, dev_vectors = (text_vectors(text_model, part.sequences, pad_id) for part in (train, dev))
    mean, deviation = train.features.mean(0), train.features.std(0) + 1e-6
    centre = vectors.mean(0)
    inputs = ((train.features - mean) / deviation)[train.rows]  # one row a caption
    best, chosen = -1.0, (np.zeros(0), 0.0)
    for strength in (s * max(1.0, len(train.rows) / 1000) for s in STRENGTHS):
        weights = ridge(inputs, vectors - centre, strength)
        predicted = ((dev.features - mean) / deviation) @ weights
        found = mean_recall(unit(dev_vectors - centre) @ unit(predicted).T, dev.rows)
        if found > best:
            best, chosen = found, (weights, strength)
    weights, strength = chosen
    return RidgeMatch(text_model, centre, mean, deviation, weights), strength
