"""One HTML page that answers a sweep's question; it needs no network and no other file."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from gapctl.analysis.results import Analysis, Interval, Outcome, Verdict
from gapctl.report.figures import (
    NOTHING_MORE,
    Responses,
    gap_figures,
    has_metric,
    kept_figures,
    responses,
    strip_figures,
    together_figures,
    training_figures,
)
from gapctl.report.html import Html, asset, element, facts, fill, joined
from gapctl.report.page_parts import RunPages, RunRecord, document, panels, section, what_was_run
from gapctl.report.text import (
    NOT_KNOWN,
    aligned,
    as_declared,
    capital,
    confidence,
    effect_of,
    effect_unit,
    levels_words,
    listed,
    mark_lines,
    meaning,
    metric_name,
    number,
    p_value,
    redesign_lines,
    settling,
    unit,
)
from gapctl_charts.factor import plain
from gapctl_charts.figure import Figure, trusted
from gapctl_charts.look import PAGE_LOOK

SYMBOLS: Final[dict[Outcome, str]] = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}
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


_MAIN_METRICS: Final = (
    "gap/rmg",
    "gap/l2m",
    "bias/moad_image",
    "bias/moad_text",
    "entropy/i2t_nats",
    "temperature/tau",
    "quality/object_accuracy",
    "quality/attribute_accuracy",
    "captions/share_kept",
    "train/loss",
)


def trial_table(analysis: Analysis, run_pages: RunPages | None = None) -> Html:
    """A row per finished training, in the plan's order: label, seed, id, main metrics, seconds.

    An id links to the training's page in MLflow where that is known.
    """
    if analysis.trials.is_empty():
        return element("p", "No training has finished yet.", class_="lead")
    metrics = main_metrics(analysis)
    return fill(
        "trials",
        lead=_lead(run_pages),
        head=_head(metrics),
        rows=joined(_row(row, metrics, run_pages) for row in analysis.trials.iter_rows(named=True)),
        glossary=facts({key: _glossary(key) for key in metrics}),
    )


def main_metrics(analysis: Analysis) -> list[str]:
    """What the hypotheses ask for beyond the usual ones, then these, as far as trials have them."""
    asked = [verdict.response for verdict in analysis.verdicts if verdict.response not in _MAIN_METRICS]
    wanted = dict.fromkeys([*asked, *_MAIN_METRICS])
    return [key for key in wanted if has_metric(analysis.trials, key)]


def _head(metrics: Sequence[str]) -> Html:
    first = [_heading("training", "text"), _heading("seed"), _heading("id", "text")]
    return joined([*first, *map(_heading, metrics), _heading("seconds")], "")


def _heading(name: str, kind: str = "number") -> Html:
    """A metric's group goes above its name, so that columns stay narrow."""
    group, _, rest = name.rpartition("/")
    lines = [element("small", f"{group}/"), element("span", _breakable(rest))] if group else [element("span", name)]
    return element("th", element("button", joined(lines, ""), type="button"), scope="col", class_=kind)


def _breakable(name: str) -> Html:
    return joined((element("span", part) for part in name.split("_")), "_<wbr>")


def _row(row: dict[str, Any], metrics: Sequence[str], run_pages: RunPages | None) -> Html:
    cells = [
        element("th", str(row["label"]), scope="row", class_="text"),
        _number(row["seed"], str(row["seed"])),
        element("td", trial_link(str(row["trial"]), run_pages), class_="text"),
        *(_number(row[key], number(row[key])) for key in metrics),
        _number(row["seconds"], NOT_KNOWN if row["seconds"] is None else f"{row['seconds']:,.0f}"),
    ]
    return element("tr", joined(cells, ""), id=f"trial-{row['trial']}")


def _lead(run_pages: RunPages | None) -> Html:
    parts: list[Html] = [element("span", "Each training with its final metrics. Press a heading to sort.")]
    if run_pages is not None:
        address = element("span", run_pages.address, data_mlflow="")
        parts += [element("span", "Ids open the run in MLflow at"), address]
        if run_pages.started_by is not None:
            parts += [element("span", "while"), element("code", run_pages.started_by), element("span", "runs.")]
    return joined(parts, " ")


def trial_link(trial: str, run_pages: RunPages | None) -> Html:
    """A trial's id, which opens its page in MLflow where that is known."""
    shown = element("code", trial)
    if run_pages is None or trial not in run_pages.pages:
        return shown
    address = f"{run_pages.address}/{run_pages.pages[trial]}"
    return element("a", shown, href=address, target="_blank", rel="noopener", data_trial=trial)


def _number(value: float | None, text: str) -> Html:
    known = value is not None and math.isfinite(value)
    return element("td", text, data_value=repr(value) if known else "NaN")


def _glossary(key: str) -> str:
    counted = f" ({unit(key)})" if unit(key) else ""
    return f"{meaning(key) or metric_name(key)}{counted}"


def kicker(analysis: Analysis) -> str:
    """The sweep and its scale."""
    return f"gapctl · sweep {analysis.sweep}" + (f" · scale {analysis.scale}" if analysis.scale else "")


def summary(analysis: Analysis) -> Html:
    """How many hypotheses ended how, at which alpha, from how many trainings."""
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    ended = [f"{SYMBOLS[word]} {counts[word]} {word}" for word in SYMBOLS if counts[word]]
    done = f"{len(analysis.trials)} of {analysis.planned} trainings done"
    tested = [f"alpha {analysis.alpha:g}, Holm over {len(analysis.verdicts)}"] if ended else []
    return joined(
        [element("b", ", ".join(ended) or "No hypotheses"), *(_plain_banner(part) for part in (*tested, done))], " · "
    )


def notices(analysis: Analysis, record: RunRecord) -> Html:
    """Whether the hypotheses were declared in time, whether trainings or seeds are missing, and what is no number."""
    declared = [_declaration(analysis)] if analysis.verdicts or analysis.declared else []
    return joined(
        [
            *declared,
            *(_alert("REDESIGNED", line) for line in redesign_lines(analysis)),
            *_as_declared(analysis),
            *_incomplete(analysis, record),
            *_one_seed(analysis),
            *_not_a_number(analysis),
        ]
    )


def _declaration(analysis: Analysis) -> Html:
    declared, now = analysis.declared_sha256, analysis.hypotheses_sha256
    here = joined([_plain_banner("hypotheses' sha256"), element("span", now, class_="hash")], " ")
    if declared == now and analysis.deviation:
        return _alert("EXPLORATORY", f"The hypotheses stand as declared, but {analysis.deviation};", here)
    if declared == now:
        said = [element("b", "Declared before the first training;"), here]
        return element("p", joined(said, " "), class_="notice")
    if declared is None:
        return _alert("EXPLORATORY", "These hypotheses were not written down before the first training began;", here)
    before = joined([_plain_banner("declared was"), element("span", declared, class_="hash")], " ")
    since = ["its text is not in the ledger"] if analysis.declared is None else analysis.declared.changes
    also = [analysis.deviation] if analysis.deviation else []
    changes = (_plain_banner(said) for said in (*since, *also))
    return _alert("EXPLORATORY", "The hypotheses were changed after the first training began;", here, before, *changes)


def _as_declared(analysis: Analysis) -> list[Html]:
    """The sweep file that was declared, folded, where another one is judged."""
    declared = analysis.declared
    if declared is None:
        return []
    how = (
        []
        if declared.command is None
        else [element("p", joined([_plain_banner("Judge it:"), _code(declared.command)], " "))]
    )
    heading = element(
        "summary",
        joined([_plain_banner("What was declared before the first training:"), _code(declared.asked_with)], " "),
    )
    return [element("details", joined([heading, *how, element("pre", declared.text)]), class_="declared")]


def _code(text: str) -> Html:
    return element("code", text)


def _incomplete(analysis: Analysis, record: RunRecord) -> list[Html]:
    missing = analysis.planned - len(analysis.trials)
    if missing <= 0:
        return []
    named = [f"{waiting.label} ({waiting.why})" for waiting in record.waiting]
    which = f" {listed(named)}." if named else ""
    said = f"{missing} of {analysis.planned} trainings have not finished; verdicts use those that have.{which}"
    if record.commands is None:
        return [_alert("INCOMPLETE", said)]
    how = joined([_plain_banner("This finishes them:"), element("code", record.commands.sweep)], " ")
    return [_alert("INCOMPLETE", said, how)]


def _one_seed(analysis: Analysis) -> list[Html]:
    if not analysis.verdicts or "seed" not in analysis.trials.columns or analysis.trials["seed"].n_unique() != 1:
        return []
    said = "Seeds are the replicates, and one gives neither an interval nor a verdict: what follows is estimates alone."
    return [_alert("ONE SEED", said)]


def _not_a_number(analysis: Analysis) -> list[Html]:
    """A metric that a training could not compute; the charts and tests do without that training."""
    asked = [verdict.response for verdict in analysis.verdicts if verdict.response in analysis.trials.columns]
    found = []
    for metric in dict.fromkeys([*asked, *main_metrics(analysis)]):
        broken = analysis.trials.filter(pl.col(metric).cast(pl.Float64).is_nan())
        if len(broken):
            found.append(f"{metric} in {listed(list(broken['label']))}")
    if not found:
        return []
    return [_alert("NOT A NUMBER", f"{'; '.join(found)}. Charts and verdicts leave these values out.")]


def _alert(word: str, said: str, *more: Html) -> Html:
    parts = [element("strong", f"{word}:"), _plain_banner(said), joined(more, "; ")]
    return element("p", joined(parts, " "), class_="notice alert")


def _plain_banner(text: str) -> Html:
    return element("span", text)


DESCRIPTIVE: Final = (
    "Descriptive: the treatment moves both, so that what goes together here need not cause one another. "
    "Trainings of equal treatment differ by their seed alone."
)

NOT_KEPT: Final = "None of these trainings kept its mean embeddings, so there is nothing to show here."
CONTENTS: Final = {
    "responses": "Treatment",
    "paths": "Training",
    "kept": "Factors",
    "dimensions": "Dimensions",
    "together": "Quality",
    "trainings": "Every training",
    "record": "What was run",
    "again": "Running it again",
}


def render_report(analysis: Analysis, record: RunRecord = NOTHING_MORE) -> str:
    """A complete HTML document.

    The same arguments give the same text: it holds no time and nothing random. Vega is in it once, scripts and
    styles are inline, and its security policy forbids loading anything. Texts from the sweep file are escaped.
    """
    with trusted():
        return _render(analysis, record)


def _render(analysis: Analysis, record: RunRecord) -> str:
    strips = strip_figures(analysis, PAGE_LOOK)
    doses, kept = responses(analysis, PAGE_LOOK), kept_figures(analysis, PAGE_LOOK)
    paths, dimensions = training_figures(analysis, PAGE_LOOK), gap_figures(analysis, PAGE_LOOK, record)
    together = together_figures(analysis, PAGE_LOOK, record)
    by_factor = [figure for group in (*doses, *kept) for figure in group.figures]
    shown = {
        "responses": _by_factor("responses", "What the treatment did", _treatment(doses), doses),
        "paths": _plain("paths", "While training", "What each training measured on its way.", paths),
        "kept": _by_factor("kept", "Factor by factor", "What embeddings keep of each factor of the images.", kept),
        "dimensions": _dimensions(dimensions, record),
        "together": _plain("together", "Gap and quality", DESCRIPTIVE, together),
    }
    content = fill(
        "page",
        kicker=kicker(analysis),
        question=analysis.question,
        summary=summary(analysis),
        notices=notices(analysis, record),
        verdicts=verdict_cards(analysis, strips),
        meaning=fill("meaning", alpha=f"{analysis.alpha:g}") if analysis.verdicts else Html(""),
        contents=_contents(shown),
        hint=Html(asset("hint.html")) if by_factor else Html(""),
        figures=joined(shown.values()),
        trials=trial_table(analysis, record.run_pages),
        record=what_was_run(analysis, record),
    )
    drawn = [*strips.values(), *by_factor, *paths, *dimensions, *together]
    return document(f"{analysis.sweep}: {analysis.question}", content, drawn, record.run_pages)


def _contents(shown: Mapping[str, Html]) -> Html:
    present = {name: words for name, words in CONTENTS.items() if name not in shown or shown[name].text}
    links = (element("a", words, href=f"#{name}") for name, words in present.items())
    return element("nav", joined(links), class_="contents", aria_label="Contents")


def _dimensions(figures: Sequence[Figure], record: RunRecord) -> Html:
    heading = "Which dimensions carry the gap"
    if figures or record.recipe is None:
        return _plain("dimensions", heading, "At the end of training.", figures)
    return section("dimensions", heading, NOT_KEPT, [Html("")])


def _treatment(doses: Sequence[Responses]) -> str:
    listed = "; ".join(f"{dose.factor.words}: {', '.join(dose.factor.levels)}" for dose in doses)
    return f"Treatment: {listed}."


def _by_factor(name: str, heading: str, lead: str, groups: Sequence[Responses]) -> Html:
    drawn = [group for group in groups if group.figures]
    headed = len(drawn) > 1
    return section(name, heading, lead, [part for group in drawn for part in _group(group, headed)])


def _group(group: Responses, headed: bool) -> list[Html]:
    heading = [element("h3", f"By {group.factor.words}")] if headed else []
    return [*heading, panels(group.figures)]


def _plain(name: str, heading: str, lead: str, figures: Sequence[Figure]) -> Html:
    return section(name, heading, lead, [panels(figures)] if figures else [])
