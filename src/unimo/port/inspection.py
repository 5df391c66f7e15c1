"""`unimo port inspect` and `unimo port diff`: what a checkpoint is, and where two of them differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimo.config import ROOT, load
from unimo.engine import checkpoint as folders
from unimo.engine.model_folder import locate
from unimo.errors import CheckpointError, ConfigError, UnimoError
from unimo.models.systems import SYSTEMS
from unimo.port.files.tensor_files import open_tensors
from unimo.port.files.variables import list_variables, open_combined, open_variable
from unimo.port.formats import FORMATS, check_names, detect
from unimo.port.interchange import Options
from unimo.port.weights import Stored

SIZES = ROOT / "model_configs" / "models"  # NAME_SIZE.yaml


def inspect(path: Path, source_format: str | None = None, options: Options | None = None) -> Iterator[str]:
    """Describe a checkpoint, line by line: format, system and size that fit, then every tensor with its statistics.

    Raises:
        CheckpointError: nothing known is there, or a tensor is damaged.
        ConfigError: no such format.
    """
    check_names(source_format)
    source_format = source_format or _told(path)
    tensors = own_tensors(path, source_format)
    values = sum(int(np.prod(t.shape, dtype=np.int64)) for t in tensors.values())
    size = sum(int(np.prod(t.shape, dtype=np.int64)) * t.dtype.itemsize for t in tensors.values())
    about = f"{source_format} ({FORMATS[source_format].about})" if source_format else "tensors of no known model"
    yield f"{path}: {about}"
    yield f"{len(tensors)} tensors, {values:,} values, {size / 2**20:,.1f} MiB"
    if source_format:
        yield from _fit(path, source_format, options or Options())
    width = max(map(len, tensors), default=0)
    yield f"{'tensor':<{width}}  {'type':<8} {'mean':>10} {'std':>10} {'min':>10} {'max':>10}  shape"
    broken = []
    for name, tensor in tensors.items():
        facts = _statistics(tensor.read())
        yield f"{name:<{width}}  {tensor.dtype.name:<8} {facts.line()}  {list(tensor.shape)}"
        if facts.non_finite:
            broken.append(f"{name} ({facts.non_finite})")
    if broken:
        yield f"values that are not finite: {', '.join(broken)}"


def _told(path: Path) -> str | None:
    """The format of a checkpoint; None where nothing but the names of its tensors can be told."""
    try:
        return detect(path)
    except CheckpointError as error:
        try:
            open_tensors(path)
        except CheckpointError:
            raise error from None
        return None


def _fit(path: Path, source_format: str, options: Options) -> Iterator[str]:
    """Which of our models a checkpoint is or starts, or why none."""
    try:
        found = FORMATS[source_format].read(path, options)
        yield f"fits: {found.system}, {', '.join(_shipped_sizes(found.system, found.config)) or 'a size of its own'}"
        yield f"heads: {', '.join(found.heads) or 'none'}"
        yield from found.notes
        if found.unused:
            yield f"no place in the model ({len(found.unused)}): {', '.join(found.unused)}"
    except UnimoError as error:
        yield f"fits no model as it is: {error}"


def diff(one: Path, other: Path, options: Options | None = None) -> tuple[list[str], bool]:
    """Compare two checkpoints: sizes and heads where both tell them, then tensor by tensor, by their own names where
    their formats agree or one has none, else by ours.

    Returns:
        What differs, one key or tensor a line, and whether nothing does.
    """
    formats = _told(one), _told(other)
    left: Mapping[str, Stored]
    right: Mapping[str, Stored]
    if formats[0] == formats[1] or formats[0] is None or formats[1] is None:
        left, right = own_tensors(one, formats[0]), own_tensors(other, formats[1])
    else:
        asked = options or Options()
        read = FORMATS[formats[0]].read(one, asked), FORMATS[formats[1]].read(other, asked)
        if read[0].system != read[1].system:
            raise ConfigError(f"{one} is of {read[0].system}, {other} of {read[1].system}: they share no names")
        left, right = read[0].tensors, read[1].tensors
    sizes = [_sizes_and_heads(path, form, options or Options()) for form, path in zip(formats, (one, other))]
    lines = []
    if all(sizes) and sizes[0].keys() == sizes[1].keys():
        lines += [f"{key}: {a!r} and {sizes[1][key]!r}" for key, a in sizes[0].items() if a != sizes[1][key]]
    lines += [f"only in {one}: {name} {list(left[name].shape)}" for name in left if name not in right]
    lines += [f"only in {other}: {name} {list(right[name].shape)}" for name in right if name not in left]
    equal = 0
    for name in left:
        if name not in right:
            continue
        a, b = left[name], right[name]
        if a.shape != b.shape:
            lines.append(f"{name}: shape {list(a.shape)} and {list(b.shape)}")
        elif a.dtype == b.dtype and np.array_equal(_bytes(a), _bytes(b)):
            equal += 1
        else:
            lines.append(f"{name}: {_difference(a, b)}")
    same = not lines
    return [*lines, f"{equal} tensors are bit-equal" + ("" if same else f", {len(lines)} differ")], same


def _sizes_and_heads(path: Path, source_format: str | None, options: Options) -> dict[str, Any]:
    """What decides how the tensors compute; empty where the checkpoint does not tell."""
    try:
        found = FORMATS[source_format].read(path, options) if source_format else None
    except UnimoError:  # tensors can be compared without
        return {}
    return {"heads": found.heads, **found.config.model_dump()} if found else {}


def own_tensors(path: Path, source_format: str | None) -> dict[str, Stored]:
    """The tensors of a checkpoint under its own names."""
    if source_format == "release":
        return {name: open_variable(file) for name, file in list_variables(path)[0].items()}
    if source_format == "release-combined":
        return {f"{i}": record for i, record in enumerate(open_combined(path))}
    return dict(open_tensors(locate(path) / folders.MODEL if source_format == "unimo" else path))


def _bytes(tensor: Stored) -> np.ndarray:
    """Its values in C order; as bytes, NaN equals NaN and 0.0 is not -0.0."""
    return np.ascontiguousarray(tensor.read()).reshape(-1).view(np.uint8)


def _difference(a: Stored, b: Stored) -> str:
    left, right = a.read().astype(np.float64), b.read().astype(np.float64)
    types = "" if a.dtype == b.dtype else f" ({a.dtype.name} and {b.dtype.name})"
    largest = np.abs(left - right).max() if left.size else 0.0
    return f"largest difference {largest:.3e} of values up to {np.abs(left).max(initial=0):.3e}{types}"


@dataclass(frozen=True)
class Statistics:
    """Of a tensor's finite values, in float64."""

    mean: float
    std: float
    low: float
    high: float
    non_finite: int

    def line(self) -> str:
        """Mean, deviation, lowest and highest in columns of one width."""
        return " ".join(f"{value:10.3g}" for value in (self.mean, self.std, self.low, self.high))


def _statistics(array: np.ndarray) -> Statistics:
    finite = np.isfinite(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)
    values = array[finite] if not finite.all() else array
    if not values.size:
        nan = float("nan")
        return Statistics(nan, nan, nan, nan, int((~finite).sum()))
    low, high = float(values.min()), float(values.max())
    return Statistics(
        float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64)), low, high, int((~finite).sum())
    )


def _shipped_sizes(system: str, config: Any) -> list[str]:
    """Names of the sizes in model_configs/models that have the same shapes."""
    prefix = system.replace("-", "") + "_"
    return [
        path.stem
        for path in sorted(SIZES.glob(f"{prefix}*.yaml"))
        if _sizes(load(SYSTEMS[system].config, path)) == _sizes(config)
    ]


def _sizes(config: Any) -> dict[str, Any]:
    """What of a config decides shapes; the label count is a task's."""
    kept = ("size", "layers", "heads", "embeddings", "resolution", "codebook")
    return {k: v for k, v in config.model_dump().items() if k.endswith(kept) and k != "image_class_size"}
