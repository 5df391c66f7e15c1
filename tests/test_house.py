"""The house: which folder may import which, no circles, and one name for one idea."""

import ast
import graphlib
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from unimo.config import ROOT

# Folders and files of src/unimo from the top down: each imports what stands below it, and of its own folder.
FLOORS = (
    {"cli"},
    {"report", "export", "finetune", "pretrain"},
    {"zoo"},
    {"port", "generate", "evaluate"},
    {"engine"},
    {"readers"},
    {"models"},
    {"storage", "provenance", "paper", "compat", "console", "inference"},
    {"config", "hardware"},
    {"errors"},
)
DATA_PREP = {"readers", "models", "zoo", "storage", "console", "config", "hardware", "errors"}  # that it may import
DATA_PREP |= {"report", "inference"}  # thumbnails and word differences, for pages; what runs backbones
DATA_PREP |= {"evaluate"}  # what VQA's answers score, which its targets are
ONLY = {"models": {"models", "config", "errors"}}  # what a folder may import, where that is less
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}

# Names that more than one file may bear, and the folders that these stand in: a system's and a family's own, the
# registry of systems on its two floors, and what every stage of data_prep and every group of commands has.
FOUR = {"models", "pretrain", "finetune", "evaluate"}
SHARED = {name: FOUR for name in ("unimo", "unimo2", "oner", "retrieval", "classify", "generate")} | {
    "systems": {"models", "pretrain"},
    "build": {"demo", "page", "regions", "retrieve", "rewrite", "samples", "scenes"},
    "commands": {
        "benchmarks",
        "corpora",
        "demo",
        "page",
        "regions",
        "retrieve",
        "rewrite",
        "samples",
        "scenes",
        "finetune",
    },
}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of the package and of data preparation."""
    files = {file: ROOT / "src" for file in (ROOT / "src" / "unimo").rglob("*.py")}
    files |= {file: ROOT for file in (ROOT / "data_prep").rglob("*.py")}
    names = {file: ".".join(file.relative_to(root).with_suffix("").parts) for file, root in files.items()}
    return {name.removesuffix(".__init__"): file for file, name in names.items()}


MODULES = modules()


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """The modules of `known` that a file imports, at its top or in a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports name the whole path"
            if node.module not in known:
                continue
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


IMPORTS = {name: {*imported(ast.parse(file.read_text(encoding="utf-8")), {*MODULES})} for name, file in MODULES.items()}


def part(module: str) -> str:
    """The folder or file of src/unimo that a module belongs to."""
    return (module.split(".") + [""])[1]


def forbidden(one: str, other: str) -> str | None:
    """Why the module `one` may not import `other`, if it may not."""
    if other.startswith("data_prep"):
        return None if one.startswith("data_prep") else "the package imports data_prep"
    a, b = part(one), part(other)
    if one.startswith("data_prep"):
        return None if b in {"", *DATA_PREP} else f"data_prep imports only {', '.join(sorted(DATA_PREP))}"
    if not b or a == b:  # unimo itself has the version
        return None
    if b not in ONLY.get(a, {b}):
        return f"{a} imports only {', '.join(sorted(ONLY[a]))}"
    floors = [next(i for i, floor in enumerate(FLOORS) if p in floor) for p in (a, b)]
    return None if floors[0] < floors[1] else f"{a} does not stand above {b}"


def test_every_folder_has_its_floor():
    assert len(MODULES) > 150
    named = [name for floor in FLOORS for name in floor]
    assert len(named) == len({*named}) and {part(m) for m in MODULES if m.startswith("unimo.")} <= {*named}


def test_imports_go_down_only():
    reasons = {(one, other): forbidden(one, other) for one, others in IMPORTS.items() for other in others}
    assert len(reasons) > 700 and not {pair: reason for pair, reason in reasons.items() if reason}


@pytest.mark.parametrize(
    "one, other",
    [
        ("unimo.models.unimo", "unimo.readers.images"),
        ("unimo.models.unimo", "unimo.storage.atomic"),
        ("unimo.pretrain.run", "unimo.finetune.family"),
        ("unimo.finetune.family", "unimo.pretrain.run"),
        ("unimo.engine.loop", "unimo.evaluate.results"),
        ("unimo.port.release", "unimo.zoo.released"),
        ("unimo.storage.atomic", "unimo.readers.tokenizer"),
        ("unimo.errors", "unimo.storage.atomic"),
        ("data_prep.stage", "unimo.engine.checkpoint"),
        ("unimo.readers.images", "data_prep.stage"),
    ],
)
def test_what_is_forbidden_is_seen(one, other):
    assert forbidden(one, other) and one in MODULES and other in MODULES


def test_there_are_no_circles():
    tuple(graphlib.TopologicalSorter(IMPORTS).static_order())


def test_a_circle_is_seen():
    with pytest.raises(graphlib.CycleError):
        tuple(graphlib.TopologicalSorter(IMPORTS | {"unimo.errors": {"unimo.cli"}}).static_order())


def test_a_name_means_one_thing():
    places = defaultdict(list)
    for file in MODULES.values():
        places[file.stem].append(file.parent.name)
    del places["__init__"]
    repeated = {name: folders for name, folders in places.items() if len(folders) > 1}
    assert {name: folders for name, folders in repeated.items() if not {*folders} <= SHARED.get(name, set())} == {}
    assert not DRAWERS & {*places}


@pytest.mark.parametrize(
    "command",
    [
        ["unimo.cli", "--help"],
        ["unimo.cli", "zoo", "list"],
        ["unimo.cli", "pretrain", "--help"],
        ["unimo.cli", "pretrain", "no/recipe.yaml", "--output", "no/run"],
        ["unimo.cli", "finetune", "--help"],
        ["unimo.cli", "finetune", "retrieval", "--help"],
        ["unimo.cli", "finetune", "no/recipe.yaml", "--model", "no/model", "--output", "no/run"],
        ["unimo.cli", "evaluate", "--help"],
        ["unimo.cli", "report", "table", "no/run"],
        ["unimo.cli", "report", "paper", "--runs", "model_configs"],
        ["data_prep.__main__", "--help"],
        ["data_prep.__main__", "regions", "extract", "--pairs", "no/pairs.jsonl", "--output", "no/store"],
    ],
    ids=" ".join,
)
def test_what_needs_no_network_does_not_load_paddle(command):
    """Help, lists, and what cannot be done because a file lacks."""
    code = "import sys; from importlib import import_module; main = import_module(sys.argv[1]).main; "
    code += "main(sys.argv[2:], standalone_mode=False); print('paddle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "False"
