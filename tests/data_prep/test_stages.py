"""What all stages share: help, errors and exit codes of the command line."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from data_prep.__main__ import main

ROOT = Path(__file__).parents[2]


def without(module: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a stage in a process where `module` is not installed."""
    program = f"import sys; sys.modules[{module!r}] = None; from data_prep.__main__ import main; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def commands(group: click.Group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found = {}
    for name, command in group.commands.items():
        found |= commands(command, (*path, name)) if isinstance(command, click.Group) else {(*path, name): command}
    return found


COMMANDS = commands(main)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_an_example(path):
    shown = CliRunner().invoke(main, [*path, "--help"])
    assert shown.exit_code == 0 and f"Example: python -m data_prep {' '.join(path)}" in shown.output


def test_output_has_its_older_spelling_too():
    spelled = [p.opts for command in COMMANDS.values() for p in command.params if {"--out", "--output"} & {*p.opts}]
    assert spelled and all(opts == ["--output", "--out"] for opts in spelled), spelled


def test_every_stage_has_its_commands():
    assert {path[0] for path in COMMANDS} >= {"demo", "regions", "rewrite", "merge", "minilm"}


@pytest.mark.parametrize("module, name", [("scipy", "demo"), ("sng_parser", "rewrite"), ("sklearn", "rewrite")])
def test_a_missing_package_is_named_with_its_hint(module, name, write_pairs, shipped, tmp_path):
    pairs = write_pairs(tmp_path, shipped[:2])
    arguments = [tmp_path / "out"] if name == "demo" else ["build", "--pairs", pairs, "--output", tmp_path / "r.jsonl"]
    done = without(module, name, *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert module in done.stderr and "pip install -e '.[data]'" in done.stderr


def test_a_folder_that_cannot_be_made_is_one_clear_error(stage, write_pairs, shipped, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    pairs = write_pairs(tmp_path, shipped[:2])
    done = stage("rewrite", "build", "--pairs", pairs, "--out", tmp_path / "file" / "rewrites.jsonl")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: {tmp_path / 'file'}: " in done.stderr


def test_a_missing_list_of_pictures_is_one_clear_error(stage, tmp_path):
    done = stage("rewrite", "build", "--pairs", tmp_path / "none.jsonl", "--output", tmp_path / "rewrites.jsonl")
    assert done.returncode == 2 and "cannot read" in done.stderr and "Traceback" not in done.stderr


def test_what_a_stage_reads_is_not_what_it_writes(stage, write_pairs, shipped, tmp_path):
    pairs = write_pairs(tmp_path, shipped[:2])
    before = pairs.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(pairs)
    for output in (pairs, tmp_path / "link.jsonl"):
        done = stage("rewrite", "build", "--pairs", pairs, "--paraphrases", 0, "--output", output)
        assert done.returncode == 2 and "is what the stage reads and what it would write" in done.stderr
    assert pairs.read_bytes() == before
