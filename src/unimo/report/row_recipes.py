"""Which recipes say that they make a row of the papers' tables, and which scripts run them: read off the files."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from unimo.config import ROOT, Paper, read, validate
from unimo.paper import Number

KINDS = ("finetune", "pretrain")  # folders of model_configs and of run_scripts
_NAMED = re.compile(r"model_configs/[\w./-]+\.yaml(?![\w./-])")
_TASK = re.compile(r"^task (\w+) ", re.MULTILINE)  # of a script over run_scripts/finetune/task.sh: DATASET, then a size


@dataclass(frozen=True)
class Recipe:
    """A recipe that names a row. One without a dataset trains what the row's numbers are fine-tuned from."""

    path: str  # from the root of the clone
    paper: Paper
    commands: list[str]  # that run it; empty where no script names it

    @property
    def pretrains(self) -> bool:
        """Whether it is of the row as a whole, not of a dataset."""
        return self.paper.dataset is None

    def makes(self, tables: Collection[str], number: Number) -> bool:
        """Whether its row is that of the number, which those tables print: by table and row, and of fine-tuning by
        dataset and mode, too."""
        if self.paper.table not in tables or self.paper.row != number.row:
            return False
        return self.pretrains or (self.paper.dataset, self.paper.mode) == (number.dataset, number.mode)


def recipes(root: Path = ROOT) -> list[Recipe]:
    """All recipes of the clone at `root` that name a row, by path.

    Raises:
        ConfigError: a recipe that cannot be read, or whose `paper` has wrong keys or values.
    """
    commands = _commands(root)
    found = []
    for path in _files(root / "model_configs", ".yaml"):
        values = read(path).get("paper")
        if values is not None:
            name = str(path.relative_to(root))
            found.append(Recipe(name, validate(Paper, values, f"{name}: paper"), commands.get(name, [])))
    return found


def _commands(root: Path) -> dict[str, list[str]]:
    """Recipe -> the commands whose scripts name it outside of a comment."""
    found: dict[str, list[str]] = {}
    for path in _files(root / "run_scripts", ".sh"):
        lines = path.read_text(encoding="utf-8").splitlines()
        code = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        for recipe in sorted({*_NAMED.findall(code)}):
            found.setdefault(recipe, []).append(f"bash {path.relative_to(root)}")
        for dataset in _TASK.findall(code):
            for recipe_file in sorted((root / "model_configs" / "finetune").glob(f"{dataset}_*.yaml")):
                size = recipe_file.stem.removeprefix(f"{dataset}_")
                name = str(recipe_file.relative_to(root))
                found.setdefault(name, []).append(f"bash {path.relative_to(root)} {size}")
    return found


def _files(folder: Path, ending: str) -> list[Path]:
    return sorted(path for kind in KINDS for path in (folder / kind).rglob(f"*{ending}"))
