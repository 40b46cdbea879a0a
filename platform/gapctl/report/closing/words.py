"""Interventions, measures and the answer as a reader wants them in a sentence or above a column."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gapctl.interventions.answer import ClosingAnswer, Found, MeasureAnswer
    from gapctl.interventions.judge import Judgement
    from gapctl.interventions.verdict import Change

QUESTION: Final = "Does closing the gap help here?"
POINTS: Final = 100
"""Shares are told in points, hundredths, so that they read like percent."""

_NAMES: Final = {
    "gap/l2m": "distance of the modality means (L2M)",
    "gap/rmg": "relative modality gap (RMG)",
    **{f"quality/i2t_recall_{depth}": f"image-to-text recall at {depth}" for depth in (1, 5, 10)},
    **{f"quality/t2i_recall_{depth}": f"text-to-image recall at {depth}" for depth in (1, 5, 10)},
    "quality/object_accuracy": "zero-shot accuracy of the object",
    "quality/attribute_accuracy": "zero-shot accuracy of the attributes",
    "quality/mixed_ndcg_10": "mixed-gallery search (NDCG@10)",
    "quality/v_measure": "clustering (V-measure)",
    "quality/flip_rate": "robustness to noise (flip rate)",
    "gap/linear_separability": "linear separability of the modalities",
}
_HEADINGS: Final = {
    "gap/l2m": "L2M",
    "gap/rmg": "RMG",
    **{f"quality/{way}_recall_{depth}": f"{way} R@{depth}" for way in ("i2t", "t2i") for depth in (1, 5, 10)},
    "quality/object_accuracy": "object",
    "quality/attribute_accuracy": "attrib.",
    "quality/mixed_ndcg_10": "mixed",
    "quality/v_measure": "cluster",
    "quality/flip_rate": "flips",
    "gap/linear_separability": "separable",
}
_EFFECTS: Final[Sequence[tuple["Found", str]]] = (
    ("helps", "it helps {}"),
    ("harms", "it harms {}"),
    ("some ways harm", "some ways of closing it harm {}"),
    ("depends on how", "it depends on how for {}"),
    ("no difference that counts", "it makes no difference that counts to {}"),
    ("inconclusive", "it is not decided for {}"),
)


def measure_words(key: str) -> str:
    """A measure in a few words."""
    return _NAMES.get(key, key)


def heading(key: str) -> str:
    """A measure above a narrow column."""
    return _HEADINGS.get(key, key.partition("/")[2])


def in_points(key: str, value: float) -> float:
    """A quality in points: percentages are, shares become hundredths."""
    return value if key.endswith("_accuracy") else POINTS * value


def signed(value: float, decimals: int = 1) -> str:
    """A change with its sign; none where it is nothing at the digits shown."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text


def change_words(key: str, change: "Change") -> str:
    """`+4.6 points (2.6 to 6.7)`."""
    amount, low, high = (in_points(key, value) for value in (change.change, change.low, change.high))
    return f"{signed(amount)} points ({signed(low)} to {signed(high)})"


def sentence(answer: "ClosingAnswer", judgement: "Judgement") -> str:
    """The answer to whether closing the gap helps, in one sentence."""
    if answer.answer == "nothing to close":
        return f"There is no gap to close: the means are {judgement.before['gap/l2m']:.3f} apart, which does not count."
    if answer.answer == "not closed":
        return "Not answered: nothing that was tried leaves at most half of the distance between the means."
    said = [words.format(_listed(keys)) for found, words in _EFFECTS if (keys := _keys(answer, found))]
    by = f", with {joined_words(answer.helping)}" if answer.helping else ""
    return f"{answer.answer.capitalize()}{by}: {'; '.join(said)}."


def measure_line(measure: "MeasureAnswer") -> str:
    """What closing does to one quality, with the best that it came to."""
    name, change = measure.best
    found = f"{measure.found} ({', '.join(measure.harming)})" if measure.found == "some ways harm" else measure.found
    return f"{measure_words(measure.key)}: {found}; best with {name}, {change_words(measure.key, change)}"


def split_words(judgement: "Judgement") -> str:
    """How the images were split."""
    captions = f" with {judgement.held_out_captions:,} different captions" if judgement.held_out_captions else ""
    dealt = "; images of one caption stay together" if judgement.dealt == "captions" else ""
    return (
        f"fitted on {judgement.calibration_images:,} images, judged on {judgement.held_out_images:,} others"
        f"{captions} "
        f"(seed {judgement.seed}{dealt})"
    )


def _keys(answer: "ClosingAnswer", found: "Found") -> list[str]:
    return [measure.key for measure in answer.measures if measure.found == found]


def _listed(keys: Sequence[str]) -> str:
    return joined_words([measure_words(key) for key in keys])


def joined_words(names: Sequence[str]) -> str:
    """`a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
