"""The Chinese README says what the English one says: the same sections, commands, code, figures, tables and links."""

import re
from collections import Counter
from itertools import zip_longest
from typing import NamedTuple

import pytest

from unimo.config import ROOT

ENGLISH, CHINESE = (ROOT / name for name in ("README.md", "README.zh-CN.md"))
FIRST_LINES = 4  # in which each links to the other


class Section(NamedTuple):
    """What of a section must be the same in every language."""

    level: int  # of its heading
    blocks: list[str]  # fenced, with the language named, without comments
    code: Counter[str]  # spans in backticks
    figures: Counter[str]  # in prose, headings and tables; not in code and addresses
    links: Counter[str]
    tables: list[list[int]]  # cells of each row
    items: int  # of lists


def without_comments(block: str) -> str:
    return "\n".join(re.sub(r"(^|\s+)#.*", "", line).rstrip() for line in block.splitlines())


def section_of(level: int, text: str) -> Section:
    fenced, span, link = r"^```.*?^```$", r"`[^`]+`", r"\]\(([^)]+)\)"
    prose = re.sub(fenced, "", text, flags=re.DOTALL | re.MULTILINE)
    plain = re.sub(link, "]", re.sub(span, "", prose))
    rows = [
        re.findall(r"^\|.*\|$", table, re.MULTILINE) for table in re.findall(r"(?:^\|.*\|\n)+", prose, re.MULTILINE)
    ]
    return Section(
        level,
        [without_comments(block) for block in re.findall(fenced, text, re.DOTALL | re.MULTILINE)],
        Counter(re.findall(span, prose)),
        Counter(re.findall(r"\d+(?:[.,]\d+)*", plain)),
        Counter(re.findall(link, prose)),
        [[row.count("|") - 1 for row in table] for table in rows],
        len(re.findall(r"^- ", prose, re.MULTILINE)),
    )


def sections(text: str) -> list[Section]:
    """The sections of a README, without its link to the other one."""
    text = re.sub(r"\[[^]]*\]\(README[.\w-]*\.md\)", "", text)
    outside = re.sub(r"^```.*?^```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    lines = text.splitlines(keepends=True)
    starts = [number for number, line in enumerate(outside.splitlines()) if re.match(r"#+ ", line)]
    assert starts[0] == 0
    parts = ["".join(lines[a:b]) for a, b in zip_longest(starts, starts[1:])]
    return [section_of(len(part) - len(part.lstrip("#")), part) for part in parts]


def differences(english: str, chinese: str) -> list[str]:
    """Where two READMEs differ: section, what of it, and both sides."""
    pairs = zip_longest(sections(english), sections(chinese))
    found = []
    for number, (one, other) in enumerate(pairs):
        if one is None or other is None:
            found.append(f"section {number}: only one has it")
            continue
        for name in Section._fields:
            a, b = getattr(one, name), getattr(other, name)
            if a != b:
                a, b = (a - b, b - a) if isinstance(a, Counter) else (a, b)
                found.append(f"section {number}, {name}: English {a}, Chinese {b}")
    return found


def test_the_chinese_readme_says_what_the_english_one_says():
    found = differences(ENGLISH.read_text(encoding="utf-8"), CHINESE.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_there_is_enough_to_compare():
    found = sections(ENGLISH.read_text(encoding="utf-8"))
    assert len(found) >= 7
    assert sum(len(s.blocks) for s in found) >= 4 and sum(map(len, (t for s in found for t in s.tables))) >= 15
    assert sum(s.code.total() for s in found) >= 50 and sum(s.figures.total() for s in found) >= 60


@pytest.mark.parametrize("page, other", [(ENGLISH, CHINESE), (CHINESE, ENGLISH)], ids=lambda page: page.name)
def test_each_links_to_the_other_at_its_top(page, other):
    top = page.read_text(encoding="utf-8").splitlines()[:FIRST_LINES]
    assert any(f"]({other.name})" in line for line in top)


SMALL = """# Two words

[English](README.md) and 3 figures, `code` and [a page](docs/data.md#files).

## Use

```sh
unimo pretrain RECIPE.yaml   # a comment
```

| a | b |
|---|---|
| 9.4 [4.6, 14.8] | `x` |

- one
"""


@pytest.mark.parametrize(
    "old, new, name",
    [
        ("3 figures", "4 figures", "figures"),
        ("3 figures", "three figures", "figures"),
        ("14.8", "14.9", "figures"),
        ("`code`", "`Code`", "code"),
        (", `code`", "", "code"),
        ("data.md#files", "data.md", "links"),
        ("docs/data.md#files", "docs/regions.md#files", "links"),
        ("RECIPE.yaml", "RECIPE.yml", "blocks"),
        ("```sh", "```", "blocks"),
        ("unimo pretrain", "# unimo pretrain", "blocks"),
        ("## Use", "### Use", "level"),
        ("| `x` |", "| `x` | |", "tables"),
        ("- one\n", "- one\n- two\n", "items"),
        ("- one\n", "- one\n\n## More\n", "only one"),
    ],
)
def test_a_small_change_is_told(old, new, name):
    assert SMALL.count(old) == 1
    found = differences(SMALL, SMALL.replace(old, new))
    assert found and all(name in line for line in found)


@pytest.mark.parametrize(
    "old, new", [("# a comment", "# 注释"), ("Two words", "两个词"), ("3 figures", "3 个数字"), ("- one", "- 一")]
)
def test_other_words_are_no_difference(old, new):
    assert not differences(SMALL, SMALL.replace(old, new))
