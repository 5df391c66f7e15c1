"""One picture, many names: the ids of the importable formats and of `corpora`, told apart and joined by the number.

| spelling | where it is met | dataset |
|---|---|---|
| `coco-391895`, `coco2014-391895` | `corpora pairs coco`, `--name coco2014` | coco |
| `COCO_val2014_000000391895`, also with .jpg or .npz, or below a folder | file names, npz folders | coco |
| `coco_val2014_000000391895` | UNITER | coco |
| `flickr30k-1000092795` | `corpora pairs flickr30k` | flickr30k |
| `flickr30k_001000092795` | UNITER | flickr30k |
| `visual-genome-1`, `vg_1` | `corpora pairs visual-genome`, UNITER | visual-genome |
| `391895`, `000000391895.jpg`, `1000092795.jpg` | bottom-up attention, VinVL, Flickr30k's files | the given one |

All other names are someone's own and stay as they are.
"""

import re
from typing import NamedTuple

DATASETS = ("coco", "flickr30k", "visual-genome")
_FOLDERS, _SUFFIX = r"(?:[^/]+/)*", r"(?:\.(?:jpe?g|png|npz|npy))?"
_PREFIXES = {
    "coco": r"(?:ms-?)?coco[-_]?(?:(?:train|val|test)(?:-?dev|-?std)?)?[-_]?(?:20[0-9]{2})?[-_]",
    "flickr30k": r"flickr(?:30k)?(?:[-_]images)?[-_]",
    "visual-genome": r"(?:visual[-_]?genome|vg)[-_]",
}
_WORDS = {
    "coco": r"coco(?![a-z])",
    "flickr30k": r"flickr(?:30k)?(?![a-z0-9])",
    "visual-genome": r"visual[-_ ]?genome|(?<![a-z])vg(?![a-z])",
}
_LONGEST = 19  # digits of a number
_PADDED = 12  # digits to which COCO and UNITER fill numbers up


class Picture(NamedTuple):
    """A picture of a public dataset: whatever it is called, it is this one."""

    dataset: str
    number: int

    def __str__(self) -> str:
        return f"{self.dataset}-{self.number}"


def named(identifier: str, dataset: str | None = None) -> tuple[Picture, str] | None:
    """The picture that an id of the table names, and the form of the id, such as `COCO_val2014_{:012d}.jpg`.

    Args:
        dataset: what a number without a prefix belongs to; None where that is not known.

    Returns:
        None for names that are someone's own.
    """
    prefixes = _PREFIXES | ({dataset: f"{_PREFIXES[dataset]}|"} if dataset in _PREFIXES else {})
    for known, prefix in prefixes.items():
        pattern = rf"({_FOLDERS}(?:{prefix}))([0-9]{{1,{_LONGEST}}})({_SUFFIX})"
        if found := re.fullmatch(pattern, identifier, re.IGNORECASE):
            before, digits, after = found.groups()
            width = f":0{len(digits)}d" if digits.startswith("0") or len(digits) == _PADDED else ""
            form = before.replace("{", "{{").replace("}", "}}") + f"{{{width}}}" + after
            return Picture(known, int(digits)), form
    return None


def to_corpora(identifier: str, dataset: str | None = None) -> str:
    """The id in `corpora pairs`, such as coco-391895; own names stay. Takes `dataset` as `named` does."""
    found = named(identifier, dataset)
    return str(found[0]) if found else identifier


def from_corpora(image_id: str, form: str | None) -> str:
    """The id in another form, as `named` tells it; own names stay, and so does all where the form is None."""
    found = named(image_id)
    return form.format(found[0].number) if found and form else image_id


def dataset_of(source: str) -> str | None:
    """The dataset that the name of a source speaks of, such as coco of `my_coco2014`; None if none or several."""
    found = [dataset for dataset, words in _WORDS.items() if re.search(words, source, re.IGNORECASE)]
    return found[0] if len(found) == 1 else None


def flickr_number(address: str) -> str | None:
    """The number of the photo that an address at Flickr holds, which Flickr30k's files are called by."""
    found = re.search(r"//[^/]*flickr\.com/(?:[^?#]*/)?([0-9]+)_[^/]*$", address)
    return found[1] if found else None
