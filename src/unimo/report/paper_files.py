"""The papers' tables with ours beside them as files: paper.md and paper.html to read, paper.csv to compute with."""

import csv
import io
from pathlib import Path
from typing import Any

from unimo.paper import tables
from unimo.report.paper_markdown import as_markdown
from unimo.report.paper_tables import LEGEND, TO_VERIFY, WARNING, made_by, sections, summary
from unimo.report.reproduction import Line, Reproduction, unjoined
from unimo.report.templates import environment
from unimo.storage.atomic import atomic_write


def write(found: Reproduction, folder: Path) -> list[Path]:
    """Write the three files into a folder, each atomically, and return them.

    Raises:
        DataError: a file cannot be written. OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"paper.md": as_markdown(found) + "\n", "paper.csv": as_csv(found), "paper.html": as_html(found)}
    for name, content in contents.items():
        with atomic_write(folder / name) as file:
            file.write(content.encode())
    return [folder / name for name in contents]


def as_csv(found: Reproduction) -> str:
    """One line for each published number, with all that its file says of it and what is ours; empty where it is not.

    `n` is 0 where no run stands beside a number of our systems, and empty for those of others.
    """
    rows = [_values(line) for line in found.lines]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _values(line: Line) -> dict[str, Any]:
    table, number = tables()[line.table], line.number
    of_table = {"table": line.table, "paper": table.paper, "label": table.label, "title": table.title}
    of_number = number.model_dump(exclude={"value", "certainty"}) | {"key": number.key, "unit": number.unit}
    published = {"certainty": line.certainty, "published": line.printed}
    ours = {
        "ours": _rounded(line.mean),
        "deviation": _rounded(line.deviation),
        "n": len(line.runs) if line.reproduced else None,
        "difference": _rounded(line.difference),
        "runs": "; ".join(run.name for run in line.runs),
        "recipe": "; ".join(recipe.path for recipe in line.recipes),
        "command": "; ".join(command for recipe in line.recipes for command in recipe.commands),
    }
    return of_table | of_number | published | ours


def _rounded(value: float | None) -> float | None:
    """Without what binary fractions add: 0.1 + 0.2 is 0.3."""
    return None if value is None else round(value, 6)


def as_html(found: Reproduction) -> str:
    """A page that needs no network and no script."""
    return (
        environment()
        .get_template("paper.html.jinja")
        .render(
            summary=summary(found),
            folders=found.folders,
            legend=LEGEND,
            to_verify=TO_VERIFY,
            warning=WARNING,
            sections=sections(found),
            made_by=made_by,
            beside_none=[(run.name, unjoined(run)) for run in found.beside_none],
        )
    )
