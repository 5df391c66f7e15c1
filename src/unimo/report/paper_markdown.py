"""The papers' tables with ours beside them, as Markdown."""

from collections.abc import Iterator

from unimo.report.paper_tables import LEGEND, WARNING, Block, Row, Section, made_by, sections, summary
from unimo.report.reproduction import Reproduction, unjoined


def as_markdown(found: Reproduction) -> str:
    """A document with a section for each table."""
    below = " and ".join(_code(str(folder)) for folder in found.folders)
    lines = ["# The papers' numbers and ours", "", f"{summary(found)} below {below}.", "", LEGEND]
    for section in sections(found):
        lines += ["", *_section(section)]
    if found.beside_none:
        lines += ["", "## Runs that name a row but stand beside no number", ""]
        lines += [f"- {_code(run.name)}: {_plain(unjoined(run))}" for run in found.beside_none]
    return "\n".join(lines)


def _section(section: Section) -> Iterator[str]:
    yield f"## {_plain(section.title)}"
    yield ""
    yield f"Source: {_plain(section.table.source)}. Certainty: {_code(section.table.certainty)}."
    if not section.verified:
        yield ""
        yield f"**{WARNING}**"
    for block in section.blocks:
        yield ""
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    yield f"### {_plain(block.title)}"
    yield ""
    yield from _grid(block)
    ours = [row for row in block.rows if row.ours]
    if ours:
        yield ""
    for row in ours:
        yield f"- {_plain(row.label)}: {'; '.join(_made_by(row))}"
        for run in row.runs:
            command = f", by {_code(run.command)}" if run.command else ""
            yield f"  - run {_plain(str(run))}{command}"


def _grid(block: Block) -> Iterator[str]:
    """The lines of a table, its columns as wide as their widest cell."""
    grid = [["row", "", *block.headings]]
    for row in block.rows:
        grid += [[row.label, says, *cells] for says, cells in row.lines]
    cells = [[_plain(cell) for cell in line] for line in grid]
    widths = [max(3, *map(len, column)) for column in zip(*cells)]
    rule = ["-" * w if n < 2 else "-" * (w - 1) + ":" for n, w in enumerate(widths)]
    for line in [cells[0], rule, *cells[1:]]:
        padded = [cell.ljust(w) if n < 2 else cell.rjust(w) for n, (cell, w) in enumerate(zip(line, widths))]
        yield f"| {' | '.join(padded)} |"


def _made_by(row: Row) -> Iterator[str]:
    for what, recipe in made_by(row):
        if recipe is None:
            yield what
        else:
            commands = " or ".join(map(_code, recipe.commands)) or "no script yet"
            yield f"{what} {_code(recipe.path)}, {commands}"


def _plain(text: str) -> str:
    """Text that makes no cell, line or element of its own, whatever a run folder is called."""
    escaped = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("`", "\\`")
    return escaped.replace("<", "&lt;")


def _code(text: str) -> str:
    return f"`{' '.join(text.split()).replace('`', chr(39))}`"
