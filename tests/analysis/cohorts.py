"""Tables of made-up models in strata, and verdicts on them by the calls that a sweep's analysis makes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from gapctl.analysis.hypothesis_effects import HypothesisResult, apply_holm, estimate_cohort_hypothesis_effect
from gapctl.analysis.results import RemainingTrials, Verdict
from gapctl.analysis.verdict import build_verdict
from gapctl.config.hypotheses import Correlation

GAP, ACCURACY = "gap/rmg", "quality/object_accuracy"
SIZES = (9, 6, 5, 3, 1)


def declare(**changes: Any) -> Correlation:
    """A correlation of accuracy with the gap within strata."""
    own = {"id": "together", "claim": "They go together.", "test": "correlation", "response": ACCURACY, "against": GAP}
    rule = {"scope": "within_strata", "direction": "increasing", "smallest_effect": 0.1}
    return Correlation(**{**own, **rule, **changes})


def make_models(
    within: float, between: float, sizes: Sequence[int] = SIZES, noise: float = 0.3, seed: int = 0, **columns: Any
) -> pl.DataFrame:
    """Models whose accuracy follows the gap by these slopes: of a model's own part, and of its stratum's part."""
    rng = np.random.default_rng(seed)
    stratum_N = np.repeat(np.arange(len(sizes)), sizes)
    shared_N, own_N = np.linspace(-4, 4, len(sizes))[stratum_N], rng.standard_normal(len(stratum_N))
    accuracy_N = between * shared_N + within * own_N + noise * rng.standard_normal(len(stratum_N))
    return pl.DataFrame(
        {
            "label": [f"model-{place:02}" for place in range(len(stratum_N))],
            "stratum": [f"data-{place}" for place in stratum_N],
            GAP: shared_N + own_N,
            ACCURACY: accuracy_N,
            **columns,
        }
    )


def measure(hypothesis: Correlation, models: pl.DataFrame, planned: Sequence[str] = ()) -> HypothesisResult:
    """The hypothesis measured on the table."""
    return estimate_cohort_hypothesis_effect(hypothesis, models, 0.05, planned)


def judge(hypothesis: Correlation, models: pl.DataFrame, planned: Sequence[str] = ()) -> Verdict:
    """The verdict on the only hypothesis of a file."""
    measured = measure(hypothesis, models, planned)
    (p,), (claim,) = (apply_holm([one], 0.05) for one in (measured.estimate.p, measured.estimate.p_claim))
    return build_verdict(measured, p, claim, 0.05, RemainingTrials(), exploratory=not measured.complete)
