"""The Faster R-CNN of Hugging Face's LXMERT example, `unc-nlp/frcnn-vg-finetuned`, <-> our `models.faster_rcnn`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from unimo.config import validate
from unimo.engine.checkpoint import MODEL
from unimo.errors import CheckpointError, ConfigError
from unimo.models.faster_rcnn import FasterRCNNConfig
from unimo.models.systems import skeleton
from unimo.port.files.tensor_files import open_tensors
from unimo.port.interchange import Checkpoint, Options, given_config
from unimo.port.names.frcnn_lxmert_names import COUNTERS, FIXED, KEYS, UNUSED, name_table
from unimo.port.weights import gather, linear_weights, problems, refuse, scatter, shapes_of
from unimo.storage.atomic import new_folder
from unimo.storage.safetensors_writer import write_safetensors_to

SYSTEM, SIZES = "bottom-up-attention", "config.yaml"
_MOST_BYTES = 1 << 20  # of config.yaml; the published one has some 5 kB
_NESTED = ("anchor_sizes", "anchor_ratios")  # a list for each feature map, of which there is one


def read(path: Path, options: Options) -> Checkpoint:
    """A folder with pytorch_model.bin and config.yaml, or the file of weights in one.

    Raises:
        CheckpointError: damaged, hostile, or not this network; all that is missing, unexpected or of another shape is
            listed at once.
        ConfigError: `options` for another system, or values of the config.yaml that no network can have.
    """
    if options.system not in (None, SYSTEM):
        raise ConfigError(f"{path}: a Faster R-CNN is of system {SYSTEM}, not {options.system}")
    stored = open_tensors(path)
    config, notes = _config(path, options)
    model, table = skeleton(SYSTEM, config, ()), name_table(config)
    shapes, transposed = shapes_of(model), linear_weights(model)
    wrong = problems(table, stored, shapes, transposed)
    used = {name for (name,) in table.values()}
    rest = [name for name in stored if name not in used]
    wrong += [f"{name}: unexpected" for name in rest if not name.endswith(COUNTERS)]
    refuse(path, wrong)
    if rest:
        notes.append(f"{len(rest)} counters *{COUNTERS} are left out: they compute nothing")
    return Checkpoint(SYSTEM, config, (), gather(table, stored, shapes, transposed), notes=tuple(notes))


def write(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """Write config.yaml and model.safetensors with the names and sizes of the source.

    Its `from_pretrained` reads pytorch_model.bin only: `load_state_dict(safetensors.torch.load_file(...))` takes these.
    """
    if checkpoint.system != SYSTEM:
        raise ConfigError(f"{checkpoint.system} is no Faster R-CNN; expected {SYSTEM}")
    config = checkpoint.config
    tensors = scatter(name_table(config), checkpoint.tensors, linear_weights(skeleton(SYSTEM, config, ())))
    with new_folder(folder) as temporary:
        shapes = {name: (tensor.dtype.name, list(tensor.shape)) for name, tensor in tensors.items()}
        with open(temporary / MODEL, "wb") as file:
            write_safetensors_to(file, shapes, (tensor.read() for tensor in tensors.values()), {"format": "pt"})
        (temporary / SIZES).write_text(yaml.safe_dump(_theirs(config)), encoding="utf-8")
    return ["config.yaml: what only training reads has Detectron's values"]


def _config(path: Path, options: Options) -> tuple[FasterRCNNConfig, list[str]]:
    """The sizes that the user gave, else those of config.yaml, else the published detector's; and notes."""
    if options.config:
        return given_config(options.config, SYSTEM, path), []
    file = (path if path.is_dir() else path.parent) / SIZES
    if not file.is_file():
        return FasterRCNNConfig(), [f"no {SIZES} beside the weights: the published detector's constants were taken"]
    found = _flat(_read_yaml(file))
    expected = FIXED | {"RESNETS.RES2_OUT_CHANNELS": 4 * _number(found.get("RESNETS.WIDTH_PER_GROUP"))}
    wrong = [
        f"{key} is {found[key]!r}, expected {value!r}"
        for key, value in expected.items()
        if key in found and found[key] != value
    ]
    values = {ours: found[key] for ours, key in KEYS.items() if key in found}
    for name in _NESTED:
        maps = values.get(name, [[]])
        if not isinstance(maps, list) or len(maps) != 1 or not isinstance(maps[0], list):
            wrong.append(f"{KEYS[name]} is {maps!r}, expected a list of one list")
        elif name in values:
            values[name] = maps[0]
    if "blue_first" in values:  # the source reads a file red first, and turns the channels round for "RGB"
        values["blue_first"] = values["blue_first"] == "RGB"
    if "lxmert_overlaps" in values and not isinstance(values["lxmert_overlaps"], list):
        values["lxmert_overlaps"] = [values["lxmert_overlaps"]]
    refuse(file, wrong)
    absent = [key for key in KEYS.values() if key not in found]
    notes = [f"not in {SIZES}, the published detector's were taken: {', '.join(absent)}"] if absent else []
    config = validate(FasterRCNNConfig, values, source=str(file))
    if not config.blue_first:
        notes.append(
            f"INPUT.FORMAT is {found['INPUT.FORMAT']!r}: as in the source, pictures are read red first. Caffe's "
            "weights were trained blue first: if these are, give the sizes with `blue_first: true` by --config"
        )
    return config, notes


def _theirs(config: FasterRCNNConfig) -> dict[str, Any]:
    """The inverse of `_config`, nested."""
    values = {key: getattr(config, ours) for ours, key in KEYS.items()}
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    values |= {KEYS[name]: [values[KEYS[name]]] for name in _NESTED}
    values[KEYS["blue_first"]] = "RGB" if config.blue_first else "BGR"
    values |= FIXED | UNUSED | {"RESNETS.RES2_OUT_CHANNELS": 4 * config.width}
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *section, name = key.lower().split(".")
        (nested.setdefault(section[0], {}) if section else nested)[name] = value
    return nested


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        values = yaml.safe_load(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"a {type(values).__name__}")
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise CheckpointError(f"{path} is not the detector's config, `section: {{key: value}}`: {error}") from error
    return values


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """SECTION.KEY -> value."""
    flat: dict[str, Any] = {}
    for section, content in values.items():
        if isinstance(content, dict):
            flat |= {f"{section}.{key}".upper(): value for key, value in content.items()}
        else:
            flat[str(section).upper()] = content
    return flat


def _number(value: Any) -> int:
    return value if isinstance(value, int) else FasterRCNNConfig().width
