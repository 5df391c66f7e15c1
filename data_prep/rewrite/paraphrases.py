"""Paraphrases (X+): captions translated there and back, kept where wording changed and meaning did not.

Machine translation slips in ways that a sentence encoder hardly sees: a lit sail for a lit candle, a bag of paper for a
paper bag. So a paraphrase must also hold the caption's content words, word by word, or others that WordNet says are
alike; numbers, negations, pronouns, prepositions and the order of neighbouring content words stay.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.captions import normalise
from data_prep.progress import Progress
from data_prep.rewrite.graphs import Parser
from data_prep.rewrite.meaning import SentenceEncoder
from data_prep.rewrite.translate import Engine
from data_prep.rewrite.wordnet import WordNet

FILTER = 2  # version of the rules below; what an earlier one kept is made again
BATCH = 256  # captions translated at a time; also the most that a kill can lose
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

    def find(self, captions: Sequence[str], store: Path) -> dict[str, list[dict[str, Any]]]:
        """Caption -> its paraphrases, best first: {"text", "engine", "similarity"}. Kept in `store` as they are made.

        Raises:
            DataError: an engine failed, or `store` cannot be written.
        """
        work = {engine.name: engine.description for engine in self.engines}
        work |= {
            "filter": FILTER,
            "similarity": self.similarity,
            "encoder": self.encoder.package.sha256,
            **self.parser.version,
        }
        progress = Progress(store, work)
        found = {record["caption"]: record["positives"] for record in progress.done}
        todo = [caption for caption in dict.fromkeys(captions) if caption not in found]
        with tqdm(total=len(todo), desc="translating", unit="caption") as bar:
            for first in range(0, len(todo), BATCH):
                batch = todo[first : first + BATCH]
                made = list(self._paraphrases(batch))
                progress.add([{"caption": c, "positives": p} for c, p in zip(batch, made)])
                found |= zip(batch, made)
                bar.update(len(batch))
        return found

    def _paraphrases(self, captions: list[str]) -> Iterator[list[dict[str, Any]]]:
        lines = [" ".join(caption.split()) for caption in captions]
        made = {engine.name: engine.there_and_back(lines) for engine in self.engines}
        candidates: list[tuple[int, str, str]] = []  # caption's place, paraphrase, engine
        for place, line in enumerate(lines):
            seen = {normalise(line)}
            for name, sentences in made.items():
                key = normalise(sentences[place])
                if key not in seen:
                    seen.add(key)
                    candidates.append((place, sentences[place], name))
        parsed = dict(zip(lines, map(words, self.parser.read(lines))))
        texts = [text for _, text, _ in candidates]
        kept = [
            candidate
            for candidate, document in zip(candidates, self.parser.read(texts))
            if keeps_meaning(parsed[lines[candidate[0]]], words(document), self.wordnet)
        ]
        likeness = self.encoder.likeness([text for _, text, _ in kept], [lines[place] for place, _, _ in kept])
        chosen: list[list[dict[str, Any]]] = [[] for _ in lines]
        for (place, text, name), value in zip(kept, likeness.tolist()):
            if value >= self.similarity:
                chosen[place].append({"text": text, "engine": name, "similarity": round(value, 4)})
        for paraphrases in chosen:
            yield sorted(paraphrases, key=lambda p: -p["similarity"])


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
