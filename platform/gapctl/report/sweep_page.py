"""The HTML page of one sweep: verdicts, charts, trainings and what was run, in one file without a network.

`render_report` builds it from top to bottom: the question with a summary and notices, a card for each hypothesis
(`render_verdict_cards`), the charts of `figures.py`, the table of trainings (`render_trial_table`), and the run record
of `page_parts.py`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from gapctl.analysis.results import Analysis, Interval, Outcome, Verdict
from gapctl.report.figures import (
    EMPTY_RECORD,
    FactorFigures,
    has_metric,
    plot_gap_and_qualities,
    plot_gap_by_dimension,
    plot_image_factors,
    plot_responses_by_factor,
    plot_strips,
    plot_training,
)
from gapctl.report.html import Html, build_element, fill_template, join_html, read_asset, render_facts
from gapctl.report.page_parts import (
    RunPages,
    RunRecord,
    render_document,
    render_panels,
    render_run_record,
    render_section,
)
from gapctl.report.text import (
    NOT_KNOWN,
    align_numbers,
    capitalise_first,
    describe_effect,
    describe_level_pair,
    explain_marks,
    explain_metric,
    explain_redesign,
    explain_seeds_needed,
    format_confidence_level,
    format_declared_number,
    format_number,
    format_p_value,
    get_metric_unit,
    name_effect_unit,
    name_metric,
)
from gapctl.text import list_first_names
from gapctl_charts.factor import plain
from gapctl_charts.figure import Figure, trusted
from gapctl_charts.look import PAGE_LOOK

VERDICT_SYMBOLS: Final[dict[Outcome, str]] = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}


DESCRIPTIVE: Final = (
    "Descriptive: the treatment moves both, so that what goes together here need not cause one another. "
    "Trainings of equal treatment differ by their seed alone."
)
NO_MEAN_EMBEDDINGS: Final = "None of these trainings kept its mean embeddings, so there is nothing to show here."


SECTION_NAMES: Final = {
    "responses": "Treatment",
    "paths": "Training",
    "kept": "Factors",
    "dimensions": "Dimensions",
    "together": "Quality",
    "trainings": "Every training",
    "record": "What was run",
    "again": "Running it again",
}


def render_report(analysis: Analysis, record: RunRecord = EMPTY_RECORD) -> str:
    """Return the complete HTML document of an analysis.

    The same arguments give the same text: it contains no time and nothing random. Vega is in it once, scripts and
    styles are inline, and its security policy forbids loading anything. Texts from the sweep file are escaped.
    """
    with trusted():
        return _render_page(analysis, record)


def _render_page(analysis: Analysis, record: RunRecord) -> str:
    strips = plot_strips(analysis, PAGE_LOOK)
    doses, kept = plot_responses_by_factor(analysis, PAGE_LOOK), plot_image_factors(analysis, PAGE_LOOK)
    paths, dimensions = plot_training(analysis, PAGE_LOOK), plot_gap_by_dimension(analysis, PAGE_LOOK, record)
    together = plot_gap_and_qualities(analysis, PAGE_LOOK, record)
    by_factor = [figure for group in (*doses, *kept) for figure in group.figures]
    shown = {
        "responses": _render_by_factor("responses", "What the treatment did", _describe_treatment(doses), doses),
        "paths": _render_figures("paths", "While training", "What each training measured on its way.", paths),
        "kept": _render_by_factor(
            "kept", "Factor by factor", "What embeddings keep of each factor of the images.", kept
        ),
        "dimensions": _render_dimensions(dimensions, record),
        "together": _render_figures("together", "Gap and quality", DESCRIPTIVE, together),
    }
    content = fill_template(
        "page",
        kicker=format_kicker(analysis),
        question=analysis.question,
        summary=render_summary(analysis),
        notices=render_notices(analysis, record),
        verdicts=render_verdict_cards(analysis, strips),
        meaning=fill_template("meaning", alpha=f"{analysis.alpha:g}") if analysis.verdicts else Html(""),
        contents=_render_contents(shown),
        hint=Html(read_asset("hint.html")) if by_factor else Html(""),
        figures=join_html(shown.values()),
        trials=render_trial_table(analysis, record.run_pages),
        record=render_run_record(analysis, record),
    )
    drawn = [*strips.values(), *by_factor, *paths, *dimensions, *together]
    return render_document(f"{analysis.sweep}: {analysis.question}", content, drawn, record.run_pages)


def _render_contents(shown: Mapping[str, Html]) -> Html:
    present = {name: words for name, words in SECTION_NAMES.items() if name not in shown or shown[name].text}
    links = (build_element("a", words, href=f"#{name}") for name, words in present.items())
    return build_element("nav", join_html(links), class_="contents", aria_label="Contents")


def _render_dimensions(figures: Sequence[Figure], record: RunRecord) -> Html:
    heading = "Which dimensions carry the gap"
    if figures or record.recipe is None:
        return _render_figures("dimensions", heading, "At the end of training.", figures)
    return render_section("dimensions", heading, NO_MEAN_EMBEDDINGS, [Html("")])


def _describe_treatment(doses: Sequence[FactorFigures]) -> str:
    listed = "; ".join(f"{dose.factor.words}: {', '.join(dose.factor.levels)}" for dose in doses)
    return f"Treatment: {listed}."


def _render_by_factor(name: str, heading: str, lead: str, groups: Sequence[FactorFigures]) -> Html:
    drawn = [group for group in groups if group.figures]
    parts: list[Html] = []
    for group in drawn:
        if len(drawn) > 1:
            parts.append(build_element("h3", f"By {group.factor.words}"))
        parts.append(render_panels(group.figures))
    return render_section(name, heading, lead, parts)


def _render_figures(name: str, heading: str, lead: str, figures: Sequence[Figure]) -> Html:
    return render_section(name, heading, lead, [render_panels(figures)] if figures else [])


def format_kicker(analysis: Analysis) -> str:
    """Return the line above the question: the sweep and its scale."""
    return f"gapctl · sweep {analysis.sweep}" + (f" · scale {analysis.scale}" if analysis.scale else "")


def render_summary(analysis: Analysis) -> Html:
    """Render the number of hypotheses by verdict, alpha, and the number of trainings done."""
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    ended = [f"{VERDICT_SYMBOLS[word]} {counts[word]} {word}" for word in VERDICT_SYMBOLS if counts[word]]
    done = f"{len(analysis.trials)} of {analysis.planned} trainings done"
    tested = [f"alpha {analysis.alpha:g}, Holm over {len(analysis.verdicts)}"] if ended else []
    return join_html(
        [build_element("b", ", ".join(ended) or "No hypotheses"), *(_render_span(part) for part in (*tested, done))],
        " · ",
    )


def render_notices(analysis: Analysis, record: RunRecord) -> Html:
    """Render the notices above the verdicts.

    They say whether the hypotheses were declared in time, which trainings or seeds are missing, and which metrics are
    not numbers.
    """
    declared = [_render_declaration(analysis)] if analysis.verdicts or analysis.declared else []
    return join_html(
        [
            *declared,
            *(_render_alert("REDESIGNED", line) for line in explain_redesign(analysis)),
            *_render_declared_file(analysis),
            *_warn_incomplete(analysis, record),
            *_warn_one_seed(analysis),
            *_warn_not_a_number(analysis),
        ]
    )


def _render_declaration(analysis: Analysis) -> Html:
    declared, now = analysis.declared_sha256, analysis.hypotheses_sha256
    here = join_html([_render_span("hypotheses' sha256"), build_element("span", now, class_="hash")], " ")
    if declared == now and analysis.deviation:
        return _render_alert("EXPLORATORY", f"The hypotheses stand as declared, but {analysis.deviation};", here)
    if declared == now:
        said = [build_element("b", "Declared before the first training;"), here]
        return build_element("p", join_html(said, " "), class_="notice")
    if declared is None:
        return _render_alert(
            "EXPLORATORY", "These hypotheses were not written down before the first training began;", here
        )
    before = join_html([_render_span("declared was"), build_element("span", declared, class_="hash")], " ")
    since = ["its text is not in the ledger"] if analysis.declared is None else analysis.declared.changes
    also = [analysis.deviation] if analysis.deviation else []
    changes = (_render_span(said) for said in (*since, *also))
    return _render_alert(
        "EXPLORATORY", "The hypotheses were changed after the first training began;", here, before, *changes
    )


def _render_declared_file(analysis: Analysis) -> list[Html]:
    """Render the declared sweep file, folded, where another one is judged."""
    declared = analysis.declared
    if declared is None:
        return []
    how = (
        []
        if declared.command is None
        else [build_element("p", join_html([_render_span("Judge it:"), build_element("code", declared.command)], " "))]
    )
    heading = build_element(
        "summary",
        join_html(
            [_render_span("What was declared before the first training:"), build_element("code", declared.asked_with)],
            " ",
        ),
    )
    return [
        build_element("details", join_html([heading, *how, build_element("pre", declared.text)]), class_="declared")
    ]


def _warn_incomplete(analysis: Analysis, record: RunRecord) -> list[Html]:
    missing = analysis.planned - len(analysis.trials)
    if missing <= 0:
        return []
    named = [f"{waiting.label} ({waiting.why})" for waiting in record.waiting]
    which = f" {list_first_names(named)}." if named else ""
    said = f"{missing} of {analysis.planned} trainings have not finished; verdicts use those that have.{which}"
    if record.commands is None:
        return [_render_alert("INCOMPLETE", said)]
    how = join_html([_render_span("This finishes them:"), build_element("code", record.commands.sweep)], " ")
    return [_render_alert("INCOMPLETE", said, how)]


def _warn_one_seed(analysis: Analysis) -> list[Html]:
    if not analysis.verdicts or "seed" not in analysis.trials.columns or analysis.trials["seed"].n_unique() != 1:
        return []
    said = "Seeds are the replicates, and one gives neither an interval nor a verdict: what follows is estimates alone."
    return [_render_alert("ONE SEED", said)]


def _warn_not_a_number(analysis: Analysis) -> list[Html]:
    """Warn about metrics that a training could not compute; charts and tests leave that training out."""
    asked = [verdict.response for verdict in analysis.verdicts if verdict.response in analysis.trials.columns]
    found = []
    for metric in dict.fromkeys([*asked, *list_main_metrics(analysis)]):
        broken = analysis.trials.filter(pl.col(metric).cast(pl.Float64).is_nan())
        if len(broken):
            found.append(f"{metric} in {list_first_names(list(broken['label']))}")
    if not found:
        return []
    return [_render_alert("NOT A NUMBER", f"{'; '.join(found)}. Charts and verdicts leave these values out.")]


def _render_alert(word: str, said: str, *more: Html) -> Html:
    parts = [build_element("strong", f"{word}:"), _render_span(said), join_html(more, "; ")]
    return build_element("p", join_html(parts, " "), class_="notice alert")


def _render_span(text: str) -> Html:
    return build_element("span", text)


_TEST_NAMES: Final = {
    "trend": "trend: Page's test, slope over paired seeds",
    "contrast": "contrast: paired difference of two levels",
    "equivalence": "equivalence: two one-sided tests",
    "correlation": "correlation: Kendall's τ, permutation test",
    "mediation": "mediation: mediator held fixed against free",
    "threshold": "threshold: response against a value",
}
_DIRECTION_NAMES: Final = {"neither": "none: less than the smallest effect, either way", "either": "either way"}
_FACTOR_TERMS: Final = {"correlation": "other metric"}


def render_verdict_cards(analysis: Analysis, strips: Mapping[str, Figure]) -> Html:
    """Render all hypotheses in the file's order; `strips` has the small charts by hypothesis id."""
    if not analysis.verdicts:
        return build_element(
            "p", "This sweep file states no hypotheses; the charts below are descriptive.", class_="lead"
        )
    return join_html(
        _render_verdict_card(verdict, analysis.alpha, strips.get(verdict.id)) for verdict in analysis.verdicts
    )


def _render_verdict_card(verdict: Verdict, alpha: float, strip: Figure | None) -> Html:
    estimate, *interval = align_numbers([verdict.estimate, *verdict.ci])
    return fill_template(
        "verdict",
        finding=verdict.verdict,
        symbol=VERDICT_SYMBOLS[verdict.verdict],
        mark=join_html((build_element("span", mark.upper(), class_="mark") for mark in verdict.marks), ""),
        claim=verdict.claim,
        reason=_explain_verdict(verdict),
        notes=join_html((build_element("p", line, class_="reason") for line in explain_marks(verdict)), ""),
        effect_name=capitalise_first(describe_effect(verdict)),
        estimate=estimate,
        effect_unit=name_effect_unit(verdict),
        confidence=format_confidence_level(alpha),
        interval=" to ".join(interval) if all(map(math.isfinite, verdict.ci)) else "too few seeds",
        standardised=_format_standardised(verdict),
        p=format_p_value(verdict.p),
        smallest_effect=format_declared_number(verdict.smallest_effect),
        strip=Html("") if strip is None else build_element("div", "", class_="strip chart", data_chart=strip.name),
        details=render_facts(_list_details(verdict, alpha)),
    )


def _format_standardised(verdict: Verdict) -> str:
    return f"{format_number(verdict.standardised)} SD" if math.isfinite(verdict.standardised) else NOT_KNOWN


def _explain_verdict(verdict: Verdict) -> str:
    if verdict.seeds_needed is None:
        return verdict.reason
    return f"{verdict.reason} {explain_seeds_needed(verdict.seeds_needed)}"


def _list_details(verdict: Verdict, alpha: float) -> dict[str, str | Html]:
    bootstrap = " to ".join(align_numbers(list(verdict.ci_bootstrap)))
    where = join_html((build_element("code", f"{path}: {plain(level)}") for path, level in verdict.where.items()), ", ")
    return {
        **({"source of the claim": verdict.source} if verdict.source is not None else {}),
        "test": _TEST_NAMES.get(verdict.test, verdict.test),
        "declared direction": _DIRECTION_NAMES.get(verdict.direction, verdict.direction),
        "response": build_element("code", verdict.response),
        **_describe_comparator(verdict),
        **({"levels compared": describe_level_pair(verdict.between[::-1])} if verdict.between else {}),
        **({"only trainings with": where} if verdict.where else {}),
        **_describe_mediation(verdict),
        "p before Holm": format_p_value(verdict.p_claim),
        "p of the direction alone": format_p_value(verdict.p_direction),
        f"bootstrap {format_confidence_level(alpha)} interval": bootstrap,
        "paired seeds; trainings": f"{verdict.seeds}; {verdict.trials}",
        "id": build_element("code", verdict.id),
    }


def _describe_comparator(verdict: Verdict) -> dict[str, str | Html]:
    if verdict.test == "threshold":
        return {"value": format_declared_number(verdict.value)}
    return {_FACTOR_TERMS.get(verdict.test, "treatment"): build_element("code", verdict.factor)}


def _describe_mediation(verdict: Verdict) -> dict[str, str | Html]:
    """Describe the mediator, and the treatment's effect with it free and held fixed."""
    if verdict.test != "mediation" or verdict.mediator is None:
        return {}
    free, fixed = map(plain, verdict.mediator_levels)
    return {
        "mediator": build_element("code", verdict.mediator),
        f"effect at {free} (free)": _format_with_interval(verdict.effect_free, verdict.effect_free_ci),
        f"effect at {fixed} (held)": _format_with_interval(verdict.effect_fixed, verdict.effect_fixed_ci),
        "part that is mediated": _format_with_interval(verdict.share_mediated, verdict.share_mediated_ci),
    }


def _format_with_interval(value: float, ci: Interval) -> str:
    shown = align_numbers([value, *ci])
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


def render_trial_table(analysis: Analysis, run_pages: RunPages | None = None) -> Html:
    """Render a row for each finished training, in the plan's order: label, seed, id, main metrics, seconds.

    An id links to the training's page in MLflow where that is known.
    """
    if analysis.trials.is_empty():
        return build_element("p", "No training has finished yet.", class_="lead")
    metrics = list_main_metrics(analysis)
    return fill_template(
        "trials",
        lead=_render_table_lead(run_pages),
        head=_render_table_head(metrics),
        rows=join_html(_render_trial_row(row, metrics, run_pages) for row in analysis.trials.iter_rows(named=True)),
        glossary=render_facts({key: _define_metric(key) for key in metrics}),
    )


def list_main_metrics(analysis: Analysis) -> list[str]:
    """List the metrics to show: those of hypotheses first, then the usual ones, as far as trials have them."""
    asked = [verdict.response for verdict in analysis.verdicts if verdict.response not in _MAIN_METRICS]
    wanted = dict.fromkeys([*asked, *_MAIN_METRICS])
    return [key for key in wanted if has_metric(analysis.trials, key)]


def _render_table_head(metrics: Sequence[str]) -> Html:
    first = [_render_heading("training", "text"), _render_heading("seed"), _render_heading("id", "text")]
    return join_html([*first, *map(_render_heading, metrics), _render_heading("seconds")], "")


def _render_heading(name: str, kind: str = "number") -> Html:
    """Render a column heading; a metric's group goes above its name, so that columns stay narrow."""
    group, _, rest = name.rpartition("/")
    lines = (
        [build_element("small", f"{group}/"), build_element("span", _render_breakable(rest))]
        if group
        else [build_element("span", name)]
    )
    return build_element("th", build_element("button", join_html(lines, ""), type="button"), scope="col", class_=kind)


def _render_breakable(name: str) -> Html:
    return join_html((build_element("span", part) for part in name.split("_")), "_<wbr>")


def _render_trial_row(row: dict[str, Any], metrics: Sequence[str], run_pages: RunPages | None) -> Html:
    cells = [
        build_element("th", str(row["label"]), scope="row", class_="text"),
        _render_number_cell(row["seed"], str(row["seed"])),
        build_element("td", link_trial(str(row["trial"]), run_pages), class_="text"),
        *(_render_number_cell(row[key], format_number(row[key])) for key in metrics),
        _render_number_cell(row["seconds"], NOT_KNOWN if row["seconds"] is None else f"{row['seconds']:,.0f}"),
    ]
    return build_element("tr", join_html(cells, ""), id=f"trial-{row['trial']}")


def _render_table_lead(run_pages: RunPages | None) -> Html:
    parts: list[Html] = [build_element("span", "Each training with its final metrics. Press a heading to sort.")]
    if run_pages is not None:
        address = build_element("span", run_pages.address, data_mlflow="")
        parts += [build_element("span", "Ids open the run in MLflow at"), address]
        if run_pages.started_by is not None:
            parts += [
                build_element("span", "while"),
                build_element("code", run_pages.started_by),
                build_element("span", "runs."),
            ]
    return join_html(parts, " ")


def link_trial(trial: str, run_pages: RunPages | None) -> Html:
    """Render a trial's id, linked to its page in MLflow where that is known."""
    shown = build_element("code", trial)
    if run_pages is None or trial not in run_pages.pages:
        return shown
    address = f"{run_pages.address}/{run_pages.pages[trial]}"
    return build_element("a", shown, href=address, target="_blank", rel="noopener", data_trial=trial)


def _render_number_cell(value: float | None, text: str) -> Html:
    known = value is not None and math.isfinite(value)
    return build_element("td", text, data_value=repr(value) if known else "NaN")


def _define_metric(key: str) -> str:
    counted = f" ({get_metric_unit(key)})" if get_metric_unit(key) else ""
    return f"{explain_metric(key) or name_metric(key)}{counted}"
