"""Corruption campaign: every file of a run folder and of a feature store damaged in turn, then the next command.

    python -m pytest -m heavy tests/reliability/test_corruption.py -s

It must end as if nothing had been damaged, or with another whole checkpoint and a word about the damaged one, or with
one error that names the file and exit code 2: never with a traceback, never with another result in silence.
"""

import hashlib
import io
import json
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from click.testing import CliRunner

from unimo.cli import main
from unimo.engine import checkpoint
from unimo.errors import UnimoError
from unimo.readers.feature_store import FeatureStore
from unimo.zoo import from_pretrained

STEPS = 6
FLIPS = 200  # of single bits in each of a store's files that say what its arrays are
ENGINE = {"steps": STEPS, "save_every": 2, "keep_last": 3, "learning_rate": 1e-3, "log_every": 1}
LISTS = ("index.json", checkpoint.MARKER)  # what they list may be named instead
WORDS = ("warning: skipping torn checkpoint", "warning: taking ")


def flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes | None]] = {
    "flip": flipped,
    "another flip": flipped,
    "cut": lambda content, rng: content[: rng.randrange(len(content))],
    "zeros": lambda content, rng: bytes(len(content)),
    "garbage": lambda content, rng: rng.randbytes(len(content)),
    "empty": lambda content, rng: b"",
    "gone": lambda content, rng: None,
}


class Answer(NamedTuple):
    """What a command came to: its result in short, None after an error; its exit code, and what it said."""

    result: str | None
    code: int
    said: str


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"|".join(parts)).hexdigest()


def invoke(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


class Commands:
    """What may be done next with a run folder, each with an answer that does not depend on where it lies."""

    def __init__(self, recipe: Path, data: list[str]):
        self.recipe, self.data = recipe, data

    def resume(self, run: Path) -> Answer:
        code, said = invoke("pretrain", self.recipe, "--output", run)
        if code:
            return Answer(None, code, said)
        last = checkpoint.folder_of(run, STEPS)
        files = (checkpoint.MODEL, checkpoint.OPTIMIZER)
        return Answer(digest(*((last / name).read_bytes() for name in files)), code, said)

    def evaluate(self, run: Path) -> Answer:
        shutil.rmtree(run.parent / "measured", ignore_errors=True)
        code, said = invoke("evaluate", "retrieval", run, *self.data, "--output", run.parent / "measured")
        if code:
            return Answer(None, code, said)
        measured = json.loads((run.parent / "measured" / "metrics.json").read_text())["metrics"]
        return Answer(digest(json.dumps(measured, sort_keys=True).encode()), code, said)

    def load(self, run: Path) -> Answer:
        said = io.StringIO()
        with redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = from_pretrained(run)
            except UnimoError as error:
                return Answer(None, error.exit_code, said.getvalue() + str(error))
        return Answer(digest(*(t.numpy().tobytes() for t in model.state_dict().values())), 0, said.getvalue())


def read_store(folder: Path) -> Answer:
    try:
        store = FeatureStore(folder)
        records = [store.read(image_id) for image_id in store.ids]
        columns = [(r.features, r.boxes, r.classes, r.scores, r.class_probs) for r in records]
    except UnimoError as error:
        return Answer(None, error.exit_code, str(error))
    facts = [[r.image_id, r.width, r.height, store.class_names, store.extractor] for r in records]
    arrays = [array.tobytes() for arrays in columns for array in arrays]
    return Answer(digest(json.dumps(facts).encode(), *arrays), 0, "")


def wrong(answer: Answer, file: Path, right: str, others: set[str]) -> str:
    """What is wrong with an answer after a file was damaged; `others` are the results of other whole checkpoints."""
    if answer.result is None:
        if "Traceback" in answer.said or answer.code != 2:
            return f"exit code {answer.code}: {answer.said[-300:]}"
        named = file.name in answer.said or (file.name in LISTS and file.parent.name in answer.said)
        return "" if named else f"an error that does not name it: {answer.said[-300:]}"
    if answer.result == right:
        return ""
    return (
        ""
        if answer.result in others and any(word in answer.said for word in WORDS)
        else f"another result in silence: {answer.said[-300:]}"
    )


@pytest.fixture(scope="module")
def runs(small_world, tmp_path_factory) -> tuple[Path, Commands]:
    """A folder with a finished run, one as a kill during the save of its last step leaves it, and one that evaluated
    on the way and found a checkpoint before its last one best."""
    folder = tmp_path_factory.mktemp("runs")
    files = {name: str(small_world / f"{name}.jsonl") for name in ("pairs", "rewrites", "images", "texts")}
    recipe = yaml.safe_load(RECIPE) | {"tokenizer": str(small_world / "vocabulary"), "engine": ENGINE}
    recipe["data"] = {**files, "regions": str(small_world / "regions")}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    data = ["--pairs", files["pairs"], "--regions", recipe["data"]["regions"], "--split", "dev"]
    commands = Commands(folder / "recipe.yaml", data)
    assert commands.resume(folder / "finished").code == 0
    cut = shutil.copytree(folder / "finished", folder / "interrupted") / "checkpoints"
    last = checkpoint.folder_of(cut.parent, STEPS)
    last.rename(last.with_name(f".{last.name}.tmp"))
    (last.with_name(f".{last.name}.tmp") / checkpoint.MARKER).unlink()
    checkpoint.point(cut, checkpoint.LATEST, checkpoint.folder_of(cut.parent, STEPS - 2).name)
    (cut.parent / "state.json").write_text((cut.parent / "state.json").read_text().replace("done", "running"))
    with open(cut.parent / "log.jsonl", "a") as log:
        log.write('{"step": 7, "cut sho')
    shutil.copytree(folder / "finished", folder / "evaluated")
    checkpoint.point(folder / "evaluated" / "checkpoints", checkpoint.BEST, f"step_{STEPS - 2:08d}")
    last = checkpoint.folder_of(folder / "evaluated", STEPS)
    state = json.loads((last / checkpoint.TRAINER).read_text())
    state["best"] = {"step": STEPS - 2, "metrics": {"mean_recall": 50.0}}
    (last / checkpoint.TRAINER).write_text(json.dumps(state))
    (last / checkpoint.MARKER).unlink()
    checkpoint._mark_complete(last)
    return folder, commands


RECIPE = """
model: {hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, vocab_size: 24, max_position_embeddings: 40,
        image_embedding_size: 16, image_class_size: 9, hidden_dropout_prob: 0.1}
streams: {text: 2, image: 1}
batch_positions: {text: 64, image: 32, pair: 1024}
max_tokens: 24
max_regions: 5
weights: {mlm: 1.0, seq2seq: 1.0, region_feature: 0.05, region_class: 0.5}
"""


def cases(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every file of a folder that has a content, and each damage."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size):
        for damage in DAMAGES:
            yield file, damage


def damaged(file: Path, folder: Path, damage: str, place: Path) -> Path:
    """A copy of the folder at `place` with one file of it damaged; which file that is."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)
    copy = place / file.relative_to(folder)
    content = DAMAGES.get(damage, flipped)(file.read_bytes(), random.Random(f"{file.relative_to(folder)}:{damage}"))
    copy.unlink() if content is None else copy.write_bytes(content)
    return copy


def answers(folder: Path, name: str, commands: Commands, place: Path) -> tuple[str, set[str]]:
    """The answer of a command to an undamaged folder, and those to it without some of its checkpoints."""
    command = getattr(commands, name)
    shutil.copytree(folder, place, dirs_exist_ok=True)
    right, others = command(place).result, set()
    for whole in sorted((folder / "checkpoints").glob("step_*")):
        shutil.rmtree(place)
        shutil.copytree(folder, place)
        (place / "checkpoints" / checkpoint.BEST).unlink(missing_ok=True)
        for other in (place / "checkpoints").glob("step_*"):
            if other.name != whole.name:
                shutil.rmtree(other)
        others.add(command(place).result)
    assert right
    return right, others if name != "resume" else set()


def campaign(runs: tuple[Path, Commands], run: str, name: str, place: Path, share: float) -> list[str]:
    """Damage a share of the cases; what went wrong."""
    folder, commands = runs
    right, others = answers(folder / run, name, commands, place / "whole")
    rng, found, told = random.Random(f"{run}:{name}:{share}"), [], Counter[str]()
    for file, damage in cases(folder / run):
        if rng.random() >= share:
            continue
        copy = damaged(file, folder / run, damage, place / "run")
        try:
            answer = getattr(commands, name)(place / "run")
            problem = wrong(answer, copy, right, others)
            told["the right result" if answer.result == right else "an error" if answer.code else "another"] += 1
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            found.append(f"{name} of the {run} run, {damage} in {file.relative_to(folder / run)}: {problem}")
    print(f"{name} of the {run} run: {dict(told)}, {len(found)} wrong", *found, sep="\n  ", flush=True)
    return found


NAMES = ("resume", "evaluate", "load")
EVERY = [(run, name) for run in ("finished", "interrupted", "evaluated") for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_folder_with_a_damaged_file(runs, name, tmp_path):
    assert not campaign(runs, "interrupted", name, tmp_path, share=0.05)


@pytest.mark.heavy
@pytest.mark.parametrize("run, name", EVERY)
def test_a_run_folder_with_any_damaged_file(runs, run, name, tmp_path):
    assert not campaign(runs, run, name, tmp_path, share=1)


def test_a_feature_store_with_any_damaged_file(small_world, tmp_path):
    store, found = small_world / "regions", []
    right = read_store(store).result
    flips = [(store / name, f"flip {k}") for name in ("index.json", "images.jsonl") for k in range(FLIPS)]
    for file, damage in [*cases(store), *flips]:
        copy = damaged(file, store, damage, tmp_path / "store")
        try:
            problem = wrong(read_store(tmp_path / "store"), copy, right, set())
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            found.append(f"{damage} in {file.name}: {problem}")
    assert right and not found, "\n".join(found)
