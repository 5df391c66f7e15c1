"""Kill campaign: real pre-trainings under launch.sh, killed at random instants and started again until they are done.

    python -m pytest -m heavy tests/reliability/test_kills.py -s      # 20 runs; prints what was done to each

Each must end with the bytes of a run that nothing disturbed: weights, moments and the log without its times. After
every end the run folder tells the truth, and nothing of the run is alive or left over.
"""

import os
import random
import re
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.engine.launched import launch, log, state, workers
from unimo.engine import checkpoint

STEPS, MOST_STARTS = 30, 12
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
ENGINE = {"steps": STEPS, "save_every": 2, "keep_last": 2, "eval_every": 15, "learning_rate": 1e-3, "log_every": 1}
POSITIONS = {"text": 64, "image": 32, "pair": 1024}
STREAMS = {"text": 3, "image": 2, "pair": 1}  # the last are the slowest
SAID = {0: "done", 75: "preempted"}


class Straight(NamedTuple):
    """A run that nothing disturbed."""

    recipe: Path
    run: Path
    ranks: int
    seconds: float


@pytest.fixture
def straight(small_recipe, tmp_path):
    """straight(ranks): its recipe, with dropout, so that every random number counts."""

    def run(ranks: int) -> Straight:
        recipe, folder = tmp_path / f"recipe{ranks}.yaml", tmp_path / f"straight{ranks}" / "run"
        model = small_recipe["model"] | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
        changed = {"model": model, "engine": ENGINE, "batch_positions": POSITIONS, "streams": STREAMS}
        recipe.write_text(yaml.safe_dump(small_recipe | changed))
        started = time.monotonic()
        process = launch(["pretrain", str(recipe)], folder, {"NPROC": str(ranks)})
        assert process.wait(300) == 0, process.out.read_text()
        return Straight(recipe, folder, ranks, time.monotonic() - started)

    return run


def reached(run: Path) -> int:
    """The step of the last record of the log."""
    records = log(run)
    return records[-1]["step"] if records else 0


def written(run: Path) -> int:
    """How many files of a save are there; they are written one after the other."""
    try:
        return len(list((run / "checkpoints").glob(".step_*.tmp/*")))
    except FileNotFoundError:  # the folder has got its name
        return 0


def disturb(process, run: Path, seconds: float, rng: random.Random) -> str:
    """Send a signal at a random instant, or behind a random step, and half the times only in the next save from there.

    A SIGKILL strikes one or all of the processes that train, the others launch.sh, as a scheduler or terminal does.
    """
    number, end, saving = rng.choice(SIGNALS), time.monotonic() + rng.uniform(0, 0.7 * seconds), rng.random() < 0.5
    wanted = min(STEPS - 1, reached(run) + rng.randint(1, STEPS // 2)) if rng.random() < 0.7 else None
    while process.poll() is None and (time.monotonic() < end if wanted is None else reached(run) < wanted):
        time.sleep(0.002)
    files = rng.randrange(1, 7)
    while saving and process.poll() is None and written(run) < files:
        time.sleep(0.0005)
    found = workers(run)
    victims = rng.sample(found, rng.choice((1, len(found)))) if found and number == signal.SIGKILL else []
    for pid in victims or [process.pid] * (number != signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # it had come to its end
            pass
    return f"{number.name}{' in a save' if saving else ''} after step {reached(run)}"


def check_end(run: Path, code: int, said: str) -> None:
    """The folder of a run that has ended, with the exit code of launch.sh."""
    assert not workers(run), "something of the run is alive"
    assert "Traceback" not in said or code not in (0, 2, 75, 76), said
    assert code not in (2, 76), said
    if not (run / "state.json").exists():
        assert code not in SAID
        return
    told = state(run)
    if code in SAID:
        assert (told["status"], told["exit_code"]) == (SAID[code], code)
    elif told["status"] == "done":  # the signal came when nothing was left to do but to leave
        assert checkpoint.find_latest(run) == checkpoint.folder_of(run, STEPS)
    else:  # launch.sh says so for a process that had no time to
        assert told["status"] in ("killed", "failed") and not Path(f"/proc/{told['pid']}").exists()
    if stopped := re.match(r"rank \d+: stopped after step (\d+)", told["message"]):
        assert checkpoint.find_latest(run) == checkpoint.folder_of(run, int(stopped[1])), told


def killed_and_resumed(straight: Straight, run: Path, seed: int, kills: int) -> list[str]:
    """One run of the campaign; what was done to it."""
    rng, done, code = random.Random(f"{straight.ranks}:{seed}"), [], -1
    for start in range(MOST_STARTS):
        process = launch(["pretrain", str(straight.recipe)], run, {"NPROC": str(straight.ranks)})
        struck = disturb(process, run, straight.seconds, rng) if start < kills else "nothing"
        code = process.wait(300)
        check_end(run, code, process.out.read_text())
        done.append(f"{struck}: {code}")
        if code == 0 and start >= kills:
            break
    assert code == 0, done
    folders = [checkpoint.folder_of(each, STEPS) for each in (run, straight.run)]
    for file in (checkpoint.MODEL, checkpoint.OPTIMIZER):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes(), (file, done)
    assert log(run) == log(straight.run), done
    saved = sorted((run / "checkpoints").glob("step_*"))
    assert len(saved) <= ENGINE["keep_last"] + 1 and not any(map(checkpoint.torn, saved)), (saved, done)
    assert checkpoint.find_best(run).name == checkpoint.find_best(straight.run).name, done
    left = [path for path in run.rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".step")]
    assert not left, (left, done)
    return done


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_run_ends_with_the_same_bytes(straight, tmp_path, ranks):
    killed_and_resumed(straight(ranks), tmp_path / "killed" / "run", seed=ranks, kills=1)


@pytest.mark.heavy
@pytest.mark.parametrize("ranks", [1, 2])
def test_ten_runs_killed_again_and_again_end_with_the_same_bytes(straight, tmp_path, ranks):
    undisturbed = straight(ranks)
    for seed in range(10):
        done = killed_and_resumed(undisturbed, tmp_path / f"killed{seed}" / "run", seed, kills=1 + seed % 4)
        print(f"ranks {ranks}, seed {seed}: {'; '.join(done)}", flush=True)
