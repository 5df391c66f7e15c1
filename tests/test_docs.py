"""Every `unimo` command that the documents show is one that the program takes, and every file they name exists."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from unimo.cli import main
from unimo.config import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*sorted(ROOT.glob("*.md")), *DOCS]


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
        assert words, f"{line}: no command"
        _, command, words = command.resolve_command(click.Context(command), words)
    if words and words != ["--help"]:
        command.make_context(command.name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page):
    for line in commands(page.read_text(encoding="utf-8")):
        for one in re.split(r" \| (?=[a-z])", line):  # `zoo list | show NAME`: the group once, its commands after it
            group = "unimo zoo " if line.startswith("unimo zoo") and not one.startswith("unimo") else ""
            if one.strip() in ("unimo zoo", "unimo port"):  # a group as a whole
                continue
            parse(group + one)


def test_the_pages_show_commands():
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) >= 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_links_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"\b((?:run_scripts|model_configs|tests|data_prep|docs)/[\w/.-]+\.(?:py|sh|yaml|md|jsonl?))\b", text
    )
    links = [page.parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    missing = [str(path) for path in [*(ROOT / n for n in named), *links] if not Path(path).exists()]
    assert not missing


def test_the_index_names_every_page_once():
    index = ROOT / "docs" / "README.md"
    named = re.findall(r"^- \[([\w.]+)\]\((?:\.\./)?\1\): \S.*[.?]$", index.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted([*(page.name for page in DOCS if page != index), "CONTRIBUTING.md", "CHANGELOG.md"])


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in docs/."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_groups_shown_match_each_parameter_of_unimo_base_once():
    from unimo.config import load
    from unimo.engine.optimizer import assign
    from unimo.engine.settings import Group
    from unimo.models.systems import SYSTEMS, skeleton

    (shown,) = blocks("training.md", "yaml")
    config = load(SYSTEMS["unimo"].config, ROOT / "model_configs" / "models" / "unimo_base.yaml")
    model = skeleton("unimo", config, ["pool", "match"])
    assign(model, [Group(**group) for group in yaml.safe_load(shown)["engine"]["groups"]])
    rates = {name: p.optimize_attr["learning_rate"] for name, p in model.named_parameters()}
    assert rates["layers.5.attention.qkv.weight"] == 0.5 and rates["layers.11.attention.qkv.weight"] == 1.0
    assert rates["match.affine.weight"] == 5 and model.word_embedding.weight.stop_gradient


def test_the_task_shown_trains(tmp_path):
    import paddle

    from unimo.engine import checkpoint
    from unimo.engine.loop import train
    from unimo.engine.settings import EngineConfig
    from unimo.engine.task import Task
    from unimo.readers.batching import Batch

    class Data:
        fingerprint = "shown"

        def next(self):
            return [Batch("s", ["a", "b"], {"x": paddle.ones([2, 3])})]

        def state(self):
            return {}

    (shown,) = blocks("extending.md", "python")
    space = {"Task": Task, "paddle": paddle}
    exec(shown, space)
    task = space["Teaching"](paddle.nn.Linear(3, 2), paddle.nn.Linear(3, 2))
    before = task.teacher.weight.numpy().copy()
    train(task, Data(), EngineConfig(steps=2, learning_rate=0.1, warmup=1), tmp_path)
    assert (checkpoint.find_latest(tmp_path) / checkpoint.KEPT).is_file()
    assert abs(task.teacher.weight.numpy() - before).max() > 0
