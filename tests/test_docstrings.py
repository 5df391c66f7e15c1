"""Every public name of the package and of data preparation says what it is, in a sentence.

Public is a module, class, function, method or property without a leading underscore in its name or in that of anything
that it lies in; functions within functions are not. Three kinds of methods need no docstring: overrides of a method
that a base class of this project documents, setters, and the forms that `overload` lists.

A sentence is the first paragraph of a docstring. It begins with a capital letter, a figure, code in backticks or a
shape, and ends with a full stop, colon or question mark, after which a shape may stand: "Rows of the store. [n, D]".
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from unimo.config import ROOT

FOLDERS = {"src/unimo": 850, "data_prep": 290}  # -> public names that are there at least
BEGIN, END = re.compile(r"[A-Z0-9`\[(]"), re.compile(r"[.:?]( [\w:, ]{0,24}\[.*)?$")
Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(tree: ast.Module, module: str) -> Iterator[tuple[str, Definition, ast.ClassDef | None]]:
    """Name, node and class of everything public in a module, itself first."""
    yield module, tree, None
    waiting: list[tuple[str, ast.Module | ast.ClassDef]] = [(module, tree)]
    while waiting:
        path, node = waiting.pop()
        for child in node.body:
            if not isinstance(child, Definition) or child.name.startswith("_"):
                continue
            if any(ast.unparse(d) == "overload" or ast.unparse(d).endswith(".setter") for d in child.decorator_list):
                continue
            yield f"{path}.{child.name}", child, node if isinstance(node, ast.ClassDef) else None
            if isinstance(child, ast.ClassDef):
                waiting.append((f"{path}.{child.name}", child))


def is_documented_above(method: str, owner: ast.ClassDef | None, classes: dict[str, list[ast.ClassDef]]) -> bool:
    """Whether a base of `owner`, or a base of one, documents a method of that name. Bases are found by their names."""
    seen, waiting = [owner], [owner] if owner else []
    while waiting:
        for base in waiting.pop().bases:
            for above in classes.get(ast.unparse(base).rpartition(".")[2], []):
                if above in seen:
                    continue
                if any(getattr(n, "name", None) == method and ast.get_docstring(n) for n in above.body):
                    return True
                seen.append(above)
                waiting.append(above)
    return False


def is_sentence(docstring: str | None) -> bool:
    first = " ".join((docstring or "").split("\n\n")[0].split())
    return bool(BEGIN.match(first) and END.search(first))


def names_and_problems(modules: dict[str, ast.Module]) -> tuple[list[str], list[str]]:
    """All public names, and those of them without a docstring or with one that is no sentence."""
    classes: dict[str, list[ast.ClassDef]] = {}
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(node)
    names, problems = [], []
    for module, tree in modules.items():
        for name, node, owner in public(tree, module):
            names.append(name)
            docstring = ast.get_docstring(node)
            if docstring is None and not is_documented_above(name.rpartition(".")[2], owner, classes):
                problems.append(f"{name}: no docstring")
            elif docstring is not None and not is_sentence(docstring):
                problems.append(f"{name}: no sentence: {docstring.splitlines()[0]}")
    return names, problems


def modules_of(folder: Path) -> dict[str, ast.Module]:
    files = sorted(folder.rglob("*.py"))
    parts = {file: file.relative_to(folder.parent).with_suffix("").parts for file in files}
    return {
        ".".join(parts[file]).removesuffix(".__init__"): ast.parse(file.read_text(encoding="utf-8"))
        for file in files
        if not any(part.startswith("_") for part in parts[file] if part not in ("__init__", "__main__"))
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_public_names_are_documented(folder):
    names, problems = names_and_problems(modules_of(ROOT / folder))
    assert len(names) >= FOLDERS[folder]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "source, problem",
    [
        ('"""A module."""', None),
        ("", "m: no docstring"),
        ('"""A module."""\ndef _f(): ...', None),
        ('"""A module."""\ndef f(): ...', "m.f: no docstring"),
        ('"""A module."""\ndef f():\n    """rows of it."""', "m.f: no sentence: rows of it."),
        ('"""A module."""\ndef f():\n    """Rows of it"""', "m.f: no sentence: Rows of it"),
        ('"""A module."""\ndef f():\n    """Rows of it. [n, D] float32"""', None),
        ('"""A module."""\ndef f():\n    """Rows of it. rows: [n, ..., D] -> [n]"""', None),
        ('"""A module."""\ndef f():\n    """Rows of\n    it.\n\n    And more"""\n    def g(): ...', None),
        ('"""A module."""\nclass _C:\n    def f(self): ...', None),
        ('"""A module."""\nclass C:\n    """A class."""\n    @property\n    def f(self): ...', "m.C.f: no docstring"),
        ('"""A module."""\nclass C:\n    """A class."""\n    class D: ...', "m.C.D: no docstring"),
        (
            '"""M."""\nclass B:\n    """B."""\n    def f(self):\n        """F."""\n'
            'class A(m.B):\n    """A."""\nclass C(A):\n    """C."""\n    def f(self): ...',
            None,
        ),
        (
            '"""M."""\nclass B:\n    """B."""\n    def _f(self): ...\nclass C(B):\n    """C."""\n    def f(self): ...',
            "m.C.f: no docstring",
        ),
        ('"""M."""\nclass C(nn.C):\n    """C."""\n    def f(self): ...', "m.C.f: no docstring"),
    ],
)
def test_what_is_missing_shows(source, problem):
    names, problems = names_and_problems({"m": ast.parse(source)})
    assert names and problems == ([problem] if problem else [])
