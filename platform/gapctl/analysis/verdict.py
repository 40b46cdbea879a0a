"""The verdict on a hypothesis, once the p-values of all hypotheses of its file are known."""

from typing import Any

from gapctl.analysis.estimate import Estimate
from gapctl.analysis.holm import Corrected
from gapctl.analysis.learning import ArmCheck
from gapctl.analysis.measured import Measured
from gapctl.analysis.mediation import Mediated
from gapctl.analysis.reason import reason
from gapctl.analysis.remaining import Remaining
from gapctl.analysis.results import Verdict
from gapctl.analysis.rule import finding, refuted_as
from gapctl.analysis.seeds_needed import seeds_needed
from gapctl.spec.hypotheses import AtLevel, Correlation, Hypothesis, Mediation


def verdict(
    measured: Measured,
    p: Corrected,
    claim: Corrected,
    alpha: float,
    remaining: Remaining,
    *,
    exploratory: bool,
    redesigned: bool = False,
    not_learned: tuple[ArmCheck, ...] = (),
) -> Verdict:
    """Applies the decision rule; `p` and `claim` are the corrected p of the direction and of the whole claim."""
    hypothesis, found, direction = measured.hypothesis, measured.estimate, measured.direction
    smallest = hypothesis.smallest_effect
    outcome = finding(found.ci, smallest, direction, claim.p, alpha, found.rounding)
    needed = seeds_needed(found, smallest, direction, alpha, claim.level) if outcome == "inconclusive" else None
    each = measured.responses.each
    return Verdict(
        id=hypothesis.id,
        claim=hypothesis.claim,
        test=hypothesis.test,
        response=hypothesis.response,
        factor=_treatment(hypothesis),
        direction=direction,
        smallest_effect=smallest,
        verdict=outcome,
        seeds=len(found.effects_S) * each,
        trials=measured.trials,
        seeds_needed=None if needed is None else needed * each,
        exploratory=exploratory,
        reason=reason(measured, outcome, p, claim, alpha, remaining),
        p=claim.p,
        p_direction=p.p,
        replicates=len(found.effects_S),
        refuted_as=refuted_as(found.ci, smallest, direction, found.rounding) if outcome == "refuted" else None,
        redesigned=redesigned,
        not_learned=not_learned,
        source=hypothesis.source,
        where=dict(hypothesis.where),
        **_figures(found),
        **_compared(hypothesis),
        **_carried(measured.mediated),
    )


def _treatment(hypothesis: Hypothesis) -> str:
    if isinstance(hypothesis, AtLevel):
        return ""
    return hypothesis.against if isinstance(hypothesis, Correlation) else hypothesis.factor


def _figures(found: Estimate) -> dict[str, Any]:
    return {
        "estimate": found.value,
        "ci": found.ci,
        "ci_bootstrap": found.ci_bootstrap,
        "standardised": found.standardised,
        "standardised_pooled": found.standardised_pooled,
        "p_direction_before_holm": found.p,
        "p_test": found.p_test,
        "p_claim": found.p_claim,
        "p_permutation": found.p_permutation,
    }


def _compared(hypothesis: Hypothesis) -> dict[str, Any]:
    found: dict[str, Any] = {"between": getattr(hypothesis, "between", ())}
    if isinstance(hypothesis, Correlation):
        found["given"] = tuple(hypothesis.given)
    if isinstance(hypothesis, AtLevel):
        found["value"] = hypothesis.value
    if isinstance(hypothesis, Mediation):
        found |= {"mediator": hypothesis.mediator, "mediator_levels": (hypothesis.free, hypothesis.fixed)}
    return found


def _carried(mediated: Mediated | None) -> dict[str, Any]:
    if mediated is None:
        return {}
    return {
        "effect_free": mediated.free.value,
        "effect_free_ci": mediated.free.ci,
        "effect_fixed": mediated.fixed.value,
        "effect_fixed_ci": mediated.fixed.ci,
        "share_mediated": mediated.share,
        "share_mediated_ci": mediated.share_ci,
    }
