"""The stage itself: cut-outs -> images/, pairs.jsonl, rewrites.jsonl, scenes.jsonl, questions.jsonl and a manifest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from data_prep.benchmarks.answer_list import write_answers
from data_prep.demo import contents
from data_prep.scenes import sentences
from data_prep.scenes.paint import PACKAGES, Cutouts, Painter, of_folder, of_packages
from data_prep.scenes.scene import Scene, draw
from data_prep.sources.packages import fetch
from data_prep.stage import Work, check_same
from unimo.errors import ConfigError, DataError
from unimo.readers.annotations import Image, Pair, Sentence, Split, write_jsonl
from unimo.readers.picture_shards import PictureShardWriter
from unimo.readers.pictures import read_picture, shrink

ANSWERS = "answers.txt"
FILES = ("pairs.jsonl", "rewrites.jsonl", "scenes.jsonl", "questions.jsonl")
UNPAIRED = ("images.jsonl", "texts.jsonl")
PHOTOGRAPHS = "gcompris-qt-data"
# Its photographs, chosen by looking, that show none of the kinds that scenes are made of.
GROUNDS = (
    "calf camels caterpillar chamaeleon crab dolphin goat heron kingfisher meerkats northern_harrier nubian_ibex pika "
    "rhinoceros spoonbills"
)
SPLITS: tuple[Split, ...] = get_args(Split)
SOURCE = "scenes (synthetic)"
FOLDER = 1000  # pictures in one
GROUND = 400  # pixels of a photograph's longer side: half of it still is a ground


def build(
    out: Path,
    train: int = 20_000,
    dev: int = 500,
    test: int = 1_000,
    unpaired: int = 0,
    side: int = 112,
    plain: bool = False,
    shards: bool = False,
    seed: int = 0,
    cutouts: Path | None = None,
    cache: Path | None = None,
) -> str:
    """Write a set of composed pictures into the folder `out`, and say what it holds; a function of the arguments.

    Every second scene of test has a combination of kind and colour, or of two kinds in a relation, that no scene of
    train or dev has; scenes.jsonl says which.

    Args:
        train, dev, test: pictures of each split.
        unpaired: scenes more of which only the pictures are written, and as many of which only the captions are.
        side: pixels of a picture's side.
        cutouts: folder of own ones, as `paint.of_folder` takes them.
        plain: no photographs as grounds, which need a package more.
        shards: write the pictures into tar shards, in the folder `shards`, instead of files of their own.

    Raises:
        ConfigError: no picture in a split, or pictures of no use.
        DataError: the packages cannot be fetched or lack a cut-out.
    """
    counts: dict[Split, int] = dict(zip(SPLITS, (train, dev, test), strict=True))
    if min(counts.values()) < 1 or side < 32:
        raise ConfigError(f"expected at least 1 picture in each split and a side of 32 pixels, got {counts}, {side}")
    names = ([] if cutouts else [*PACKAGES]) + ([] if plain else [PHOTOGRAPHS])
    packages = {name: fetch(name, cache) for name in names}
    settings = {"train": train, "dev": dev, "test": test, "side": side, "plain": plain, "seed": seed}
    settings |= {"shards": True} if shards else {}
    settings |= {"unpaired": unpaired} if unpaired else {}
    names_of_lists = FILES + (UNPAIRED if unpaired else ())
    work = Work(
        "scenes",
        out,
        {"synthetic": True, **settings, "cutouts": str(cutouts) if cutouts else None},
        inputs=sorted(cutouts.glob("*/*.png")) if cutouts else [],
        packages=[package.record() for package in packages.values()],
        distributions=("pillow", "numpy", "opencv-contrib-python"),
        files=(*names_of_lists, ANSWERS),
    )
    check_same(out, work.settings)
    things = of_folder(cutouts) if cutouts else of_packages(packages)
    grounds = [] if plain else photographs(packages[PHOTOGRAPHS].archive)
    make = Maker(things, Painter(things.pictures, grounds, side), seed)
    lists: dict[str, list[Any]] = {name: [] for name in names_of_lists}
    total = sum(counts.values()) + unpaired
    with (
        _writing(out, side, shards) as write,
        tqdm(total=total, desc="scenes", unit="picture") as progress,
    ):
        for split, number in counts.items():
            for i in range(number):
                content, *described = make(split, i)
                for name, records in zip(FILES, described, strict=True):
                    lists[name] += records
                write(described[0][0], content)
                progress.update()
        for i in range(train, train + unpaired):
            content, (pair,), *_ = make("train", i)
            lists["images.jsonl"].append(Image(image_id=pair.image_id, image=pair.image, source=SOURCE))
            write(pair.model_copy(update={"captions": []}), content)
            lists["texts.jsonl"] += make.texts("train", i + unpaired)
            progress.update()
    for name, records in lists.items():
        write_jsonl(out / name, records)
    answers = {asked["target"] for asked in lists["questions.jsonl"] if asked["split"] == "train"}
    write_answers(out / ANSWERS, sorted(answers))
    made = {f"{split} pictures": number for split, number in counts.items()}
    made |= {"captions": len(lists["rewrites.jsonl"]), "questions": len(lists["questions.jsonl"])}
    made |= {"pictures without captions": unpaired, "texts": len(lists["texts.jsonl"])} if unpaired else {}
    made["pictures"] = total
    return work.finish(made, "pictures")


@contextmanager
def _writing(out: Path, side: int, shards: bool) -> Iterator[Callable[[Pair, bytes], None]]:
    """What takes the file of each picture. The lists come last: a run that was killed is made anew."""

    def write(pair: Pair, content: bytes) -> None:
        file = out / pair.image
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    if not shards:
        yield write
        return
    rmtree(out / "shards", ignore_errors=True)
    with PictureShardWriter(out / "shards", {"scenes": side}) as writer:
        yield lambda pair, content: writer.add(
            pair.image_id, "jpg", content, (side, side), {"captions": pair.captions, "split": pair.split}
        )


def photographs(archive: Path) -> list[np.ndarray]:
    """GROUNDS of the package, in their order. Raises DataError where one is missing."""
    names = {f"gcompris-erase-resource-{name}": name for name in GROUNDS.split()}
    items = {item.image_id: item for item in contents.gcompris(archive, lambda *_: None) if item.image_id in names}
    if missing := names.keys() - items.keys():
        raise DataError(f"{archive} lacks {min(missing)}: this version is laid out differently; take --plain")
    return [shrink(read_picture(items[image_id].content), GROUND) for image_id in names]


class Maker:
    """Scenes by their number, each a function of (seed, split, number)."""

    def __init__(self, things: Cutouts, painter: Painter, seed: int):
        self._painter, self._seed = painter, seed
        self._kinds, self._others = things.kinds(), things.others()

    def _draw(self, split: Split, i: int) -> tuple[Scene, np.random.Generator]:
        """Scene `i` of a split, and the generator of what else is drawn for it."""
        rng = np.random.default_rng([self._seed, SPLITS.index(split), i])
        novel = split == "test" and i % 2 == 1
        return draw(rng, self._kinds, lambda s: s.novel == novel), rng

    def texts(self, split: Split, i: int) -> list[Sentence]:
        """Captions of a scene that is not painted."""
        captions = sentences.captions(*self._draw(split, i))
        return [Sentence(id=f"{split}-{i:06}#{k}", text=c.text(), source=SOURCE) for k, c in enumerate(captions)]

    def __call__(self, split: Split, i: int) -> tuple[bytes, list, list, list, list]:
        """Paint scene `i` of a split: its file, and the records of FILES about it."""
        scene, rng = self._draw(split, i)
        image_id, image = f"{split}-{i:06}", f"images/{split}-{i // FOLDER:03}/{i:06}.jpg"
        content = self._painter.encoded(scene, rng)
        captions = sentences.captions(scene, rng)
        pair = Pair(image_id=image_id, image=image, captions=[c.text() for c in captions], split=split, source=SOURCE)
        questions = [
            {  # as `readers.examples.Example`
                "id": f"{image_id}?{asked['kind']}",
                "split": split,
                "source": [asked["question"]],
                "image_id": image_id,
                "target": asked["answer"],
                "kind": asked["kind"],
                "novel": asked["novel"],
            }
            for asked in sentences.questions(scene, [*self._kinds], rng)
        ]
        described = _described(image_id, scene, captions, self._painter.side, split)
        return content, [pair], [*self._rewrites(pair, captions, scene, rng)], [described], questions

    def _rewrites(
        self, pair: Pair, captions: list[sentences.Caption], scene: Scene, rng: np.random.Generator
    ) -> Iterator[dict[str, Any]]:
        """As `readers.annotations.Rewrite`."""
        for (caption_id, text), caption in zip(pair.captions_by_id().items(), captions):
            positives = [{"text": said, "engine": "scene"} for said in sentences.paraphrases(caption, rng)]
            negatives = sentences.negatives(caption, scene, self._others, rng)
            named = {"caption_id": caption_id, "image_id": pair.image_id, "caption": text, "graph": {}}
            yield {**named, "positives": positives, "negatives": negatives, "similar_images": [], "similar_texts": []}


def _described(
    image_id: str, scene: Scene, captions: list[sentences.Caption], side: int, split: Split
) -> dict[str, Any]:
    """The record of scenes.jsonl; boxes in pixels."""
    things = [
        {"kind": t.kind, "colour": t.colour, "size": t.size, "cutout": t.cutout.name, "box": [e * side for e in t.box]}
        for t in scene.things
    ]
    relations = [[a, sentences.WORDS[name], b] for a, name, b in scene.relations]
    found = {"image_id": image_id, "split": split, "novel": scene.novel, "things": things, "relations": relations}
    return {**found, "novel_captions": [k for k, caption in enumerate(captions) if caption.statement.novel()]}
