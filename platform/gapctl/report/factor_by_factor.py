"""What embeddings keep, factor by factor: zero-shot accuracy, and the similarities that object bias is made of."""

from collections.abc import Sequence
from typing import Final

from gapctl.analysis.results import Analysis
from gapctl.report.dose import Panel, panel_figures, single
from gapctl.report.rows import Series
from gapctl_charts.factor import Factor
from gapctl_charts.figure import Figure
from gapctl_charts.look import Look

ACCURACY: Final = "quality/accuracy_"
VALUES: Final = {"digit": 10, "thickness": 3, "swelling": 2, "fracture": 2, "scale": 2, "colour": 7}
"""How many values MAD's factors have, and so what guessing gives."""
_PARTS: Final = {
    "object_same": "same object",
    "object_different": "different object",
    "attribute_same": "same attribute",
    "attribute_different": "different attribute",
}

_TOGETHER: Final = Panel(
    "accuracies",
    "Object and attribute accuracy",
    "Zero-shot accuracy, percent",
    (Series("quality/object_accuracy", "object"), Series("quality/attribute_accuracy", "attributes")),
    "The object is the main factor; attributes are the mean over the others.",
)


def factor_figures(analysis: Analysis, factor: Factor, others: Sequence[Factor], look: Look) -> list[Figure]:
    """Accuracies of all factors together, and similarities by modality; with a second treatment, whose levels then have
    the colours, a figure for each factor's accuracy."""
    panels: Sequence[Panel] = [_alone(name) for name in VALUES]
    if not others:
        panels = [
            _accuracy([f"{ACCURACY}{name}" for name in VALUES]),
            _TOGETHER,
            *(_bias_parts(side) for side in ("image", "text")),
        ]
    return panel_figures(analysis, panels, factor, others, look)


def _alone(name: str) -> Panel:
    panel = single(f"accuracy-{name}", f"{ACCURACY}{name}")
    return panel._replace(heading=f"Zero-shot accuracy of {name}", axis="Zero-shot accuracy, percent")


def _accuracy(metrics: Sequence[str]) -> Panel:
    series = tuple(Series(metric, metric.removeprefix(ACCURACY)) for metric in metrics)
    chance = {f"{ACCURACY}{name}": 100 / count for name, count in VALUES.items()}
    said = "Share of images whose factor value is found among the prompts for all its values; dotted: guessing."
    return Panel("accuracy", "Zero-shot accuracy by factor", "Zero-shot accuracy, percent", series, said, chance)


def _bias_parts(side: str) -> Panel:
    series = tuple(Series(f"bias/{part}_{side}", words) for part, words in _PARTS.items())
    said = (
        f"Mean cosine of two {side}s that share their object, or an attribute, or do not. MOAD is the difference of "
        "the first two less that of the last two."
    )
    return Panel(f"similarity-{side}s", f"Similarity of {side}s by what they share", "Mean cosine", series, said)
