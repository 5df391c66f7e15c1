"""The scene graph in a record of rewrites.jsonl: objects of a caption, their attributes, relations between them."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from unimo.readers.annotations import Record, problem

Kind = Literal["object", "attribute", "relation"]


class Node(Record):
    """A node of a scene graph; `span` is [start, end) in characters of the caption."""

    text: str
    lemma: str = ""
    word_class: str = Field("", alias="class")
    span: list[int] | None = Field(None, min_length=2, max_length=2)

    @property
    def title(self) -> str:
        """What a person may want to know of it besides its text."""
        return ", ".join(word for word in (self.word_class, self.lemma) if word)


class Attribute(Node):
    """A property of an object, which is given by its place among the objects."""

    object: int = Field(ge=0)


class Relation(Attribute):
    """Two objects, given by their places, and what is between them."""

    subject: int = Field(ge=0)


class SceneGraph(Record):
    """A graph as `rewrite build` writes it (data_prep.rewrite.graphs); all empty where there was no rewriting."""

    objects: list[Node] = []
    attributes: list[Attribute] = []
    relations: list[Relation] = []

    @model_validator(mode="after")
    def _ends_exist(self) -> "SceneGraph":
        ends = [a.object for a in self.attributes + self.relations] + [r.subject for r in self.relations]
        if max(ends, default=-1) >= len(self.objects):
            raise ValueError(f"object {max(ends)} is named, there are {len(self.objects)}")
        return self

    def nodes(self) -> list[tuple[Kind, Node]]:
        """All nodes, by kind."""
        kinds: dict[Kind, Sequence[Node]]
        kinds = {"object": self.objects, "attribute": self.attributes, "relation": self.relations}
        return [(kind, node) for kind, nodes in kinds.items() for node in nodes]

    def described(self) -> list[tuple[str, list[str]]]:
        """Each object's text with those of its attributes."""
        return [(o.text, [a.text for a in self.attributes if a.object == i]) for i, o in enumerate(self.objects)]

    def triples(self) -> list[tuple[str, str, str]]:
        """Subject, relation and object of each relation, as texts."""
        return [(self.objects[r.subject].text, r.text, self.objects[r.object].text) for r in self.relations]


def read_graph(graph: dict) -> tuple[SceneGraph, str | None]:
    """The graph of a record, or an empty one and what is wrong with it."""
    try:
        return SceneGraph.model_validate(graph), None
    except ValidationError as error:
        return SceneGraph(), problem(error.errors(include_url=False)[0])
