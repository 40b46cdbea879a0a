"""One hypothesis against the trials: its estimate first, its verdict once all hypotheses' p-values are known."""

from dataclasses import dataclass

import polars as pl

from gapctl.analysis.contrast import contrast
from gapctl.analysis.estimate import Estimate
from gapctl.analysis.holm import Corrected
from gapctl.analysis.paired import Paired, paired
from gapctl.analysis.reason import reason
from gapctl.analysis.results import Verdict
from gapctl.analysis.rule import finding
from gapctl.analysis.seeds_needed import seeds_needed
from gapctl.analysis.trend import trend
from gapctl.spec.sweep import Contrast, Hypothesis, SweepFile


@dataclass(frozen=True)
class Measured:
    """A hypothesis with the responses that bear on it and what they give."""

    hypothesis: Hypothesis
    responses: Paired
    estimate: Estimate


def measure(hypothesis: Hypothesis, trials: pl.DataFrame, spec: SweepFile) -> Measured:
    """Pairs the responses by seed and estimates the effect."""
    if isinstance(hypothesis, Contrast):
        levels = list(hypothesis.between)
    else:
        levels = sorted(spec.vary[hypothesis.factor], key=float)
    responses = paired(trials, spec.vary, spec.seeds, hypothesis.factor, levels, hypothesis.response)
    if isinstance(hypothesis, Contrast):
        found = contrast(responses, hypothesis.direction, spec.alpha)
    else:
        found = trend(responses, [float(level) for level in levels], hypothesis.direction, spec.alpha)
    return Measured(hypothesis, responses, found)


def verdict(measured: Measured, corrected: Corrected, alpha: float, exploratory: bool) -> Verdict:
    """Applies the decision rule."""
    hypothesis, responses, found = measured.hypothesis, measured.responses, measured.estimate
    smallest, direction = hypothesis.smallest_effect, hypothesis.direction
    outcome = finding(found.ci, smallest, direction, corrected.p, alpha)
    needed = seeds_needed(found, smallest, direction, alpha, corrected.level) if outcome == "inconclusive" else None
    return Verdict(
        id=hypothesis.id,
        claim=hypothesis.claim,
        test=hypothesis.test,
        response=hypothesis.response,
        factor=hypothesis.factor,
        direction=direction,
        smallest_effect=smallest,
        verdict=outcome,
        estimate=found.value,
        ci=found.ci,
        ci_bootstrap=found.ci_bootstrap,
        standardised=found.standardised,
        p=found.p,
        p_holm=corrected.p,
        seeds=len(responses.seeds),
        trials=responses.trials,
        seeds_needed=needed,
        exploratory=exploratory,
        reason=reason(hypothesis, outcome, responses, found, corrected, alpha),
    )
