"""Paraphrases (X+): captions translated there and back, or put otherwise by rules, where only the wording changed.

Machine translation slips in ways that a sentence encoder hardly sees: a lit sail for a lit candle, a bag of paper for a
paper bag. So a paraphrase must also hold the caption's content words, word by word, or others that WordNet says are
alike; numbers, negations, pronouns, prepositions and the order of neighbouring content words stay. Rules
(data_prep/rewrite/patterns.py) keep them by what they are; of both, the sentence vectors must be close.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.near_duplicates import normalise
from data_prep.progress import Progress, Record
from data_prep.rewrite.graphs import Parser
from data_prep.rewrite.meaning import SentenceEncoder
from data_prep.rewrite.patterns import FRAME, patterns
from data_prep.rewrite.translate import Engine
from data_prep.rewrite.wordnet import WordNet
from unimo.errors import DataError

FILTER = 4  # version of the rules below; what an earlier one kept is made again
BATCH = 256  # captions translated at a time; also the most that a kill can lose
LONGEST = 50  # letters of a word; of one with a thousand, a network makes a thousand tokens and takes seconds
PATTERNS = "patterns"  # what stands as the engine of what our rules made
CONTENT = {"NOUN": "n", "PROPN": "n", "ADJ": "a", "VERB": "v", "NUM": "n"}  # -> WordNet's parts of speech
VAGUE = ("be", "do", "get", "have", "make", "take")  # alike to nearly everything
NEGATIONS = ("no", "not", "n't", "never", "without", "nor", "none")
RELATIVES = ("that", "which", "who")
EQUAL = {"within": "in", "inside": "in", "upon": "on", "atop": "on", "beneath": "under", "below": "under"}


@dataclass(frozen=True)
class Word:
    """A token of a sentence."""

    text: str
    lemma: str
    pos: str  # universal part of speech
    tag: str  # Penn Treebank's


class Paraphraser:
    """Engines and the filter over what they give.

    Args:
        similarity: least cosine of the sentence vectors.
    """

    def __init__(
        self, engines: Sequence[Engine], parser: Parser, wordnet: WordNet, encoder: SentenceEncoder, similarity: float
    ):
        self.engines, self.parser, self.wordnet = engines, parser, wordnet
        self.encoder, self.similarity = encoder, similarity

    def find(self, captions: Sequence[str], store: Path) -> dict[str, list[Record]]:
        """Caption -> its paraphrases, best first, each text once: {"text", "engine", "similarity"}, for rules "rule".

        Best are those of translation, then those of a rule; a mere frame ("There is") counts where nothing else is.
        What was made is kept beside `store`, as it comes, whatever its similarity.

        Raises:
            DataError: an engine failed, or its file cannot be written.
        """
        found: dict[str, list[Record]] = {caption: [] for caption in captions}
        sources: list[tuple[str, dict[str, Any], Callable[[list[str]], dict[str, list[Record]]]]] = [
            (engine.name, engine.description, partial(self._translated, engine)) for engine in self.engines
        ]
        for name, description, make in (*sources, (PATTERNS, {}, self._put_otherwise)):
            kept = self._keep(name, description, make, list(found), store.with_suffix(f".{name}.jsonl"))
            for caption, made in kept.items():
                for one in sorted(made, key=lambda one: (one.get("rule") == FRAME, -one["similarity"])):
                    seen = {normalise(other["text"]) for other in (*found[caption], {"text": caption})}
                    needed = one.get("rule") != FRAME or all(o.get("rule") == FRAME for o in found[caption])
                    if needed and one["similarity"] >= self.similarity and normalise(one["text"]) not in seen:
                        found[caption].append({"text": one["text"], "engine": name, **one})
        return {caption: sorted(records, key=lambda r: r["engine"] == PATTERNS) for caption, records in found.items()}

    def _keep(
        self,
        name: str,
        description: dict[str, Any],
        make: Callable[[list[str]], dict[str, list[Record]]],
        captions: list[str],
        store: Path,
    ) -> dict[str, list[Record]]:
        """Caption -> what was made of it and how similar that is, where its words keep the meaning."""
        work = {name: description, "filter": FILTER, "encoder": self.encoder.package.sha256}
        progress = Progress(store, work | self.parser.version)
        done = {record["caption"] for record in progress.done}
        todo = [caption for caption in captions if caption not in done]
        with tqdm(total=len(todo), desc=name, unit="caption") as bar:
            for first in range(0, len(todo), BATCH):
                batch = todo[first : first + BATCH]
                made = make(batch)
                progress.add([{"caption": caption, "made": made.get(caption, [])} for caption in batch])
                bar.update(len(batch))
        kept = {record["caption"]: record["made"] for record in progress.done}
        return {caption: kept[caption] for caption in captions if kept.get(caption)}

    def _put_otherwise(self, captions: list[str]) -> dict[str, list[Record]]:
        """Caption -> what our rules make of it."""
        found = {}
        for caption, document in zip(captions, self.parser.read(captions)):
            made = list(patterns(document, self.wordnet, self.encoder.same))
            if made:
                own = self.encoder(caption)
                found[caption] = [
                    {"text": text, "rule": rule, "similarity": round(float(own @ self.encoder(text)), 4)}
                    for rule, text in made
                ]
        return found

    def _translated(self, engine: Engine, captions: list[str]) -> dict[str, list[Record]]:
        """Those of the captions whose words changed and whose meaning did not."""
        lines = {caption: " ".join(caption.split()) for caption in captions}
        usable = [c for c, line in lines.items() if normalise(line) and len(max(line.split(), key=len)) <= LONGEST]
        made = engine.there_and_back([lines[caption] for caption in usable])
        if len(made) != len(usable):
            raise DataError(f"{engine.name} made {len(made)} sentences of {len(usable)}; expected one of each")
        changed = [(c, text) for c, text in zip(usable, made) if normalise(text) not in ("", normalise(lines[c]))]
        own = self.parser.read([lines[caption] for caption, _ in changed])
        others = self.parser.read([text for _, text in changed])
        return {
            caption: [{"text": text, "similarity": self.encoder.likeness(lines[caption], text)}]
            for (caption, text), one, other in zip(changed, own, others)
            if keeps_meaning(words(one), words(other), self.wordnet)
        }


def words(document: Any) -> list[Word]:
    """The tokens of one of spaCy's documents, without punctuation."""
    return [Word(t.text, t.lemma_.lower(), t.pos_, t.tag_) for t in document if not t.is_punct and not t.is_space]


def keeps_meaning(caption: Sequence[Word], paraphrase: Sequence[Word], wordnet: WordNet) -> bool:
    """Whether a paraphrase says what the caption says, as far as its words tell."""
    clause = _count(paraphrase, RELATIVES) > _count(caption, RELATIVES)  # "a man reading" has become "a man who reads"
    gone, new = (_missing(one, other, clause) for one, other in ((caption, paraphrase), (paraphrase, caption)))
    pairs = (pair for sentence in (caption, paraphrase) for pair in zip(sentence, sentence[1:]))
    if any((a in gone or b in gone) and wordnet.has(f"{a.lemma} {b.lemma}") for a, b in pairs):
        return False  # a top hat is no upper hat
    capitals = {word.text for word in caption if word.text[0].isupper()}
    return (
        _covered(gone, new, clause, wordnet)
        and _covered(new, gone, clause, wordnet)
        and _small_words(caption) == _small_words(paraphrase)
        and _count(paraphrase, ("of",)) <= _count(caption, ("of", "'s", "’s", "'"))
        and _in_order(caption, paraphrase)
        and not any(a.lemma in ("a", "an", "one") and b.tag == "NNS" for a, b in zip(paraphrase, paraphrase[1:]))
        and all(word.text in capitals for word in paraphrase[1:] if word.text[0].isupper())
    )


def _count(sentence: Sequence[Word], lemmas: Sequence[str]) -> int:
    return sum(word.lemma in lemmas for word in sentence)


def _form(word: Word, clause: bool) -> str:
    """What must be equal besides the meaning: number, degree and tense; "reading" may have become "that reads"."""
    if word.tag in ("NNS", "NNPS"):
        return "plural"
    if clause and word.tag in ("VBG", "VBZ", "VBP"):
        return "present"
    return {"VBP": "VB"}.get(word.tag, word.tag) if word.tag.startswith("VB") or word.tag in ("JJR", "JJS") else ""


def _missing(one: Sequence[Word], other: Sequence[Word], clause: bool) -> list[Word]:
    """Content words of one sentence that the other lacks, in this form."""
    rest = Counter((word.lemma, _form(word, clause)) for word in other)
    missing = []
    for word in (word for word in one if word.pos in CONTENT):
        key = word.lemma, _form(word, clause)
        if not rest[key]:
            missing.append(word)
        rest[key] -= 1
    return missing


def _covered(missing: Sequence[Word], by: Sequence[Word], clause: bool, wordnet: WordNet) -> bool:
    """Whether each of these words has one of the other sentence's that is like it; names and numbers never have."""

    def like(word: Word, other: Word) -> bool:
        same_form = _form(word, clause) == _form(other, clause)
        return same_form and wordnet.alike(word.lemma, CONTENT[word.pos], other.lemma, CONTENT[other.pos])

    fixed = any(word.pos in ("PROPN", "NUM") or word.lemma in VAGUE for word in missing)
    return not fixed and all(any(like(word, other) for other in by) for word in missing)


def _small_words(sentence: Sequence[Word]) -> Counter:
    """Negations, auxiliaries, pronouns, prepositions and degrees: a rule or a network easily takes the wrong one."""
    counts: Counter = Counter()
    for word in sentence:
        if word.pos == "AUX":
            counts[word.lemma, word.tag] += 1  # "has" is not "have"
        elif word.lemma in NEGATIONS or word.tag in ("RBR", "RBS"):
            counts[word.lemma] += 1
        elif word.pos in ("PRON", "ADP") and word.lemma not in ("of", *RELATIVES):
            counts[EQUAL.get(word.lemma, word.lemma)] += 1
    return counts


def _in_order(caption: Sequence[Word], paraphrase: Sequence[Word]) -> bool:
    """Whether content words in a row keep their order: a racket of blue tennis is no blue tennis racket."""
    count = Counter(word.lemma for word in paraphrase)
    place = {word.lemma: i for i, word in enumerate(paraphrase) if count[word.lemma] == 1}
    for is_content, run in groupby(caption, key=lambda word: word.pos in CONTENT):
        places = [place[word.lemma] for word in run if word.lemma in place] if is_content else []
        if places != sorted(places):
            return False
    return True
