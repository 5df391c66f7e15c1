"""Signals outside of training: the command ends at once with 75, and the run folder says so."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from unimo.config import ROOT
from unimo.engine.loop import around_training
from unimo.engine.stop import StopRequest
from unimo.errors import Stopped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_before_training_stops_at_once(tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="run the same command again"), around_training(tmp_path / "run"):
        os.kill(os.getpid(), number)
        time.sleep(60)
    assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "preempted"
    assert signal.getsignal(number) == before


def test_a_run_that_is_to_outlive_its_terminal_does(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with around_training(tmp_path), StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.made
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_command_that_is_stopped_while_it_starts_says_75(tmp_path):
    """The tokenizer's files are a pipe that nobody fills, so that it starts for ever."""
    os.mkfifo(tmp_path / "vocab.txt")
    recipe = ROOT / "model_configs" / "pretrain" / "unimo_quickstart.yaml"
    # a start that is not there would be an error before the tokenizer is opened
    words = [recipe, "initialise_from=null", f"tokenizer={tmp_path}", "--output", tmp_path / "run"]
    command = [sys.executable, "-m", "unimo.cli", "pretrain", *map(str, words)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    time.sleep(8)
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=60)
    assert job.returncode == 75, said
    assert json.loads((tmp_path / "run" / "state.json").read_text())["exit_code"] == 75
