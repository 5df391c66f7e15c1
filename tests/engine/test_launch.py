"""launch.sh with the real launcher: exit codes, signals, a dead worker, and two hosts made of network namespaces."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import launched
import pytest
from launched import ROOT, state, workers

from unimo.engine import checkpoint

PROGRAM = str(Path(__file__).with_name("tiny_task.py"))
TWO = {"NPROC": "2"}


def launch(run: Path, options: dict, environment: Mapping[str, str] = {}, prefix: tuple[str, ...] = ()):
    return launched.launch([PROGRAM, json.dumps(options)], run, environment, prefix)


def until_step(run: Path, step: int, process) -> None:
    end = time.monotonic() + 60
    while f'{{"step": {step},' not in ((run / "log.jsonl").read_text() if (run / "log.jsonl").exists() else ""):
        assert time.monotonic() < end and process.poll() is None, process.out.read_text()
        time.sleep(0.02)


def test_one_process(tmp_path):
    """In parallel, for time: 0, 2, 76, and a kill after a stop that came before the first step: nothing was saved."""
    bad = launch(tmp_path / "bad", {"engine": {"steps": 0, "amp": "int8"}})
    poisoned = launch(tmp_path / "poisoned", {"engine": {}, "data": {"poison": 2}})
    assert bad.wait(60) == 2
    assert "tiny: 2 problem(s)" in bad.out.read_text()
    assert poisoned.wait(60) == 76
    good = launch(tmp_path / "good", {"engine": {}})
    early = launch(tmp_path / "early", {"engine": {}, "data": {"pause": 1000}})
    assert good.wait(60) == 0
    assert good.out.read_text().startswith(f"run: python -u {PROGRAM} --output {tmp_path}/good")
    early.send_signal(signal.SIGTERM)
    early.send_signal(signal.SIGTERM)
    for pid in workers(tmp_path / "early"):
        os.kill(pid, signal.SIGKILL)  # stands for a scheduler that loses patience
    assert early.wait(60) == 128 + signal.SIGKILL  # not 75, which only a run says that saved
    assert not (tmp_path / "early" / "state.json").exists() or state(tmp_path / "early")["status"] == "killed"


def test_a_lost_terminal_stops_the_run_and_it_is_resumed(start, tmp_path):
    run, engine = tmp_path / "run", {"steps": 1000, "log_every": 1}
    process = launch(run, {"engine": engine, "data": {"pause": 0.1}})
    until_step(run, 2, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 75
    assert state(run)["status"] == "preempted"
    assert not workers(run)


def test_two_processes_are_stopped_and_resumed(start, tmp_path):
    run, engine = tmp_path / "run", {"steps": 8, "log_every": 1, "sharding": 1}
    process = launch(run, {"engine": engine, "data": {"pause": 0.5}}, TWO)
    until_step(run, 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 75
    assert state(run)["status"] == "preempted"
    said = process.out.read_text().splitlines()[-1]
    stopped = checkpoint.read_trainer_state(checkpoint.find_latest(run))["step"]
    assert said == f"stopped after step {stopped}; run the same command again to go on"
    job = start(run, {"engine": engine}, ranks=2)
    assert job.wait() == [0, 0]
    assert f"resuming from step {stopped} ({run})" in job.log()
    assert state(run)["status"] == "done"
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def test_a_killed_worker_ends_the_job_within_a_minute(tmp_path):
    run = tmp_path / "run"
    process = launch(run, {"engine": {"steps": 1000, "log_every": 1}, "data": {"pause": 0.2}}, TWO)
    until_step(run, 2, process)
    victim = workers(run)[-1]
    os.kill(victim, signal.SIGKILL)
    assert process.wait(60) not in (0, 2, 75, 76)
    text = process.out.read_text()
    assert "of 2 failed at: " in text and "workerlog.1 <==" in text
    assert not workers(run) and state(run)["status"] in ("failed", "killed")


def test_a_run_that_is_killed_does_not_say_that_it_goes_on(tmp_path):
    run = tmp_path / "run"
    process = launch(run, {"engine": {"steps": 1000, "log_every": 1}, "data": {"pause": 0.1}})
    until_step(run, 2, process)
    (worker,) = workers(run)
    os.kill(worker, signal.SIGKILL)
    assert process.wait(60) == 128 + signal.SIGKILL
    assert state(run)["status"] == "killed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_script_around_others_passes_a_signal_on(tmp_path, number):
    """As quickstart.sh runs its stages: the inner script stops its own child, and no later stage starts."""
    program = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); print('up', flush=True)"
    )
    (tmp_path / "inner.sh").write_text(
        f'source {ROOT}/run_scripts/env.sh\nsupervise python -c "{program}; time.sleep(60)"\n'
    )
    (tmp_path / "outer.sh").write_text(
        f"set -e\nsource {ROOT}/run_scripts/env.sh\nsupervise bash {tmp_path}/inner.sh\necho later\n"
    )
    process = subprocess.Popen(["bash", tmp_path / "outer.sh"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 75


NETNS = "two hosts need root, network namespaces and the ip command (Debian: apt-get install iproute2)"


@pytest.fixture
def hosts():
    """Two network namespaces joined by a cable: (prefix of a command, address) of each."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip(NETNS)
    names, addresses = [f"unimo{os.getpid()}{side}" for side in "ab"], ["10.77.0.1", "10.77.0.2"]
    cable = [f"u{os.getpid()}{side}" for side in "ab"]
    try:
        for name in names:
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
            if made.returncode:
                pytest.skip(f"{NETNS}: {made.stderr.strip()}")
        subprocess.run(["ip", "link", "add", cable[0], "type", "veth", "peer", "name", cable[1]], check=True)
        for name, end, address in zip(names, cable, addresses, strict=True):
            subprocess.run(["ip", "link", "set", end, "netns", name], check=True)
            subprocess.run(["ip", "-n", name, "addr", "add", f"{address}/24", "dev", end], check=True)
            for device in (end, "lo"):
                subprocess.run(["ip", "-n", name, "link", "set", device, "up"], check=True)
        yield [(("ip", "netns", "exec", name), address) for name, address in zip(names, addresses, strict=True)]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_two_hosts_give_the_losses_of_one_process(hosts, start, tmp_path):
    options = {"engine": {"log_every": 1}}
    run, alone = tmp_path / "two" / "run", tmp_path / "alone"
    processes = [
        launch(run, options, {"NNODES": "2", "MASTER": "10.77.0.1:29500", "HOST": address}, prefix)
        for prefix, address in hosts
    ]
    assert start(alone, options).wait() == [0]
    assert [process.wait(120) for process in processes] == [0, 0], "".join(p.out.read_text() for p in processes)
    logs = [[json.loads(line) for line in (r / "log.jsonl").read_text().splitlines()] for r in (run, alone)]
    assert len(logs[0]) == len(logs[1]) == 6
    for ours, theirs in zip(*logs, strict=True):
        assert ours["losses"] == pytest.approx(theirs["losses"], abs=1e-6)
    assert sorted(path.name for path in (run / "log").iterdir()) == ["10.77.0.1", "10.77.0.2"]


@pytest.mark.parametrize(
    ("environment", "arguments", "words"),
    [
        ({}, [], "no command"),
        ({"NPROC": "two"}, ["pretrain"], "NPROC=two and NNODES=1 must be 1 or more"),
        ({"NNODES": "2"}, ["pretrain"], "NNODES=2 needs MASTER=ip:port and HOST"),
        ({"NNODES": "2", "MASTER": "10.0.0.1:1", "HOST": "203.0.113.9"}, ["pretrain"], "no interface has HOST"),
    ],
)
def test_wrong_use_of_the_script(environment, arguments, words):
    command = ["bash", str(ROOT / "run_scripts/launch.sh"), *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and words in done.stderr


@pytest.mark.parametrize("value", ["0", "two", "a[$(touch owned)0]", "-1"])
def test_a_count_of_processes_that_is_none_is_refused_and_not_computed_with(tmp_path, value):
    script = ROOT / "run_scripts" / "env.sh"
    done = subprocess.run(
        ["bash", "-c", f"source {script}"],
        env={**os.environ, "NPROC": value},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and f"NPROC={value} must be a whole number" in done.stderr
    assert not (tmp_path / "owned").exists()
