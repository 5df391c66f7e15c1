"""A closed-form start of a dual encoder's picture side and heads: what can be solved for is not left to updates. Ours.

Features are whitened; the embedding of a picture is a heavily penalised ridge to the sentence vector of its caption,
as a text model's layers expect vectors of words there; pool heads are ridges from the states that this gives.
"""

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from unimo.evaluate.ridge import ridge, text_vectors
from unimo.models.streams import Text, given
from unimo.models.unimo import Unimo
from unimo.readers.tensors import as_regions

EMBEDDING, IMAGE_POOL, TEXT_POOL = 5000.0, 30.0, 3.0  # penalties; of prototypes (docs/dual_encoder.md)
FLOOR = 100  # directions of less variance than the one of this rank are hardly enlarged


@paddle.no_grad()
def start_in_closed_form(
    model: Unimo,
    regions: dict[str, np.ndarray],
    sequences: Sequence[Sequence[int]],
    own: np.ndarray,
    vectors: np.ndarray,
    text_codes: np.ndarray,
    image_codes: np.ndarray,
    match_weights: np.ndarray,
    pad_id: int,
) -> None:
    """Set whitening, embeddings and norm of pictures, both pool heads and the match head of `model`.

    Args:
        regions: of all training pictures as the reader collates them, the n with captions first.
        sequences, own: token ids of each training caption, and its picture, [captions] int64.
        vectors, text_codes: [captions, H] float32, sentence vectors and codes of the captions.
        image_codes: [n, H] float32, codes of the pictures with captions.
        match_weights: [H, 1] float32, by which the codes' products count.
    """
    slots = regions["features"].astype(np.float32)  # [n, N, D]
    trained = slots[: len(image_codes), 0]
    mean, deviation = trained.mean(0), trained.std(0) + 1e-3
    standard = ((trained - mean) / deviation)[own]
    weight = ridge(standard, vectors - vectors.mean(0), EMBEDDING)  # [D, H]
    weight, bias = weight / (standard @ weight).std(), np.zeros(weight.shape[1])  # a norm sees values of order 1
    if size := model.config.image_whitening_size:
        seen = np.concatenate([slots[:, i][regions["mask"][:, i] > 0] for i in range(min(2, slots.shape[1]))])
        directions, scales = principal((seen - mean) / deviation, size)
        whitening = directions * scales / deviation[:, None]
        _set(model.image_whitening, whitening, -mean @ whitening)
        weight = directions.T @ weight / scales[:, None]
    else:
        weight = weight / deviation[:, None]
        bias = -mean @ weight
    _set(model.image_embedding, weight, bias)
    _set(model.box_embedding, np.zeros(model.box_embedding.weight.shape), np.zeros(len(bias)))
    _set(model.image_norm, model.text_norm.weight.numpy(), model.text_norm.bias.numpy())

    was_training = model.training
    model.eval()
    _set_pool(model.pool_text.affine, text_vectors(model, sequences, pad_id, first_state), text_codes, TEXT_POOL)
    _set_pool(model.pool_image.affine, _image_states(model, regions, len(image_codes)), image_codes, IMAGE_POOL)
    _set(model.match.affine, match_weights, np.zeros(1))
    if was_training:
        model.train()


def principal(x: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions of standardised rows [n, D], and what makes each of about unit variance: [D, size], [size].

    Where there are fewer directions, the others are 0 and their scale 1.
    """
    values, directions = np.linalg.eigh(x.T @ x / len(x))
    values, directions = np.maximum(values[::-1][:size], 0), directions[:, ::-1][:, :size]
    missing = size - directions.shape[1]
    floor = values[min(FLOOR, len(values) - 1)] + 1e-6
    scales = 1 / np.sqrt(values + floor)
    return np.pad(directions, ((0, 0), (0, missing))), np.pad(scales, (0, missing), constant_values=1.0)


def first_state(model: Unimo, text: Text) -> Tensor:
    """Last state of the first position of each text encoded alone. [B, H]"""
    return given(model(text=text).text)[:, 0]


def _image_states(model: Unimo, regions: dict[str, np.ndarray], n: int, batch: int = 64) -> np.ndarray:
    """First state of each of the first n pictures encoded alone. [n, H] float32"""
    parts = [{name: array[i : min(i + batch, n)] for name, array in regions.items()} for i in range(0, n, batch)]
    return np.concatenate([given(model(regions=as_regions(part)).regions)[:, 0].numpy() for part in parts])


def _set_pool(affine: nn.Linear, states: np.ndarray, codes: np.ndarray, strength: float) -> None:
    mean = states.mean(0)
    weight = ridge(states - mean, codes, strength)
    _set(affine, weight, codes.mean(0) - mean @ weight)


def _set(layer: nn.Layer, weight: np.ndarray, bias: np.ndarray) -> None:
    layer.weight.set_value(np.asarray(weight, np.float32))
    layer.bias.set_value(np.asarray(bias, np.float32))
