"""How other libraries keep a text encoder: names of its tensors, and where it differs from ours, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unimo.port.weights import Stored, Table
from unimo.readers.tokenizer import Tokenizer

POSITIONS, TYPES = "position_embedding.weight", "type_embedding.weight"


@dataclass(frozen=True)
class Library:
    """One library. Names of its tensors are those without `prefix`; {i} counts layers."""

    name: str
    model_type: str  # what its config.json calls it
    classes: str  # what the names of its classes begin with
    architectures: tuple[str, str]  # its classes without and with the masked LM
    prefix: str  # in front of the encoder's names where a head stands beside the encoder
    embeddings: Table  # our parameter -> theirs, but for positions and types
    layer: Table
    head: Table  # the masked LM
    copies: Mapping[str, str]  # tensors that repeat another one, as tied weights do: copy -> original
    positions: str
    types: str
    type_rows: int  # of the zeros that stand for types where we have none
    torch: bool  # weights of affine maps are [out, in]
    defaults: Mapping[str, Any]  # of keys that its config.json may lack
    fixed: Mapping[str, tuple[Any, ...]]  # values of its config.json that we can be
    first_position: Callable[[Mapping[str, Any]], int]  # row of a text's first token, by its config
    special_ids: Callable[[Tokenizer], dict[str, int]]  # keys of its config.json
    write_vocabulary: Callable[[Path, Tokenizer], list[str]]  # returns notes
    modern: Callable[[str], str] = str  # today's name of a tensor from that of an older file
    same: Mapping[str, str] = field(default_factory=dict)  # other model types of the same function -> their classes

    @property
    def model_types(self) -> dict[str, str]:
        """The model types that this is the function of, and what the names of their classes begin with."""
        return {self.model_type: self.classes, **self.same}

    @property
    def layer_prefix(self) -> str:
        """What the names of a layer's tensors begin with, before its number."""
        return next(iter(self.layer.values()))[0].partition("{i}")[0]

    def count_layers(self, stored: Mapping[str, Stored]) -> int:
        """How many layers the tensors belong to."""
        start = self.layer_prefix
        return len({name.removeprefix(start).partition(".")[0] for name in stored if name.startswith(start)})

    def holds_head(self, stored: Mapping[str, Stored]) -> bool:
        """Whether a masked LM, or a part of one, is among the tensors."""
        return any(name in stored for group in self.head.values() for name in group)

    def name_table(self, system: str, layers: int, lm: bool) -> dict[str, tuple[str, ...]]:
        """Our parameters, but for positions and types -> theirs, of the first `layers` layers."""
        table = {
            ours.format(i=i): tuple(their.format(i=i) for their in theirs)
            for i in range(layers)
            for ours, theirs in self.layer.items()
        }
        table = {**self.embeddings, **table, **(self.head if lm else {})}
        return {our_name(system, ours): theirs for ours, theirs in table.items()}


def both(ours: str, *theirs: str) -> dict[str, tuple[str, ...]]:
    """The rows of an affine map or a layer norm: a weight and a bias."""
    return {f"{ours}.{kind}": tuple(f"{their}.{kind}" for their in theirs) for kind in ("weight", "bias")}


def our_name(system: str, name: str) -> str:
    """A parameter of UNIMO's text side as `system` calls it."""
    if system == "unimo" or name.startswith("lm."):
        return name
    return "text." + name.replace("text_norm.", "norm.")
