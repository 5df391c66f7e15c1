"""The page on real drawings, with rewrites and neighbours by the real stages and made-up regions."""

import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from data_prep.page.build import BOXES, IMAGES, TEXTS, write_page
from data_prep.page.counts import manifests
from data_prep.page.marks import changed, highlighted
from data_prep.retrieve import build as retrieve
from data_prep.rewrite import build as rewrite
from unimo.errors import DataError
from unimo.readers.annotations import Negative, read_pairs, read_rewrites, write_jsonl
from unimo.readers.feature_store import RegionRecord, StoreWriter
from unimo.readers.pictures import read_picture
from unimo.readers.scene_graphs import read_graph

HOSTILE = [
    "<script>alert('a man')</script> & \"a red dog\" on a <b>sofa</b>",
    "A dog -->]]> {{ 7 * 7 }} {% raw %} 'on' a cat.",
    "Un chien \u202e rouge \u0000 sur 日本の犬 👩‍👩‍👧 e\u0301 &amp; &lt;",
    "  two   spaces\nand a\tline ",
]
CLASSES = ["background", "cat <i>", "car"]


@pytest.fixture(scope="module")
def world(tmp_path_factory, write_pairs, shipped) -> Path:
    """60 drawings, every fifth dev and test, one of them with hostile captions; all files by their stages."""
    folder = tmp_path_factory.mktemp("page")
    records = [*shipped[:60], {**shipped[60], "image_id": 'x"><img src=y>', "captions": HOSTILE, "source": "<hr>"}]
    pairs = write_pairs(folder, records, ("train", "train", "train", "dev", "test"))
    fixed = {"feature_dim": 4, "class_names": CLASSES, "extractor": {"name": "made", "version": "1"}}
    with StoreWriter(folder / "regions", **fixed) as store:
        for number, pair in enumerate(read_pairs(pairs)):
            height, width = read_picture(folder / pair.image).shape[:2]
            rng = np.random.default_rng(number)
            boxes = np.sort(rng.uniform(0, 1, (8, 2, 2)), axis=1).reshape(8, 4) * [width, height, width, height]
            more = (rng.normal(size=(8, 4)), boxes, rng.integers(1, 3, 8), np.linspace(0.9, 0.2, 8))
            store.add(RegionRecord(pair.image_id, width, height, *more))
    texts = [{"id": f"t{i}", "text": f"Look at {r['captions'][0]}", "source": "made"} for i, r in enumerate(shipped)]
    write_jsonl(folder / "texts.jsonl", texts)
    images = [{"image_id": f"free-{i}", "image": shipped[i]["image"], "source": "made"} for i in (8, 9)]
    write_jsonl(folder / "images.jsonl", images)
    rewrite.build(pairs, folder / "rewrites.jsonl", rewrite.Amounts(negatives=3, tfidf=3))
    retrieve.fit(pairs, folder / "texts.jsonl", None, folder / "regions", folder / "index")
    rewrites, out = folder / "rewrites.jsonl", folder / "augmented.jsonl"
    retrieve.apply(folder / "index", pairs, rewrites, out, text_threshold=0.1, image_threshold=0)
    return folder


class Page(HTMLParser):
    """Elements with their attributes, and the text within each caption and block."""

    def __init__(self, html: str):
        super().__init__()
        self.html, self.captions, self.blocks = html, [], []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._in_caption = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list):
        self.elements.append((tag, dict(attrs)))
        if tag == "article":
            self.blocks.append("")
        if ("class", "caption") in attrs:
            self.captions.append("")
            self._in_caption = True

    def handle_endtag(self, tag: str):
        self._in_caption &= tag != "p"

    def handle_data(self, data: str):
        if self.blocks:
            self.blocks[-1] += data
        if self._in_caption:
            self.captions[-1] += data

    def block(self, text: str) -> str:
        """The text of the one block with it."""
        (found,) = [block for block in self.blocks if text in block]
        return single(found)


def single(text: str) -> str:
    """Each run of white space as one space."""
    return re.sub(r"\s+", " ", text)


def page(folder: Path, **options) -> Page:
    given = {"pairs": folder / "pairs.jsonl", "rewrites": folder / "augmented.jsonl", "regions": folder / "regions"}
    given |= {"images": None, "neighbours": None, "split": "train", "out": folder / "page.html", "count": 50, "seed": 0}
    given |= options
    write_page(**given)
    return Page(given["out"].read_bytes().decode())


@pytest.fixture(scope="module")
def everything(world) -> Page:
    return page(world, split="all", count=1000)


def test_every_caption_is_there_exactly_and_nothing_of_it_is_markup(world, everything):
    captions = [caption for pair in read_pairs(world / "pairs.jsonl") for caption in pair.captions]
    assert sorted(everything.captions) == sorted(captions) and set(HOSTILE) <= set(captions)
    for caption in captions:
        assert str(escape(caption)) in everything.html
    tags = Counter(tag for tag, _ in everything.elements)
    assert not tags.keys() & {"script", "i", "hr"} and tags["b"] == len(everything.blocks)
    assert tags.keys() >= {"mark", "del", "ins", "svg", "rect", "img"}


def test_it_asks_for_nothing_outside_and_runs_nothing(everything):
    for _, attributes in everything.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "href") or value.startswith("data:image/jpeg;base64,")
    assert "url(" not in everything.html and "default-src 'none'" in everything.html


def test_the_seed_decides_which_captions_are_shown(world):
    first, again, other = (page(world, count=9, seed=seed) for seed in (3, 3, 4))
    assert first.html == again.html and len(first.captions) == 9
    assert first.captions != other.captions
    train = {c for p in read_pairs(world / "pairs.jsonl", "train") for c in p.captions}
    assert set(first.captions) | set(other.captions) <= train


def test_counts_are_of_the_whole_file(world):
    html = page(world, count=1).html
    rewrites = read_rewrites(world / "augmented.jsonl", read_pairs(world / "pairs.jsonl")).values()
    for name, numbers in {
        "objects": [len(r.graph["objects"]) for r in rewrites],
        "paraphrases": [len(r.positives) for r in rewrites],
        "relation negatives": [sum(n.kind == "relation" for n in r.negatives) for r in rewrites],
        "tfidf negatives": [sum(n.kind == "tfidf" for n in r.negatives) for r in rewrites],
        "similar sentences": [len(r.similar_texts) for r in rewrites],
        "similar images": [len(r.similar_images) for r in rewrites],
    }.items():
        some, mean = sum(n > 0 for n in numbers), sum(numbers) / len(numbers)
        row = next(line for line in html.splitlines() if f"<th>{name}</th>" in line)
        assert row.endswith(f"{some} ({100 * some / len(numbers):.1f} %) <small>{mean:.2f}</small></td></tr>")
    assert 0 < sum(bool(r.similar_texts) for r in rewrites) < len(rewrites)


def test_settings_and_versions_of_every_stage_and_the_command_are_shown(world, everything):
    assert [stage for _, stage, _ in manifests([world / "augmented.jsonl"])] == [
        "retrieve apply",
        None,  # pairs.jsonl was made by hand
        "rewrite",
        "retrieve fit",
        None,  # so was texts.jsonl
        None,  # and the store: no stage wrote it
    ]
    assert (
        "paraphrases 3, negatives 3, tfidf 3, similarity 0.85, seed 0" in everything.html
        and "SceneGraphParser 0.1.0" in everything.html
    )
    assert "--split all" in everything.html and "--count 1000 --seed 0" in everything.html


def test_a_block_shows_what_the_files_hold(world, everything):
    found = {r["caption_id"]: r for r in map(json.loads, (world / "augmented.neighbours.jsonl").open())}
    for key, made in read_rewrites(world / "augmented.jsonl", read_pairs(world / "pairs.jsonl", "train")).items():
        if made.caption in HOSTILE:
            continue
        block = everything.block(f" {key},")
        for relation in made.graph["relations"]:
            subject, other = (made.graph["objects"][relation[end]]["text"] for end in ("subject", "object"))
            assert f"{subject} -{relation['text']}-> {other}" in block
        for negative in made.negatives:
            if negative.kind == "tfidf":
                assert single(f"{negative.score:.2f} {negative.text}") in block
            else:
                shown, extra = made.caption, negative.__pydantic_extra__
                for change in reversed(extra.get("changes") or [extra]):
                    start, end = change["span"]
                    shown = shown[:start] + change["from"] + change["to"] + shown[end:]
                assert single(shown) in block
        for text in found[key]["texts"][:TEXTS]:
            assert f"{text['score']:.2f} {text['source']} {text['text']}" in block
        for positive in made.positives:
            assert f"{positive.engine}" in block and positive.text in block
        assert ("no paraphrase" in block) == (not made.positives) and "8 regions: " in block
        assert f"Similar images, the best {IMAGES} of 20" in block and "its span" not in block
    assert everything.html.count("<rect") == BOXES * len(everything.blocks)
    assert "no similar sentence" in everything.html and "no similar image" in everything.html  # of dev and test


def test_it_stays_small(world):
    page(world, count=50)
    assert 200_000 < (world / "page.html").stat().st_size < 3_500_000


@pytest.fixture
def copy(world, tmp_path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "copy"))


def edit(file: Path, change) -> None:
    """Rewrite a file of JSON lines; None leaves a record out."""
    records = [change(json.loads(line)) for line in file.read_text().splitlines()]
    write_jsonl(file, [record for record in records if record])


def test_what_is_missing_is_said(copy, shipped):
    ids = [p.image_id for p in read_pairs(copy / "pairs.jsonl", "train")]
    gone, torn, unknown, bare = ids[:4]
    pictures = {p.image_id: copy / p.image for p in read_pairs(copy / "pairs.jsonl")}
    pictures[gone].unlink()
    pictures[torn].write_bytes(pictures[torn].read_bytes()[:20])

    def change(record):
        if record["image_id"] == unknown:
            record |= {"similar_images": ["free-8", "nowhere"], "similar_texts": ["new"], "graph": {"objects": 3}}
        return record if record["image_id"] != bare else None

    edit(copy / "augmented.jsonl", change)
    shown = page(copy, images=copy / "images.jsonl", count=1000)
    for image_id in (gone, torn):
        assert "the picture is missing or cannot be shown" in shown.block(f" {image_id}#0,")
    block = shown.block(f" {unknown}#0,")
    assert "nowhere is in neither list of pictures" in block and "the graph cannot be read: objects" in block
    assert 'alt="free-8"' in shown.html and "no record of rewrites" in shown.block(f" {bare}#0,")
    rows = [line for line in shown.html.splitlines() if "<th>pictures whose file" in line or "without a record" in line]
    assert [re.findall(r">(\d+)<", row)[-1] for row in rows] == ["1", "1"]
    without = page(copy, regions=None, count=1000)
    assert without.html.count("no regions") == len(without.blocks) and "<rect" not in without.html


def test_several_changes_scores_and_unknown_kinds(copy):
    caption = next(p for p in read_pairs(copy / "pairs.jsonl", "train")).captions[0]
    words = caption.split()
    second, last = caption.index(words[1]), len(caption) - len(words[-1])
    first = {"node": "x", "from": words[1], "to": "<u>", "span": [second, second + len(words[1])]}
    other = {"kind": "object", "node": "y", "from": words[-1], "to": "end", "span": [last, len(caption)]}
    text = " ".join([words[0], "<u>", *words[2:-1], "end"])
    wrong = {"text": "Another.", "kind": "object", **first}
    negatives = [
        {"text": text, "kind": "several", **first, "changes": [{"kind": "attribute", **first}, other]},
        {"text": text, "kind": "object", **first, "changes": [other]},  # the first change not said again
        {"text": "Quite <another>.", "kind": "<free>"},
        wrong,
    ]
    positives = [
        {"text": "So <it> is.", "engine": "we & <you>", "similarity": 0.876},
        {"text": "So.", "engine": "hand"},
    ]
    edit(
        copy / "augmented.jsonl",
        lambda r: r | {"negatives": negatives, "positives": positives} if r["caption"] == caption else r,
    )
    shown = page(copy, count=1000)
    block = next(block for block in shown.blocks if block.lstrip().startswith(caption))
    marked = f"{words[0]} {words[1]}<u>{' '.join(['', *words[2:-1], ''])}{words[-1]}end"
    assert block.count(marked) == 2 and "Quite <another>." in block and "Negatives: <free>" in block
    assert "<th>&lt;free&gt; negatives</th>" in shown.html and "<th>several negatives</th>" in shown.html
    assert block.count("(its span does not give this text)") == 1
    assert re.search(r"0\.88\s+we & <you>\s+So <it> is\.", block) and re.search(r"hand\s+So\.", block)
    assert "u" not in {tag for tag, _ in shown.elements}


captions = st.text(max_size=30)


@settings(max_examples=200, deadline=None)
@given(captions, st.lists(st.tuples(st.integers(-3, 35), st.integers(-3, 35)), max_size=6))
def test_highlighted_runs_are_the_caption_whatever_the_spans(caption, spans):
    nodes = [{"text": "n", "lemma": "n", "class": "NN", "span": list(span)} for span in spans]
    graph, problem = read_graph({"objects": nodes})
    assert problem is None
    runs = highlighted(caption, graph)
    assert "".join(text for text, _, _ in runs) == caption
    painted = [kind for text, kind, _ in runs for _ in text]
    covered = {i for start, end in spans for i in range(max(0, start), min(end, len(caption)))}
    assert {i for i, kind in enumerate(painted) if kind} == covered


def test_of_nodes_within_one_another_the_shorter_shows():
    inner = {"object": 0, "text": "red", "lemma": "red", "class": "adjective", "span": [0, 3]}
    outer = {"text": "red dog", "lemma": "red dog", "class": "NN", "span": [0, 7]}
    for graph in ({"objects": [outer], "attributes": [inner]}, {"objects": [outer, inner], "attributes": []}):
        runs = highlighted("red dog", read_graph(graph)[0])
        assert [(text, title) for text, _, title in runs] == [("red", "adjective, red"), (" dog", "NN, red dog")]
    turned = {"objects": [outer | {"span": [0, 3]}], "attributes": [inner | {"span": [0, 7]}]}
    runs = highlighted("red dog", read_graph(turned)[0])
    assert [kind for _, kind, _ in runs] == ["object", "attribute"]


@settings(max_examples=200, deadline=None)
@given(captions, st.data())
def test_parts_of_a_negative_read_as_caption_and_as_negative(caption, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(caption)), max_size=6)))
    spans = sorted({(a, b) for a, b in zip(cuts[::2], cuts[1::2]) if a < b})
    new = [data.draw(st.text(max_size=5)) for _ in spans]
    changes = [{"from": caption[a:b], "to": word, "span": [a, b]} for (a, b), word in zip(spans, new)]
    ends = [0, *(place for span in spans for place in span), len(caption)]
    kept = [caption[a:b] for a, b in zip(ends[::2], ends[1::2])]
    text = kept[0] + "".join(word + after for word, after in zip(new, kept[1:]))
    if not changes or not text:
        return
    negative = Negative(text=text, kind="several", **changes[0], changes=changes[::-1])
    parts, fits = changed(caption, negative)
    assert fits and "".join(t for kind, t in parts if kind != "new") == caption
    assert "".join(t for kind, t in parts if kind != "gone") == text
    _, fits = changed(caption, Negative(text=text + "!", kind="object", **changes[0], changes=changes))
    assert not fits


@pytest.mark.parametrize(
    "extra",
    [
        {"span": None},
        {"span": [0, 99], "from": "a", "to": "b"},
        {"span": [3, 1], "from": ""},
        {"span": [2, 5], "from": "cow", "to": "cat"},
        {"changes": [1]},
    ],
)
def test_records_that_say_nonsense_are_compared_by_words(extra):
    parts, fits = changed("a dog", Negative(text="a cat", kind="object", **extra))
    assert not fits and parts == [("same", "a"), ("same", " "), ("gone", "dog"), ("same", " "), ("new", "cat")]


def test_a_relation_of_objects_that_are_not_there_is_a_problem():
    node = {"text": "n", "lemma": "n", "class": "NN", "span": None}
    graph, problem = read_graph({"objects": [node], "relations": [{"subject": 0, "object": 1, **node}]})
    assert not graph.objects and "object 1 is named, there are 1" in problem


def test_nothing_usable_is_one_clear_error(world, tmp_path, write_pairs, shipped, stage):
    other = write_pairs(tmp_path, shipped[100:103], ("dev",))
    with pytest.raises(DataError, match="has no record of any caption"):
        page(world, pairs=other)
    alone = tmp_path / "dev.jsonl"
    alone.write_text((world / "pairs.jsonl").read_text().splitlines()[3] + "\n")
    with pytest.raises(DataError, match=r"no caption of split 'train'; it has \['dev'\]"):
        page(world, pairs=alone, rewrites=world / "rewrites.jsonl")
    done = stage("page", "--pairs", other, "--rewrites", tmp_path / "none.jsonl", "--out", tmp_path / "page.html")
    assert done.returncode == 2 and "cannot read" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(DataError, match="no feature store"):
        page(world, regions=tmp_path / "none")


def test_the_command_makes_the_same_page(world, stage):
    shown = page(world, count=7, seed=2, images=world / "images.jsonl", neighbours=world / "augmented.neighbours.jsonl")
    given = [f"--{name}={world / name}.jsonl" for name in ("pairs", "images")]
    given += ["--rewrites", world / "augmented.jsonl", "--neighbours", world / "augmented.neighbours.jsonl"]
    given += ["--regions", world / "regions", "--output", world / "page.html"]
    (world / "page.html").unlink()
    done = stage("page", *given, "--count=7", "--seed=2")
    assert done.returncode == 0 and "7 of" in done.stdout, done.stderr
    assert (world / "page.html").read_bytes().decode() == shown.html
