"""How VQA counts an answer: its official normalisation, and what each answer scores against those of ten annotators.

The rules are those of the VQA authors' evaluation (GT-Vision-Lab/VQA, PythonEvaluationTools, vqaEval.py), quirks too:
    - what is said is normalised whole; of what annotators said only the marks are taken away, and of answers on which
      all of them agree nothing is;
    - a mark becomes nothing if it stands beside a blank anywhere in the text, or if a comma stands between two figures
      anywhere in it, and else a blank;
    - contractions are looked up in small letters, so that "I'm" and its like are not mended.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

ARTICLES = ("a", "an", "the")
_NUMBERS = "none zero one two three four five six seven eight nine ten".split()
NUMBERS = dict(zip(_NUMBERS, ("0", *map(str, range(11))), strict=True))
MARKS = ';/[]"{}()=+\\_-><@`,?!'
MOST_PERIODS = 32  # that are taken away: the official program gives re.UNICODE, 32, where the count is expected
ENOUGH = 3  # annotators who said an answer that is right
# each is written by mistake with one of its apostrophes left out
_SPELT = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word for word in _SPELT for place, mark in enumerate(word) if mark == "'"
} | {"somebody'd": "somebodyd"}


def normalised(answer: str) -> str:
    """What is said, as it is compared: in small letters, figures for numbers, without marks and articles."""
    text = without_marks(answer.replace("\n", " ").replace("\t", " ").strip())
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def without_marks(text: str) -> str:
    """The text with nothing or a blank for each mark, and without periods that no figure follows."""
    grouped = re.search(r"\d,\d", text) is not None
    cleaned = text
    for mark in MARKS:
        beside = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside or grouped else " ")
    return re.sub(r"\.(?!\d)", "", cleaned, count=MOST_PERIODS)


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """What each answer scores that annotators gave, in (0, 1], by `normalised`; all others score 0.

    It is the mean over the annotators of min(1, how many of the others said it / 3): of ten, 0.3, 0.6 and 0.9 for one
    who said it, two and three, and 1 for more.
    """
    kept = answers if len({*answers}) == 1 else [without_marks(answer) for answer in answers]
    total, scores = len(answers), dict[str, float]()
    for answer, said in Counter(kept).items():
        others = said * min(ENOUGH, said - 1) + (total - said) * min(ENOUGH, said)
        if others:
            scores[answer] = others / (ENOUGH * total)
    return scores


def score(said: str, scores: Mapping[str, float]) -> float:
    """What an answer scores, by the `soft_scores` of its question."""
    return scores.get(normalised(said), 0.0)
