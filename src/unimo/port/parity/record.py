"""`unimo port record`: golden inputs and outputs of one of our models, in the format that `unimo port verify` reads."""

from pathlib import Path
from typing import Any

import numpy as np
import paddle

from unimo.errors import ConfigError
from unimo.models.systems import system_of
from unimo.models.unimo import Unimo
from unimo.models.unimo2 import STREAMS, Unimo2
from unimo.port.names import unimo2_names, unimo_names
from unimo.port.parity import verify_unimo, verify_unimo2
from unimo.readers.captions import FIRST_POSITION
from unimo.storage.atomic import atomic_write

BATCH, WORDS, SLOTS, TAGS = 3, 9, 6, 5  # sizes of the inputs; every stream has rows with pads
MODES = {"pair": STREAMS, "text": ("text",), "image": ("image",), "caption": STREAMS}  # of UNIMO-2


def record(model: Any, path: Path, mode: str = "pair", seed: int = 1) -> list[str]:
    """Write an npz of random inputs and of the outputs that the model, in eval mode, has heads for.

    Args:
        mode: which pass of UNIMO-2; UNIMO's file always holds all of its passes.

    Returns:
        Names of the recorded outputs.

    Raises:
        ConfigError: a system or mode that nothing can be recorded of.
    """
    rng = np.random.default_rng(seed)
    with paddle.device.device_guard("cpu"), paddle.no_grad():
        if isinstance(model, Unimo):
            golden = _unimo(model, rng)
        elif isinstance(model, Unimo2) and mode in MODES:
            golden = _unimo2(model, rng, mode)
        else:
            raise ConfigError(
                f"expected a model of unimo, or of unimo-2 and a mode of {', '.join(MODES)}; got one of "
                f"{system_of(model)} and mode {mode}"
            )
    with atomic_write(path) as file:
        np.savez(file, **golden)  # type: ignore[arg-type]  # no array is called allow_pickle
    return [name for name in golden if name.startswith("out_")]


def _text(rng: np.random.Generator, vocabulary: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids and positions [B, S, 1] and 0/1 validity [B, S]; the first row is full, the others end in pads of id 1."""
    valid = np.arange(length) < np.array([length, max(2, length // 2), max(2, length // 3)])[:, None]
    ids = np.where(valid, rng.integers(4, vocabulary, (BATCH, length)), 1)
    positions = np.where(valid, np.arange(length) + FIRST_POSITION, 1)
    return ids[..., None], positions[..., None], valid


def _unimo(model: Unimo, rng: np.random.Generator) -> dict[str, np.ndarray]:
    config = model.config
    if config.type_vocab_size:
        raise ConfigError("the format of `port verify` has no token types; this model does")
    golden: dict[str, np.ndarray] = {}
    golden["in_src_ids"], golden["in_pos_ids"], text = _text(rng, config.vocab_size, WORDS)
    golden["in_obj_ids"], golden["in_obj_pos"], tags = _text(rng, config.vocab_size, TAGS)
    image = np.arange(SLOTS) < np.array([SLOTS - 1, 3, 2])[:, None]
    features = rng.standard_normal((BATCH, SLOTS, config.image_embedding_size)) * image[..., None]
    features[:, 0] = features[:, 1:].sum(1) / (image.sum(1, keepdims=True) - 1)
    corners = np.sort(rng.random((BATCH, SLOTS, 2, 2)), axis=2).reshape(BATCH, SLOTS, 4)  # x1, y1, x2, y2
    area = (corners[..., 2] - corners[..., 0]) * (corners[..., 3] - corners[..., 1])
    boxes = np.concatenate([corners, area[..., None]], -1) * image[..., None]
    boxes[:, 0] = 0, 0, 1, 1, 1
    golden |= {"in_image": features.astype(np.float32), "in_loc": boxes.astype(np.float32)}
    golden["in_m_l"] = _outer(text)
    golden["in_m_vl"] = _outer(np.concatenate([image, text], 1))
    context, whole = SLOTS + TAGS, _outer(np.concatenate([image, tags, text], 1))
    whole[:, :context, context:] = 0  # image and tags never see the caption, the caption its own past
    whole[:, context:, context:] *= np.tril(np.ones([WORDS, WORDS], np.int64))
    golden["in_m_vol"] = whole
    there = {"image", *unimo_names.parts_of(model.heads)}
    for run in verify_unimo.PASSES:
        encoded, *_ = verify_unimo.encode_pass(model, golden, run)
        for name, output in verify_unimo.OUTPUTS.items():
            if output.run == run and there.issuperset(output.parts):
                golden[name] = output.compute(model, encoded).numpy()
    return golden


def _unimo2(model: Unimo2, rng: np.random.Generator, mode: str) -> dict[str, np.ndarray]:
    config, streams = model.config, MODES[mode]
    golden: dict[str, np.ndarray] = {}
    if "text" in streams:
        golden["in_src"], golden["in_pos"], text = _text(rng, config.text_vocab_size, WORDS)
        golden["in_tmask"] = text[:, None].astype(np.int64)
        if mode == "caption":
            golden["in_tmask"] = _outer(text) * np.tril(np.ones([WORDS, WORDS], np.int64))
    if "image" in streams:
        patches = (config.image_size // config.resolution) ** 2
        golden["in_img"] = rng.uniform(-1, 1, (BATCH, config.image_size, config.image_size, 3)).astype(np.float32)
        golden["in_imask"] = np.ones([BATCH, 1, patches + 1], np.int64)
    there = unimo2_names.parts_of(model.heads, model.streams)
    encoded, _ = verify_unimo2.encode_pass(model, golden, streams, mode == "caption")
    for name, output in verify_unimo2.OUTPUTS.items():
        if set(output.streams) <= set(streams) and set(output.parts) <= set(there):
            golden[name] = output.compute(model, encoded).numpy()
    return golden


def _outer(valid: np.ndarray) -> np.ndarray:
    """[B, S] bool -> [B, S, S] int64: valid positions see each other."""
    return (valid[:, :, None] & valid[:, None]).astype(np.int64)
