"""The JSONL files that name pairs, images, texts and rewrites; one record a line, paths relative to the file's folder.

pairs.jsonl     {"image_id", "image", "captions": [...], "split", "source"}         one image a line
images.jsonl    {"image_id", "image", "source"}                                     images without captions
texts.jsonl     {"id", "text", "source"}
rewrites.jsonl  {"caption_id", "image_id", "caption", "graph", "positives": [{"text", "engine"}],
                 "negatives": [{"text", "kind", ...}], "similar_images": [...], "similar_texts": [...]}
"""

import gc
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError, ValidationInfo

from unimo.errors import DataError
from unimo.storage.atomic import atomic_write
from unimo.storage.encodings import LONGEST_MARK, encoding_of, text_of

_BLANK = "\u115f\u1160\u2800\u3164\uffa0\ufffc\ufffd"  # letters and symbols that show nothing


def says_nothing(text: str) -> bool:
    """Whether a text has no letter, digit or symbol: white space, zero-width characters and punctuation alone."""
    return not any(unicodedata.category(c)[0] in "LNS" and c not in _BLANK for c in text)


def _says_something(text: str) -> str:
    if says_nothing(text):
        raise ValueError("it has no letter, digit or symbol")
    return text


def _check_finite(value: Any, place: str = "") -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{place}: it holds inf or nan")
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        _check_finite(part, f"{place}.{key}" if place else str(key))


def _finite(value: Any, info: ValidationInfo) -> Any:
    """The value, none of whose numbers is inf or nan: JSON has no such numbers, so it could not be written again."""
    if info.context is not _FINITE:
        _check_finite([r.model_extra for r in value] if isinstance(value, list) else value)
    return value


_FINITE = {"finite": True}  # context in which numbers need no look: the line has none that could be inf or nan
# what could make a number infinite reads 0e0: an exponent ("1e9", "1E+9"), "NaN" and the start of "Infinity"
_SHAPES = bytes.maketrans(b"0123456789+NIfeEan", b"00000000000000eeee")


def _surely_finite(line: bytes) -> bool:
    """Whether no number in JSON is inf, nan or too large for a float; may be wrong about those that are not."""
    shapes = line.translate(_SHAPES)
    return not (b"0e0" in shapes or b"0" * 309 in shapes)


NonEmpty = Annotated[str, StringConstraints(min_length=1)]
# what a model reads: a blank text would count in its scores
Words = Annotated[NonEmpty, AfterValidator(_says_something)]
Split = Literal["train", "dev", "test"]
SHOWN = 10  # problems that one error message spells out


class Record(BaseModel):
    """A line of one of the files. Keys that the schema does not know are left out."""

    model_config = ConfigDict(frozen=True, strict=True)


class Pair(Record):
    """One image with its captions."""

    image_id: NonEmpty
    image: NonEmpty
    captions: list[Words]
    split: Split
    source: str

    def captions_by_id(self) -> dict[str, str]:
        """Caption id -> caption; the id is the image's with the caption's place in the list."""
        return {f"{self.image_id}#{k}": caption for k, caption in enumerate(self.captions)}


class Image(Record):
    """One image of the image stream; pictures that are held out for evaluation are refused."""

    image_id: NonEmpty
    image: NonEmpty
    source: str
    split: Literal["train"] = "train"


class Sentence(Record):
    """One text of the text stream: a sentence or a longer passage."""

    id: NonEmpty
    text: Words
    source: str


class Positive(Record):
    """A paraphrase of a caption and what made it; further keys say how close it is (`similarity`)."""

    model_config = ConfigDict(extra="allow")
    text: NonEmpty
    engine: str


class Negative(Record):
    """A sentence close to a caption that no longer fits its image; further keys say what was changed."""

    model_config = ConfigDict(extra="allow")
    text: NonEmpty
    kind: NonEmpty  # object, attribute, relation or tfidf, and whatever a later stage makes


Positives = Annotated[list[Positive], AfterValidator(_finite)]
Negatives = Annotated[list[Negative], AfterValidator(_finite)]


class Rewrite(Record):
    """What rewriting and retrieval found for one caption; every list may be empty."""

    caption_id: NonEmpty
    image_id: NonEmpty
    caption: NonEmpty
    graph: Annotated[dict[str, Any], AfterValidator(_finite)]
    positives: Positives
    negatives: Negatives
    similar_images: list[NonEmpty]
    similar_texts: list[NonEmpty]


class Rewrites(Mapping[str, Rewrite]):
    """Caption id -> rewrites. What is kept of each is its line, a tenth of the size, which is parsed when asked for.

    Args:
        lines: caption id -> a line that was found to be in order.
    """

    def __init__(self, lines: dict[str, bytes]):
        self._lines = lines

    def __getitem__(self, caption_id: str) -> Rewrite:
        return Rewrite.model_validate_json(self._lines[caption_id], context=_FINITE)

    def __contains__(self, caption_id: object) -> bool:
        return caption_id in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


R = TypeVar("R", bound=Record)


def read_pairs(path: str | Path, split: Split | None = None, *, pictures: bool = False) -> list[Pair]:
    """All pairs, or those of one split, in file order.

    Args:
        pictures: every image file must be there; for stages that read pixels, which region features make needless.

    Raises:
        DataError: with line numbers, for records that are malformed, repeated or without caption, or files missing.
    """
    path = Path(path)
    lines = _read(path, Pair, "image_id")
    problems = [f"line {n}: image {p.image_id!r} has no caption" for n, p in lines.items() if not p.captions]
    report(path, problems + (_missing_files(path, lines) if pictures else []))
    pairs = [p for p in lines.values() if split in (None, p.split)]
    if not pairs:
        raise DataError(f"{path} has no pair of split {split!r}; it has {sorted({p.split for p in lines.values()})}")
    return pairs


def read_images(path: str | Path, *, pictures: bool = False) -> list[Image]:
    """The image stream. Takes `pictures` and raises DataError as `read_pairs` does."""
    path = Path(path)
    lines = _read(path, Image, "image_id")
    report(path, _missing_files(path, lines) if pictures else [])
    return list(lines.values())


def read_texts(path: str | Path) -> list[Sentence]:
    """The text stream. Raises DataError with line numbers for malformed or repeated records."""
    return read_records(path, Sentence, "id")


def read_rewrites(path: str | Path, pairs: Iterable[Pair]) -> Rewrites:
    """The rewrites of the captions of `pairs`, all checked; lines of other captions are left out.

    Raises:
        DataError: with line numbers, for malformed or repeated records and for captions that `pairs` has with another
            text (the file was made from other pairs).
    """
    path = Path(path)
    captions = {key: text for pair in pairs for key, text in pair.captions_by_id().items()}
    lines, stale = {}, []
    with _uncollected():
        for number, line, record in _records(path, Rewrite, "caption_id"):
            if (text := captions.get(record.caption_id)) == record.caption:
                lines[record.caption_id] = line
            elif text is not None:
                stale.append(f"line {number}: caption {record.caption_id!r} is not the text that the pairs have")
    report(path, stale)
    return Rewrites(lines)


def read_records(path: str | Path, schema: type[R], key: str) -> list[R]:
    """Records of any schema whose `key` names each once. Raises DataError as `read_texts` does."""
    return list(_read(Path(path), schema, key).values())


def write_jsonl(path: str | Path, records: Iterable[dict[str, Any] | Record]) -> int:
    """Write one record a line, atomically. Returns the number of records."""
    count = 0
    with atomic_write(path) as file:
        for record in records:
            values = record.model_dump() if isinstance(record, Record) else record
            file.write(json.dumps(values, ensure_ascii=False, allow_nan=False).encode() + b"\n")
            count += 1
    return count


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: it would walk through all records read so far, again and again, and find no circle."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@_uncollected()
def _read(path: Path, schema: type[R], key: str) -> dict[int, R]:
    """Line number (from 1) -> record."""
    return {number: record for number, _, record in _records(path, schema, key)}


def _records(path: Path, schema: type[R], key: str) -> Iterator[tuple[int, bytes, R]]:
    """Number (from 1), bytes and record of each line that is in order; then one DataError, where some are not."""
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            record = schema.model_validate_json(line, context=_FINITE if _surely_finite(line) else None)
        except ValidationError as error:
            problems += [f"line {number}: {problem(e)}" for e in error.errors(include_url=False)]
            continue
        value = getattr(record, key)
        if value in seen:
            problems.append(f"line {number}: {key} {value!r} was already on line {seen[value]}")
        seen.setdefault(value, number)
        yield number, line, record
    report(path, problems)
    if not seen:
        raise DataError(f"{path} holds no record")


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a text file in UTF-8, without their ends."""
    try:
        with open(path, "rb") as file:
            if encoding_of(file.read(LONGEST_MARK)) == "utf-8":
                file.seek(0)
                for line in file:
                    yield line.rstrip(b"\n")
                return
        yield from text_of(path.read_bytes()).encode().split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"{path} is not the text that its byte order mark says: {error}") from error


def problem(error: Any) -> str:
    """One of a ValidationError's errors in words: key, what is wrong, what was got."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"key {where!r} is missing"
    got = "" if error["type"] == "json_invalid" else f", got {str(error['input'])[:60]!r}"
    return f"{where + ': ' if where else ''}{error['msg']}{got}"


def _missing_files(path: Path, lines: dict[int, Any]) -> list[str]:
    return [
        f"line {n}: image file {r.image!r} of {r.image_id!r} does not exist in {path.parent}"
        for n, r in lines.items()
        if not (path.parent / r.image).is_file()
    ]


def report(path: Path, problems: list[str]) -> None:
    """Raise one DataError with the first of the problems that lines of a file have, if they have any."""
    if problems:
        more = f"\n  ... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        shown = "".join(f"\n  - {p}" for p in problems[:SHOWN])
        raise DataError(f"{path}: {len(problems)} bad record(s); correct or remove these lines{shown}{more}")
