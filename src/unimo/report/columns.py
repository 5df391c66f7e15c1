"""Which metrics of a task are the columns of its tables, in which blocks, and what is said of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from unimo.evaluate.results import Metric
from unimo.evaluate.retrieval import KS

Columns = Mapping[str, str]  # metric -> heading
DIRECTIONS = {"image_recall": "caption -> image", "text_recall": "image -> caption"}


@dataclass(frozen=True)
class Layout:
    """How the results of a task are shown."""

    heading: str  # what was measured
    legend: str
    blocks: Mapping[str, Columns]  # title -> its columns
    compared: Columns  # of a study
    mean: str | None = None  # heading of the mean of all columns, where that has a sense


RETRIEVAL = Layout(
    heading="Retrieval",
    legend="recall in %, 95 % bootstrap interval over images, * = lower bound above chance",
    blocks={shown: {f"{name}@{k}": f"R@{k}" for k in KS} for name, shown in DIRECTIONS.items()},
    compared={f"{name}@{k}": f"{shown} R@{k}" for name, shown in DIRECTIONS.items() for k in (1, 10)},
    mean=f"mean of the {2 * len(KS)} recalls",
)

CODES = Layout(
    heading="Codes",
    legend="of a caption's codes, those that its own picture chooses, too, and that another one chooses on average",
    blocks={
        "codes": {
            "codes_shared_with_own": "own, %",
            "codes_shared_with_others": "another's, %",
            "difference": "difference",
            "live_codes_of_pictures": "live, pictures",
            "live_codes_of_captions": "live, captions",
            "entropy_of_pictures": "bits, pictures",
            "entropy_of_captions": "bits, captions",
        }
    },
    compared={name: name.replace("_", " ") for name in ("codes_shared_with_own", "difference")},
)
KNOWN = {"retrieval": RETRIEVAL, "codes": CODES}


def layout_of(task: str, metrics: Mapping[str, Metric]) -> Layout:
    """The layout of a task; of one that has none of its own, all metrics in the order of the file."""
    if task in KNOWN:
        return KNOWN[task]
    columns = {name: f"{name} ({m.unit})" if m.unit else name for name, m in metrics.items()}
    legend = "95 % bootstrap interval, * = lower bound above chance"
    return Layout(heading=task, legend=legend, blocks={task: columns}, compared={name: name for name in metrics})
