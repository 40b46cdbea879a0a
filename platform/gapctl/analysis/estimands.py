"""Separate two questions that one correlation of accuracies mixes: the effects of quality and of captions' content.

Richer captions teach attributes at the cost of the object, so trainings that differ in content trade one accuracy for
the other. Trainings that differ in quality (noise, data, width) are better or worse at both. Pooled, or with the wrong
one held, one relation hides the other, which is Simpson's paradox.
"""

from typing import Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.measured import measure_hypothesis
from gapctl.analysis.results import Interval
from gapctl.config.hypotheses import Correlation
from gapctl.config.sweep import SweepFile

CONTENT_FACTORS: Final = ("data.captions.attributes", "data.captions.keep")
"""Factors that decide what captions say; all others make a training better or worse at everything."""


class TauEstimate(NamedTuple):
    """Kendall's τ, the mean over seeds, with its interval over seeds."""

    value: float
    ci: Interval
    seeds: int


class Estimands(NamedTuple):
    """The same two metrics with content held, where quality varies, and with quality held, where content varies."""

    content_held: TauEstimate
    quality_held: TauEstimate


def measure_both_estimands(hypothesis: Correlation, trials: pl.DataFrame, spec: SweepFile) -> Estimands | None:
    """Correlate within each content over quality, and within each quality over content; None unless both vary."""
    varied = [path for path, levels in spec.vary.items() if path not in hypothesis.where and len(levels) > 1]
    content = tuple(path for path in varied if path in CONTENT_FACTORS)
    quality = tuple(path for path in varied if path not in CONTENT_FACTORS)
    if not (content and quality):
        return None
    return Estimands(_measure_tau(hypothesis, content, trials, spec), _measure_tau(hypothesis, quality, trials, spec))


def _measure_tau(hypothesis: Correlation, held: tuple[str, ...], trials: pl.DataFrame, spec: SweepFile) -> TauEstimate:
    with np.errstate(all="ignore"):
        found = measure_hypothesis(hypothesis.model_copy(update={"given": held}), trials, spec).estimate
    return TauEstimate(found.value, found.ci, len(found.effects_S))
