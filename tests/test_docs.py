"""Every `unimo` command that the documents show is one that the program takes, and every file they name exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

from unimo.cli import main
from unimo.config import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def commands(text: str) -> list[str]:
    """Lines of shell blocks and code in backticks that call unimo, without comments and marks of what is optional."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in re.sub(r"\\\n", " ", block).splitlines()]
    lines += re.findall(r"`(unimo [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    called = [line for line in lines if re.match(r"(NPROC=\d+ )?unimo ", line)]
    plain = [re.sub(r"[\[\]]|KEY=VALUE", "", line.partition(" #")[0]).strip() for line in called]
    return [line.replace("...", "x") for line in plain]


def parse(line: str) -> None:
    """Let click parse a command line without running it; a bare mention of it may lack its arguments."""
    words, command = shlex.split(line)[1:], main
    while isinstance(command, click.Group):
        assert words and words[0] in command.commands, f"{line}: no command {words[:1]}"
        command, words = command.commands[words[0]], words[1:]
    if words and words != ["--help"]:
        command.make_context(command.name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    for line in commands(page.read_text(encoding="utf-8")):
        for one in re.split(r" \| (?=[a-z])", line):  # `zoo list | show NAME`: the group once, its commands after it
            group = "unimo zoo " if line.startswith("unimo zoo") and not one.startswith("unimo") else ""
            if one.strip() in ("unimo zoo", "unimo port"):  # a group as a whole
                continue
            parse(group + one)


def test_the_pages_show_commands():
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) >= 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_links_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"\b((?:run_scripts|model_configs|tests|data_prep|docs)/[\w/.-]+\.(?:py|sh|yaml|md|jsonl?))\b", text
    )
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    missing = [str(path) for path in [*(ROOT / n for n in named), *links] if not Path(path).exists()]
    assert not missing
