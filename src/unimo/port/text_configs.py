"""Sizes of a text encoder: the config.json of another library <-> our config."""

from collections.abc import Mapping
from typing import Any

from unimo.config import Config, validate
from unimo.errors import CheckpointError
from unimo.models.systems import SYSTEMS
from unimo.port.library_folder import model_type
from unimo.port.names.text_names import Library
from unimo.readers.captions import FIRST_POSITION
from unimo.readers.tokenizer import Tokenizer

# keys that our configs share with the libraries'; UNIMO-2 has one of each kind below for each of its stacks
_SHARED = ("hidden_size", "initializer_range", "layer_norm_eps")
_STACK = ("num_hidden_layers", "num_attention_heads", "hidden_dropout_prob", "attention_probs_dropout_prob")
_TABLES = ("vocab_size", "max_position_embeddings")
# keys of theirs that are counted with before a config of ours checks them
_WHOLE = ("hidden_size", "num_hidden_layers", "num_attention_heads", *_TABLES, "type_vocab_size", "pad_token_id")


def check_system(library: Library, system: str, source: object) -> None:
    """Raise a CheckpointError about `source` if a system of ours has no text encoder that stands alone."""
    if system not in ("unimo", "unimo-2"):
        raise CheckpointError(
            f"{source}: {library.name} has a place in UNIMO and UNIMO-2 (unimo, unimo-2), not in {system}"
        )


def text_sizes(system: str, config: Any) -> dict[str, Any]:
    """Sizes of a model's text encoder under the libraries' names; positions are still ours."""
    prefix = "" if system == "unimo" else "text_"
    sizes = {key: getattr(config, key) for key in _SHARED}
    sizes |= {key: getattr(config, prefix + key) for key in (*_STACK, *_TABLES)}
    plain = {"hidden_act": "gelu", "type_vocab_size": 0}  # what UNIMO-2 does not name
    return sizes | {key: getattr(config, key, value) for key, value in plain.items()}


def our_config(system: str, theirs: Mapping[str, Any], first: int, source: str) -> Config:
    """Our config for an encoder of theirs; UNIMO-2's other stacks take its width, depth and heads.

    Args:
        first: row of a text's first token in its position table.

    Raises:
        ConfigError: a value that we cannot have.
    """
    values = {key: theirs[key] for key in (*_SHARED, *_STACK)}
    tables = {"vocab_size": theirs["vocab_size"]}
    tables["max_position_embeddings"] = theirs["max_position_embeddings"] + FIRST_POSITION - first
    if system == "unimo":
        types = theirs["type_vocab_size"] if theirs["type_vocab_size"] > 1 else 0  # one row goes into the positions
        values |= tables | {"type_vocab_size": types, "hidden_act": theirs["hidden_act"]}
    else:
        values |= {f"text_{key}": value for key, value in tables.items()}
        values |= {f"text_{key}": theirs[key] for key in _STACK} | {f"vit_{key}": theirs[key] for key in _STACK[:2]}
    return validate(SYSTEMS[system].config, values, source)


def their_config(library: Library, system: str, config: Any, lm: bool, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """The library's config.json for the text encoder of a model."""
    sizes = text_sizes(system, config)
    theirs = {
        "architectures": [library.architectures[lm]],
        "model_type": library.model_type,
        **{key: values[0] for key, values in library.fixed.items()},
        **sizes,
        "intermediate_size": 4 * sizes["hidden_size"],
        "type_vocab_size": sizes["type_vocab_size"] or library.type_rows,
        **(library.special_ids(tokenizer) if tokenizer else {}),
    }
    first = library.first_position({**library.defaults, **theirs})
    theirs["max_position_embeddings"] += first - FIRST_POSITION
    return theirs


def other_kind(library: Library, theirs: Mapping[str, Any]) -> list[str]:
    """The problem of a config that states another model type than the library's: its positions may start elsewhere."""
    kind = model_type(theirs, library.model_types)
    if kind is None or kind in library.model_types:
        return []
    return [f"config.json is of model type {kind!r}, {library.name} is {' or '.join(map(repr, library.model_types))}"]


def misfits(library: Library, theirs: Mapping[str, Any]) -> list[str]:
    """Problems of a config of the library's: what a text encoder of ours cannot be."""
    wrong = [f"{key}: {str(theirs[key])[:100]!r}, expected a whole number" for key in _WHOLE if not _whole(theirs, key)]
    if wrong:
        return wrong
    fixed = {**library.fixed, "intermediate_size": (4 * theirs["hidden_size"],)}
    return [
        f"{key}: {theirs[key]!r}, expected {' or '.join(map(repr, values))}"
        for key, values in fixed.items()
        if theirs.get(key, values[0]) not in values
    ]


def _whole(theirs: Mapping[str, Any], key: str) -> bool:
    return key not in theirs or type(theirs[key]) is int


def differences(system: str, config: Any, theirs: Mapping[str, Any]) -> list[str]:
    """Problems of a pair of configs that the shapes of tensors do not show."""
    ours = text_sizes(system, config)
    keys = ("num_attention_heads", "hidden_act")
    return [f"{key}: {theirs[key]!r}, expected {ours[key]!r}" for key in keys if theirs[key] != ours[key]]


def epsilon_note(library: Library, config: Any, theirs: Mapping[str, Any]) -> list[str]:
    """A note where the two layer norms differ: they do so in the sixth digit or so of a state."""
    ours, other = config.layer_norm_eps, theirs["layer_norm_eps"]
    return [f"layer_norm_eps is {ours}, {library.name}'s is {other}"] if ours != other else []
