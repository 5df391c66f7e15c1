"""One process or two, with and without sharding and accumulation: the same numbers; and failures that end the job."""

import json
import re
import signal
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from unimo.engine import checkpoint

STEPS = 6  # two of each stream, so that each head is used, unused and used again
OPTIONS = {"engine": {"steps": STEPS, "log_every": 1, "warmup": 2}}


def options(**engine) -> dict:
    return OPTIONS | {"engine": OPTIONS["engine"] | engine}


def log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def state(run: Path) -> dict:
    return json.loads((run / "state.json").read_text())


def assert_equal(run: Path, reference: Path) -> None:
    """Losses, gradient norms and final weights to 1e-6."""
    assert [stream for r in log(run) for stream in r["streams"]] == ["text", "pair", "image", "text", "image", "pair"]
    for ours, theirs in zip(log(run), log(reference), strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], abs=1e-6)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-6)
        assert (ours["lr"], ours["pad_share"]) == (theirs["lr"], pytest.approx(theirs["pad_share"]))
    for file in (checkpoint.MODEL, checkpoint.OPTIMIZER):
        a, b = (load_file(checkpoint.folder_of(r, STEPS) / file) for r in (run, reference))
        assert a.keys() == b.keys()
        for name in a:
            assert abs(a[name] - b[name]).max() < 1e-6, name


@pytest.fixture(scope="module")
def one_process(start, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("one") / "run"
    assert start(run, options()).wait() == [0]
    return run


def test_accumulation_equals_one_large_batch(start, one_process, tmp_path):
    assert start(tmp_path / "run", options(accumulate=4)).wait() == [0]
    assert_equal(tmp_path / "run", one_process)


def test_data_parallel_equals_one_process(start, one_process, tmp_path):
    assert start(tmp_path / "run", options(accumulate=2), ranks=2).wait() == [0, 0]
    assert_equal(tmp_path / "run", one_process)


@pytest.mark.parametrize("recompute", [False, True])
def test_unimo_on_two_processes_equals_one(start, tmp_path, recompute):
    unimo = {"unimo": {"recompute": recompute}}
    assert start(tmp_path / "one", options() | unimo).wait() == [0]
    assert start(tmp_path / "two", options(accumulate=2) | unimo, ranks=2).wait() == [0, 0]
    assert_equal(tmp_path / "two", tmp_path / "one")


def test_sharding_equals_one_process_and_resumes_bit_equal(start, one_process, tmp_path):
    sharded = options(sharding=1, accumulate=2)
    assert start(tmp_path / "straight", sharded, ranks=2).wait() == [0, 0]
    assert_equal(tmp_path / "straight", one_process)
    job = start(tmp_path / "stopped", sharded | {"data": {"pause": 0.1}}, ranks=2)
    job.until(lambda: f"step 2/{STEPS} " in job.log())
    job.signal(signal.SIGTERM)
    assert job.wait() == [75, 75]
    assert start(tmp_path / "stopped", sharded, ranks=2).wait() == [0, 0]
    for file in (checkpoint.MODEL, checkpoint.OPTIMIZER):
        ours, theirs = (checkpoint.folder_of(tmp_path / run, STEPS) / file for run in ("stopped", "straight"))
        assert ours.read_bytes() == theirs.read_bytes()


def test_the_epsilon_of_fluid_is_kept_under_sharding(start, tmp_path):
    """Fleet's sharding updates without calling the optimiser's own step, which had the correction."""
    fluid = {"compat": {"adam_epsilon": "fluid-1.8"}, "epsilon": 0.1}
    for name, ranks, engine in (("one", 1, fluid), ("two", 2, fluid | {"sharding": 1, "accumulate": 2})):
        assert start(tmp_path / name, options(**engine), ranks).wait() == [0] * ranks
    assert_equal(tmp_path / "two", tmp_path / "one")


def test_processes_that_disagree_do_not_start(start, tmp_path):
    job = start(tmp_path / "run", [options(), options(seed=2) | {"data": {"fingerprint": "other"}}], ranks=2)
    assert job.wait() == [2, 2]
    for rank in (0, 1):
        assert "- seed: 1 on rank(s) [0]; 2 on rank(s) [1]" in job.log(rank)
        assert "- data_fingerprint: tiny-1 on rank(s) [0]; other on rank(s) [1]" in job.log(rank)
    assert state(tmp_path / "run")["exit_code"] == 2


def test_a_hang_becomes_an_error_with_rank_and_place(start, tmp_path):
    quick = options(hang_timeout=10)
    job = start(tmp_path / "run", [quick, quick | {"data": {"pause": 1000}}], ranks=2)
    assert job.wait() == [1, 1]
    ended = "made no progress for 10 s|failed"  # whichever of the two is first ends the other
    assert re.search(f"error: rank 0 of 2 ({ended}) at: counts of step 1", job.log(0))
    assert "rank 1 of 2 made no progress for 10 s at: data of step 1" in job.log(1)
    assert "in next" in job.log(1), "where it hangs"


def test_a_stopped_rank_is_told_at_default_settings(start, tmp_path):
    """Before gloo's collectives give up, which names neither rank nor place."""
    run = tmp_path / "run"
    job = start(run, options(steps=1000) | {"data": {"pause": 0.1}}, ranks=2)
    job.until(lambda: "step 2/" in job.log())
    job.signal(signal.SIGSTOP, rank=1)
    job.processes[0].join(60)
    job.signal(signal.SIGKILL, rank=1)
    assert job.wait() == [1, -signal.SIGKILL]
    error = re.search(r"error: (rank 0 of 2 made no progress for 25 s at: .* of step \d+); another rank", job.log())
    assert error and state(run)["status"] == "failed" and state(run)["message"] == error[1]


def test_signals_during_a_save_do_not_break_it(start, tmp_path):
    """They interrupt the socket on which the other rank asks whether rank 0 has written."""
    run, slow = tmp_path / "run", options(save_every=1, steps=50) | {"save_seconds": 0.5}
    job = start(run, slow, ranks=2)
    job.until(lambda: list((run / "checkpoints").glob(".*.tmp")))
    for _ in range(40):
        for rank in (0, 1):
            if job.processes[rank].is_alive():
                job.signal(signal.SIGTERM, rank)
        time.sleep(0.01)
    assert job.wait() == [75, 75], job.log(1)


@pytest.mark.heavy
def test_a_slow_save_is_waited_for(start, tmp_path):
    """Longer than the 30 s after which gloo gives up."""
    assert start(tmp_path / "run", options() | {"save_seconds": 35}, ranks=2).wait(120) == [0, 0]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_non_finite_loss_stops_the_run_and_is_never_saved(start, tmp_path, ranks):
    run = tmp_path / "run"
    poisoned = options(save_every=3) | {"data": {"poison": 4}}
    job = start(run, poisoned, ranks)
    assert job.wait() == [76] * ranks
    ids = {1: "rank 0: s4-0, s4-1, s4-2, s4-3, ", 2: "rank 0: s4-0, s4-2, s4-4, s4-6; rank 1: s4-1, s4-3, s4-5, s4-7"}
    for rank in range(ranks):
        assert "error: step 5, stream image: loss regions is nan; the last checkpoint is of step 3" in job.log(rank)
        assert ids[ranks] in job.log(rank)
    assert state(run)["status"] == "non_finite" and state(run)["exit_code"] == 76
    assert checkpoint.find_latest(run) == checkpoint.folder_of(run, 3)
    assert [f.name for f in (run / "checkpoints").glob("step_*")] == ["step_00000003"]


@pytest.mark.parametrize("sharding", [0, 1])
def test_an_update_meets_the_other_ranks_twice(start, tmp_path, sharding):
    """Before it for the numbers of items, and once for losses, norm and who is to stop; gradients are fleet's."""
    engine = {"sharding": sharding, "accumulate": 2, "save_every": 100}
    job = start(tmp_path / "run", {"engine": engine, "count_sums": True}, ranks=2)
    assert job.wait() == [0, 0]
    assert json.loads(job.log().split("sums per update: ")[1].split("\n")[0]) == [2] * 6
