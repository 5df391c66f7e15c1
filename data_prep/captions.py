"""When two captions count as the same."""

import re


def normalise(caption: str) -> str:
    """Lower case, words only, without articles: captions equal after this are the same caption."""
    words = re.findall(r"\w+", caption.lower())
    return " ".join(word for word in words if word not in ("a", "an", "the"))
