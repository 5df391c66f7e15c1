"""The checkpoint formats by name, what reads and writes them, and how to tell which one a path is."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from unimo.engine import checkpoint as folders
from unimo.engine.model_folder import CONFIG
from unimo.errors import CheckpointError, ConfigError, DataError
from unimo.port import bert, frcnn_lxmert, ours, paddlenlp, release, roberta, vit
from unimo.port.files.tensor_files import WEIGHT_FILES, kind_of, open_tensors
from unimo.port.interchange import Checkpoint, Options
from unimo.port.library_folder import model_type
from unimo.storage.json_files import read_json

Write = Callable[[Path, Checkpoint], list[str]]  # returns notes for people


class Format(NamedTuple):
    """One way to keep a checkpoint on disk."""

    about: str
    read: Callable[[Path, Options], Checkpoint]
    write: Write
    takes: tuple[str, ...]  # which Options reading it uses
    tokenizer: bool = False  # whether it holds a vocabulary


_ENCODER = ("system", "config")
FORMATS = {
    "unimo": Format(
        "a model folder or run of this toolkit", ours.read_folder, ours.write_folder, ("optimizer",), tokenizer=True
    ),
    "safetensors": Format("one file of this toolkit's names", ours.read_file, ours.write_safetensors_file, ("config",)),
    "pdparams": Format("the same, as paddle.save writes it", ours.read_file, ours.write_pdparams_file, ("config",)),
    "release": Format(
        "the releases' folder of one file a variable",
        release.read_release,
        release.write_release,
        ("config", "optimizer"),
    ),
    "release-combined": Format(
        "all variables of a release in one file",
        release.read_combined,
        release.write_release_combined,
        ("config", "names", "optimizer"),
    ),
    "paddlenlp": Format("PaddleNLP's UNIMOModel folder", paddlenlp.read, paddlenlp.write, _ENCODER, tokenizer=True),
    "roberta": Format(
        "Hugging Face RoBERTa folder: starts a text side", roberta.read, roberta.write, _ENCODER, tokenizer=True
    ),
    "bert": Format(
        "Hugging Face BERT or MiniLM folder: starts a text side", bert.read, bert.write, _ENCODER, tokenizer=True
    ),
    "vit-hf": Format("Hugging Face ViT folder: starts an image side", vit.read_hf, vit.write_hf, _ENCODER),
    "vit-timm": Format("timm ViT: starts an image side", vit.read_timm, vit.write_timm, _ENCODER),
    "vit-npz": Format("Google's ViT .npz: starts an image side", vit.read_npz, vit.write_npz, _ENCODER),
    "frcnn-lxmert": Format(
        "the region detector of Hugging Face's LXMERT example", frcnn_lxmert.read, frcnn_lxmert.write, _ENCODER
    ),
}


_TEXT = {"roberta": roberta.ROBERTA, "bert": bert.BERT, "paddlenlp": paddlenlp.PADDLENLP}
# what a config.json may say -> format, by the whole name: ELECTRA and DistilBERT are no BERT
_MODEL_TYPES = {kind: name for name, library in _TEXT.items() for kind in library.model_types}
_MODEL_TYPES |= dict.fromkeys(vit.MODEL_TYPES, "vit-hf")
_CLASSES = {k: start for library in _TEXT.values() for k, start in library.model_types.items()} | vit.MODEL_TYPES


def check_options(name: str, options: Options) -> None:
    """Raise a ConfigError about options that reading this format does not use."""
    idle = [field for field in ("config", "names") if getattr(options, field) and field not in FORMATS[name].takes]
    if idle:
        users = {field: [form for form in FORMATS if field in FORMATS[form].takes] for field in idle}
        lines = [f"--{field} is for {', '.join(forms)}" for field, forms in users.items()]
        raise ConfigError(f"{name} does not use what was given: {'; '.join(lines)}")


def check_names(*names: str | None) -> None:
    """Raise a ConfigError if any of the names is no format; None stands for one that its contents will tell."""
    unknown = [name for name in names if name and name not in FORMATS]
    if unknown:
        raise ConfigError(f"unknown format {', '.join(unknown)}; expected one of {', '.join(FORMATS)}")


def detect(path: Path) -> str:
    """The format of what lies at `path`.

    Raises:
        CheckpointError: nothing is there, or nothing that this toolkit knows.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; expected a checkpoint file or folder")
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if found is None:
        raise CheckpointError(
            f"{path} is none of the formats that can be told from their contents{_stated(path)}; name it by --from of "
            f"`unimo port`: {', '.join(FORMATS)}"
        )
    return found


def _stated(path: Path) -> str:
    """For a message: the model type that a folder states and this toolkit does not know."""
    kind = _kind(path if path.is_dir() else path.parent)
    known = kind is None or kind in _MODEL_TYPES
    return "" if known else f" (its config.json is of model type {kind!r}, known are {', '.join(_MODEL_TYPES)})"


def _of_folder(path: Path) -> str | None:
    config = _json(path / CONFIG) | _json(path / "model_config.json")
    if "system" in config or folders.find_latest(path) is not None:
        return "unimo"
    kind = _kind(path)
    if kind in _MODEL_TYPES:
        return _MODEL_TYPES[kind]
    if any((path / name).is_file() for name in release.MARKS):
        return "release"
    weights = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None)
    return None if weights is None else _of_names(open_tensors(weights), weights.suffix)


def _kind(path: Path) -> str | None:
    """The model type that the config of a library's folder states."""
    return model_type(_json(path / CONFIG) or _json(path / "model_config.json"), _CLASSES)


def _of_file(path: Path) -> str | None:
    if path.suffix == ".npz":
        return "vit-npz"
    if path.suffix not in (".safetensors", ".pdparams", ".bin", ".pt", ".pth"):
        return "release-combined" if kind_of(path) == "variable" else None
    found = _of_names(open_tensors(path), path.suffix)
    return found or (_of_folder(path.parent) if (path.parent / CONFIG).is_file() else None)


def _of_names(names: Collection[str], suffix: str) -> str | None:
    """The format of a file of tensors that its names alone tell."""
    if any(name.endswith(".attn.qkv.weight") for name in names):
        return "vit-timm"
    if "proposal_generator.rpn_head.conv.weight" in names:
        return "frcnn-lxmert"
    if any(name.endswith("attention.qkv.weight") for name in names):
        return "pdparams" if suffix == ".pdparams" else "safetensors"
    return None


def _json(path: Path) -> dict:
    """A file's json object; empty for whatever else is there: it tells no format then."""
    try:
        return read_json(path)
    except DataError:
        return {}
