"""Paraphrases (X+): captions translated there and back, kept where wording changed and meaning did not.

Machine translation slips in ways that a sentence encoder hardly sees: a lit sail for a lit candle, a bag of paper for a
paper bag. So a paraphrase must also hold the caption's content words, word by word, or others that WordNet says are
alike; numbers, negations, pronouns, prepositions and the order of neighbouring content words stay.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.near_duplicates import normalise
from data_prep.progress import Progress, Record
from data_prep.rewrite.graphs import Parser
from data_prep.rewrite.meaning import SentenceEncoder
from data_prep.rewrite.translate import Engine
from data_prep.rewrite.wordnet import WordNet
from unimo.errors import DataError

FILTER = 3  # version of the rules below; what an earlier one kept is made again
BATCH = 256  # captions translated at a time; also the most that a kill can lose
LONGEST = 50  # letters of a word; of one with a thousand, a network makes a thousand tokens and takes seconds
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
        """Caption -> its paraphrases, best first: {"text", "engine", "similarity"}, each text once.

        What each engine gave is kept beside `store`, as it comes, whatever its similarity.

        Raises:
            DataError: an engine failed, or its file cannot be written.
        """
        found: dict[str, list[Record]] = {caption: [] for caption in captions}
        for engine in self.engines:
            kept = self._keep(engine, list(found), store.with_suffix(f".{engine.name}.jsonl"))
            for caption, (text, similarity) in kept.items():
                seen = {normalise(other["text"]) for other in found[caption]}
                if similarity >= self.similarity and normalise(text) not in seen:
                    found[caption].append({"text": text, "engine": engine.name, "similarity": similarity})
        return {caption: sorted(records, key=lambda r: -r["similarity"]) for caption, records in found.items()}

    def _keep(self, engine: Engine, captions: list[str], store: Path) -> dict[str, tuple[str, float]]:
        """Caption -> what an engine made of it and how similar that is, where its words keep the meaning."""
        work = {engine.name: engine.description, "filter": FILTER, "encoder": self.encoder.package.sha256}
        progress = Progress(store, work | self.parser.version)
        done = {record["caption"] for record in progress.done}
        todo = [caption for caption in captions if caption not in done]
        with tqdm(total=len(todo), desc=engine.name, unit="caption") as bar:
            for first in range(0, len(todo), BATCH):
                batch = todo[first : first + BATCH]
                made = self._paraphrases(engine, batch)
                progress.add([{"caption": caption, **made.get(caption, {})} for caption in batch])
                bar.update(len(batch))
        kept = {r["caption"]: (r["text"], r["similarity"]) for r in progress.done if "text" in r}
        return {caption: kept[caption] for caption in captions if caption in kept}

    def _paraphrases(self, engine: Engine, captions: list[str]) -> dict[str, Record]:
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
            caption: {"text": text, "similarity": self.encoder.likeness(lines[caption], text)}
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
