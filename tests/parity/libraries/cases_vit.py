"""Vision transformers of other libraries beside ours."""

from case import Case

CASES: tuple[Case, ...] = ()
