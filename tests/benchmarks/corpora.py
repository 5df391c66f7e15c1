"""What the stage `corpora` costs, and what reading token shards costs beside texts.jsonl.

    PYTHONPATH=.:tests python tests/benchmarks/corpora.py

Texts are the 100,000 sentences of the npm package nlp-corpus, ten times over where memory is looked at. Each line is
measured in a process of its own. Pictures come from a server on this machine, in a process of its own.
"""

import io
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import picture_server
from file_server import serving
from PIL import Image
from retrieve import nlp_corpus

from data_prep.corpora import text
from data_prep.corpora.fetch import Rules
from data_prep.corpora.pairs import build
from unimo.config import ROOT
from unimo.pretrain.recipe import Masking
from unimo.pretrain.unimo_streams import TextStream, TokenStream
from unimo.readers.annotations import read_texts
from unimo.readers.batching import Stream
from unimo.readers.token_shards import TokenShards
from unimo.readers.tokenizer import load_tokenizer

VOCABULARY = ROOT / "model_files" / "dict"
PICTURES, PAUSE = 400, 0.1  # and seconds in which the server answers


def main() -> None:
    sentences = nlp_corpus()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _texts(folder, sentences)
        print(f"{len(sentences):,} sentences: wall and processor seconds, peak memory")
        _measure("nothing but the imports", lambda: "")
        for form, file in files.items():
            by = "passage" if form == "passages" else "line"
            _measure(f"corpora text, {form}", text.build, [file], VOCABULARY, folder / form, by)
        for count in (150, 50_000):
            held_out = _held_out(folder / f"held_out{count}.jsonl", sentences[::2][:count])
            arguments = [files["lines"]], VOCABULARY, folder / f"less{count}", "line", "text", held_out
            _measure(f"corpora text, lines, without {count:,} captions", text.build, *arguments)
        _measure("ten times the lines", text.build, [files["lines"]] * 10, VOCABULARY, folder / "ten")
        for path in (folder / "ten.jsonl", folder / "ten"):
            _measure(f"text stream of {path.name}", _stream, path)
        _measure("text stream of passages", _stream, folder / "passages")
        for threads, pause in ((1, 0), (16, 0), (1, PAUSE), (16, PAUSE), (64, PAUSE)):
            _pictures(folder, threads, pause)


def _texts(folder: Path, sentences: list[str]) -> dict[str, Path]:
    lines = [" ".join(sentence.split()) for sentence in sentences]
    passages = ["\n".join(lines[first : first + 20]) for first in range(0, len(lines), 20)]
    (folder / "lines.txt").write_text("\n".join(lines))
    (folder / "passages.txt").write_text("\n\n".join(passages))
    rows = [json.dumps({"text": line}) for line in lines]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    with open(folder / "ten.jsonl", "w") as file:
        for number, line in enumerate(line for _ in range(10) for line in lines if line):
            file.write(json.dumps({"id": str(number), "text": line, "source": "x"}) + "\n")
    return {"lines": folder / "lines.txt", "passages": folder / "passages.txt", "jsonl": folder / "rows.jsonl"}


def _held_out(path: Path, captions: list[str]) -> Path:
    common = {"image": "x", "split": "test", "source": "x"}
    pairs = [common | {"image_id": str(number), "captions": [c]} for number, c in enumerate(captions)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def _stream(path: Path) -> str:
    """Open it as pre-training does and make 100 batches."""
    tokenizer, masking = load_tokenizer(VOCABULARY), Masking()
    if path.is_dir():
        source = TokenStream(TokenShards(path, tokenizer), tokenizer, masking, 512)
    else:
        source = TextStream(read_texts(path), tokenizer, masking, 512)
    stream = Stream(source, 8192, seed=0)
    started = time.perf_counter()
    for _ in range(100):
        stream.next()
    return f"{len(source.lengths):,} samples, {(time.perf_counter() - started) * 10:.1f} ms a batch"


class Photographs(picture_server.Handler):
    """Always the same picture of 640 x 480, smooth with some noise."""

    content = b""

    def photo(self) -> None:
        self.send(self.content)


def _pictures(folder: Path, threads: int, pause: float) -> None:
    queue: multiprocessing.Queue = multiprocessing.Queue()
    server = multiprocessing.Process(target=_serve, args=(queue, pause), daemon=True)
    server.start()
    address, size = queue.get()
    name = f"{threads} threads, answers after {pause:g} s"
    source = folder / f"{name}.tsv"
    source.write_text("".join(f"caption {n}\t{address}/photo/{n}\n" for n in range(PICTURES)))
    rules = Rules(threads=threads, per_host=threads, allow_private=True)
    _measure(
        f"{PICTURES} pictures of {size >> 10} KB, {name}",
        build,
        "conceptual-captions",
        [source],
        folder / name,
        None,
        rules,
    )
    server.kill()
    server.join()


def _serve(queue: multiprocessing.Queue, pause: float) -> None:
    rows, columns = np.mgrid[:480, :640]
    smooth = np.stack([rows / 2, columns / 3, (rows + columns) / 5], axis=2)
    noise = np.random.default_rng(0).normal(0, 4, smooth.shape)
    file = io.BytesIO()
    Image.fromarray((smooth + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    Photographs.content = file.getvalue()
    with serving(picture_server.Site(pause=pause), Photographs) as address:
        queue.put((address.removesuffix("/file"), len(Photographs.content)))
        time.sleep(600)


def _measure(name: str, work: Callable[..., Any], *arguments: Any) -> None:
    queue: multiprocessing.Queue = multiprocessing.get_context("fork").Queue()
    process = multiprocessing.get_context("fork").Process(target=_measured, args=(queue, work, arguments))
    process.start()
    wall, processor, peak, said = queue.get()
    process.join()
    shown = said.partition(": ")[2].partition(" (")[0] or said
    print(f"{name:60} {wall:>8.1f} s {processor:>8.1f} s {peak:>6.0f} MB  {shown}", flush=True)


def _measured(queue: multiprocessing.Queue, work: Callable[..., Any], arguments: tuple) -> None:
    wall, processor = time.perf_counter(), time.process_time()
    said = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.put((time.perf_counter() - wall, time.process_time() - processor, peak, said))


if __name__ == "__main__":
    main()
