"""How hard negatives are without the picture: how often a language model, which reads text alone, prefers the caption.

Chance is 50 %: of such negatives the text says nothing, and only the picture tells. Where it is near 100 %, a model can
learn to tell them by their oddness and never look.
"""

from pathlib import Path

from tqdm import tqdm

from data_prep.rewrite.language_model import LanguageModel
from data_prep.rewrite.quality import Item, wilson
from unimo.readers.annotations import read_records


def difficulty(sample: Path, cache: Path | None = None) -> str:
    """A Markdown table: for each kind the share of rewrites whose caption SmolLM2 finds likelier as a text.

    Args:
        sample: what `rewrite sample` wrote.

    Raises:
        DataError: a malformed sample, or the model's package cannot be had.
    """
    model = LanguageModel(cache)
    likely: dict[str, float] = {}
    won: dict[str, list[float]] = {}
    for item in tqdm(read_records(sample, Item, "id"), desc="text alone", unit="rewrite"):
        for text in (item.caption, item.text):
            if text not in likely:
                likely[text] = model.likelihood(text)
        gap = likely[item.caption] - likely[item.text]
        won.setdefault(item.kind, []).append((gap > 0) + 0.5 * (gap == 0))
    rows = [
        f"| {kind} | {len(won[kind])} | {wilson(sum(won[kind]) / len(won[kind]), len(won[kind]))} |"
        for kind in sorted(won)
    ]
    return "\n".join(["| kind | items | caption likelier (chance 50 %) |", "|---|---|---|", *rows])
