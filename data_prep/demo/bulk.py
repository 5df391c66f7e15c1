"""Larger sets of drawings with short texts: emoji names (Noto font, Unicode CLDR) and clip-art titles (openclipart)."""

import html
import io
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image, ImageDraw, ImageFont, features

from data_prep.demo.contents import Item, Reject
from data_prep.near_duplicates import normalise
from data_prep.sources.archives import deb_members
from unimo.errors import DataError

FONT = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
NAMES = tuple(f"usr/share/unicode/cldr/common/{folder}/en.xml" for folder in ("annotations", "annotationsDerived"))
EMOJI_TEST = "usr/share/unicode/emoji/emoji-test.txt"
STRIKE, CELL = 109, (136, 128)  # the only size of this bitmap font, and the pixels of its glyphs
ID = "emoji-"  # then the code points, in hexadecimal
SKIN_TONES = re.compile("[\U0001f3fb-\U0001f3ff]")
VARIATION = "\ufe0f"  # "show as a picture"; the keys of CLDR leave it out


def emoji(font: Path, cldr: Path, unicode_data: Path, reject: Reject) -> Iterator[Item]:
    """The fully-qualified emoji of Unicode's list, drawn with the Noto font, each with its CLDR short name.

    Skin-tone variants of an emoji are one family.
    """
    names = _emoji_names(_members(cldr, *NAMES))
    draw_with = opened(font)
    sequences = features.check("raqm")  # Pillow without it draws the parts of a sequence side by side
    for line in _members(unicode_data, EMOJI_TEST)[0].decode().splitlines():
        if line.startswith("#") or "; fully-qualified" not in line:
            continue
        text = "".join(chr(int(code, 16)) for code in line.split(";")[0].split())
        image_id = ID + "-".join(f"{ord(c):x}" for c in text)
        name = names.get(text.replace(VARIATION, ""))
        if name is None:
            reject(image_id, "emoji without a CLDR name")
        elif not sequences and len(text.replace(VARIATION, "")) > 1:
            reject(image_id, "emoji of several characters, which Pillow cannot draw without raqm")
        else:
            plain = SKIN_TONES.sub("", text).replace(VARIATION, "")
            yield Item(image_id, _drawn(text, draw_with), (name,), "emoji names", family=names.get(plain))


def _drawn(text: str, font: ImageFont.FreeTypeFont) -> bytes:
    file = io.BytesIO()
    glyph(text, font, "RGB", (255, 255, 255)).save(file, "PNG")
    return file.getvalue()


def opened(font: Path) -> ImageFont.FreeTypeFont:
    """The emoji font of its package."""
    return ImageFont.truetype(io.BytesIO(_members(font, FONT)[0]), STRIKE)


def text_of(image_id: str) -> str:
    """The characters of an emoji by its id."""
    return "".join(chr(int(code, 16)) for code in image_id.removeprefix(ID).split("-"))


def glyph(text: str, font: ImageFont.FreeTypeFont, mode: str, ground: tuple[int, ...]) -> Image.Image:
    """An emoji on a plain ground of its cell's size."""
    image = Image.new(mode, CELL, ground)
    ImageDraw.Draw(image).text((0, 0), text, font=font, embedded_color=True)
    return image


def _emoji_names(files: list[bytes]) -> dict[str, str]:
    """Emoji without variation selectors -> short name ("tts", text to speech)."""
    nodes = (node for content in files for node in ElementTree.fromstring(content).iter("annotation"))
    named = ((node.get("cp"), node.text) for node in nodes if node.get("type") == "tts")
    return {emoji.replace(VARIATION, ""): name for emoji, name in named if emoji and name}


def _members(archive: Path, *paths: str) -> list[bytes]:
    """Contents of these files of a Debian package. Raises DataError where one is missing."""
    found = dict(deb_members(archive, paths.__contains__))
    missing = [path for path in paths if path not in found]
    if missing:
        raise DataError(f"{archive} lacks {missing[0]}: this version is laid out differently")
    return [found[path] for path in paths]


# Chosen by looking: patterns, signs, icons and playing cards, whose titles do not tell them apart; one artist's titles
# are Italian, another's name other drawings.
_NOT_SCENES = re.compile(
    r"^(shapes|computer|signs_and_symbols|special|logos|buttons)/|^recreation/games/cards/|architetto"
)
_NOT_TITLES = re.compile(r"^Clip ?art by |submi|sibmission|\.\w{2,3}$", re.IGNORECASE)
SHARED = 5  # a title of more pictures than this names a collection, not what is seen


def clipart(png: Path, svg: Path, reject: Reject) -> Iterator[Item]:
    """Drawings of openclipart-png with the titles in the metadata of their twins in openclipart-svg, cleaned."""
    titles = {}
    for stem, content in _drawings(svg, "svg"):
        found = re.search(rb"<metadata.*?<dc:title>(.*?)</dc:title>", content, re.DOTALL)
        titles[stem] = _title(found[1].decode("utf-8", "replace")) if found else ""
    shared = Counter(titles.values())
    for stem, content in _drawings(png, "png"):
        image_id, title = "clipart-" + re.sub(r"[^\w-]+", "-", stem), titles.get(stem, "")
        if not normalise(title):
            reject(image_id, "clip art without a usable title")
        elif shared[title] > SHARED:
            reject(image_id, f"clip art titled as more than {SHARED} others")
        else:
            yield Item(image_id, content, (title,), "clip-art titles")


def _drawings(archive: Path, kind: str) -> Iterator[tuple[str, bytes]]:
    """(path without suffix, content) of what may be a scene."""
    root, suffix = f"usr/share/openclipart/{kind}/", f".{kind}"

    def wanted(path: str) -> bool:
        return path.startswith(root) and path.endswith(suffix) and not _NOT_SCENES.search(path.removeprefix(root))

    for path, content in deb_members(archive, wanted):
        yield path.removeprefix(root).removesuffix(suffix), content


def _title(raw: str) -> str:
    """A title in words: without underscores, brackets and the numbers that count variants. "" if it is not one."""
    title = html.unescape(raw).strip()
    if _NOT_TITLES.search(title):
        return ""
    title = re.sub(r"^\d+_|\([^)]*\)|#", " ", title)
    title = re.sub(r"(?<=\D)\d+$|\b(BW|B and W|openclipart)$", "", re.sub(r"[_\s-]+", " ", title).strip())
    return title.strip()
