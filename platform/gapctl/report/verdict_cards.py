"""Each hypothesis in words, with its verdict, its effect and how it was tested."""

import math
from collections.abc import Mapping
from typing import Final

from gapctl.analysis.results import Analysis, Finding, Interval, Verdict
from gapctl.report.effect_words import effect_of, effect_unit, levels_words
from gapctl.report.mark_words import mark_lines
from gapctl.report.markup import Html, element, facts, fill, joined
from gapctl.report.words import NOT_KNOWN, aligned, as_declared, capital, confidence, number, p_value, settling
from gapctl_charts.factor import plain
from gapctl_charts.figure import Figure

SYMBOLS: Final[dict[Finding, str]] = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}
_TESTS: Final = {
    "trend": "trend: Page's test, slope over paired seeds",
    "contrast": "contrast: paired difference of two levels",
    "equivalence": "equivalence: two one-sided tests",
    "correlation": "correlation: Kendall's τ, permutation test",
    "mediation": "mediation: mediator held fixed against free",
    "level": "level: response against a value",
}


_DIRECTIONS: Final = {"neither": "none: less than the smallest effect, either way", "either": "either way"}
_FACTORS: Final = {"correlation": "other metric"}


def verdict_cards(analysis: Analysis, strips: Mapping[str, Figure]) -> Html:
    """All hypotheses in the file's order; `strips` has the small charts by hypothesis id."""
    if not analysis.verdicts:
        return element("p", "This sweep file states no hypotheses; the charts below are descriptive.", class_="lead")
    return joined(_card(verdict, analysis.alpha, strips.get(verdict.id)) for verdict in analysis.verdicts)


def _marks(verdict: Verdict) -> Html:
    """Words that no reader overlooks."""
    return joined((element("span", mark.upper(), class_="mark") for mark in verdict.marks), "")


def _card(verdict: Verdict, alpha: float, strip: Figure | None) -> Html:
    estimate, *interval = aligned([verdict.estimate, *verdict.ci])
    return fill(
        "verdict",
        finding=verdict.verdict,
        symbol=SYMBOLS[verdict.verdict],
        mark=_marks(verdict),
        claim=verdict.claim,
        reason=_reason(verdict),
        notes=joined((element("p", line, class_="reason") for line in mark_lines(verdict)), ""),
        effect_name=capital(effect_of(verdict)),
        estimate=estimate,
        effect_unit=effect_unit(verdict),
        confidence=confidence(alpha),
        interval=" to ".join(interval) if all(map(math.isfinite, verdict.ci)) else "too few seeds",
        standardised=_standardised(verdict),
        p=p_value(verdict.p),
        smallest_effect=as_declared(verdict.smallest_effect),
        strip=Html("") if strip is None else element("div", "", class_="strip chart", data_chart=strip.name),
        details=facts(_details(verdict, alpha)),
    )


def _standardised(verdict: Verdict) -> str:
    return f"{number(verdict.standardised)} SD" if math.isfinite(verdict.standardised) else NOT_KNOWN


def _reason(verdict: Verdict) -> str:
    if verdict.seeds_needed is None:
        return verdict.reason
    return f"{verdict.reason} {settling(verdict.seeds_needed)}"


def _details(verdict: Verdict, alpha: float) -> dict[str, str | Html]:
    bootstrap = " to ".join(aligned(list(verdict.ci_bootstrap)))
    return {
        **({"source of the claim": verdict.source} if verdict.source is not None else {}),
        "test": _TESTS.get(verdict.test, verdict.test),
        "declared direction": _DIRECTIONS.get(verdict.direction, verdict.direction),
        "response": element("code", verdict.response),
        **_held_against(verdict),
        **({"levels compared": levels_words(verdict.between[::-1])} if verdict.between else {}),
        **({"only trainings with": _held(verdict)} if verdict.where else {}),
        **_mediated(verdict),
        "p before Holm": p_value(verdict.p_claim),
        "p of the direction alone": p_value(verdict.p_direction),
        f"bootstrap {confidence(alpha)} interval": bootstrap,
        "paired seeds; trainings": f"{verdict.seeds}; {verdict.trials}",
        "id": element("code", verdict.id),
    }


def _held_against(verdict: Verdict) -> dict[str, str | Html]:
    if verdict.test == "level":
        return {"value": as_declared(verdict.value)}
    return {_FACTORS.get(verdict.test, "treatment"): element("code", verdict.factor)}


def _held(verdict: Verdict) -> Html:
    return joined((element("code", f"{path}: {plain(level)}") for path, level in verdict.where.items()), ", ")


def _mediated(verdict: Verdict) -> dict[str, str | Html]:
    """The mediator, and the treatment's effect with it free and held fixed."""
    if verdict.test != "mediation" or verdict.mediator is None:
        return {}
    free, fixed = map(plain, verdict.mediator_levels)
    return {
        "mediator": element("code", verdict.mediator),
        f"effect at {free} (free)": _with_interval(verdict.effect_free, verdict.effect_free_ci),
        f"effect at {fixed} (held)": _with_interval(verdict.effect_fixed, verdict.effect_fixed_ci),
        "part that is mediated": _with_interval(verdict.share_mediated, verdict.share_mediated_ci),
    }


def _with_interval(value: float, ci: Interval) -> str:
    shown = aligned([value, *ci])
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if math.isfinite(value) else NOT_KNOWN
