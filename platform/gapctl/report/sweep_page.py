"""The HTML page of one sweep: verdicts, charts, trainings and what was run, in one file without a network.

`render_report` collects what the page shows from top to bottom: the question with a summary and notices, a card for
each hypothesis, the charts of `figures.py`, the table of trainings, and the run record of `page_parts.py`. The markup
is in `templates/sweep.html` (the macro `trial_table`) and `templates/verdicts.html` (`verdict_cards`).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import polars as pl
from markupsafe import Markup

from gapctl.analysis.results import AnalysisResults, Interval, Outcome, Verdict
from gapctl.extensions import list_extensions
from gapctl.report.cohort_models import build_leaderboard, has_measured_models, plot_models
from gapctl.report.figures import (
    EMPTY_RECORD,
    FactorFigures,
    has_metric,
    plot_gap_and_qualities,
    plot_gap_by_bits,
    plot_gap_by_dimension,
    plot_hypothesis_strips,
    plot_image_factors,
    plot_responses_by_factor,
    plot_training_curves,
)
from gapctl.report.html import CODE, render_page
from gapctl.report.many_trainings import (
    MOST_TRAININGS,
    has_many_trainings,
    select_drawn_pages,
    summarise_arms,
)
from gapctl.report.page_parts import RunRecord, list_commands, list_run_facts
from gapctl.report.text import (
    NOT_KNOWN,
    capitalise_first,
    describe_effect,
    describe_level_pair,
    describe_prediction,
    explain_catalog_metric,
    explain_marks,
    explain_redesign,
    explain_seeds_needed,
    format_aligned_numbers,
    format_confidence_level,
    format_declared_number,
    format_marks,
    format_number,
    format_p_value,
    get_metric_unit,
    name_effect_unit,
    name_metric,
)
from gapctl.text import format_count_with_noun, format_first_names
from gapctl_charts.factor import plain
from gapctl_charts.figure import Figure, trusted
from gapctl_charts.look import PAGE_LOOK

VERDICT_SYMBOLS: Final[dict[Outcome, str]] = {"supported": "✓", "refuted": "✗", "inconclusive": "?"}


def get_symbol(verdict: Verdict) -> str:
    """Return a verdict's symbol; empty for one that is supported but marked, as a check mark would hide the mark."""
    return "" if verdict.verdict == "supported" and verdict.marks else VERDICT_SYMBOLS[verdict.verdict]


DESCRIPTIVE: Final = (
    "Descriptive: the treatment moves both, so that what goes together here need not cause one another. "
    "Trainings of equal treatment differ by their seed alone."
)
DESCRIPTIVE_OF_MODELS: Final = (
    "Descriptive: models differ in much beside the gap, so that what goes together here need not cause one another."
)
MODELS_LEAD: Final = "Each correlation over the models, and what each keeps when its largest dimensions are removed."
INFORMATION_LEAD: Final = "What captions leave unsaid, and whether it can be foreseen what they say."
NO_MEAN_EMBEDDINGS: Final = "None of these trainings kept its mean embeddings, so there is nothing to show here."


SECTION_NAMES: Final = {
    "leaderboard": "Table of models",
    "models": "Models",
    "responses": "Treatment",
    "information": "Information",
    "paths": "Training",
    "kept": "Factors",
    "dimensions": "Dimensions",
    "together": "Quality",
    "trainings": "Every training",
    "record": "What was run",
    "again": "Running it again",
}


def render_report(analysis: AnalysisResults, record: RunRecord = EMPTY_RECORD) -> str:
    """Return the complete HTML document of an analysis.

    The same arguments give the same text: it contains no time and nothing random. Vega is in it once, scripts and
    styles are inline, and its security policy forbids loading anything. Texts from the sweep file are escaped.
    """
    with trusted():
        return _render_sweep_page(analysis, record)


def _render_sweep_page(analysis: AnalysisResults, record: RunRecord) -> str:
    strips = plot_hypothesis_strips(analysis, PAGE_LOOK)
    doses, kept = plot_responses_by_factor(analysis, PAGE_LOOK), plot_image_factors(analysis, PAGE_LOOK)
    paths, dimensions = plot_training_curves(analysis, PAGE_LOOK), plot_gap_by_dimension(analysis, PAGE_LOOK, record)
    together = plot_gap_and_qualities(analysis, PAGE_LOOK, record)
    by_bits = plot_gap_by_bits(analysis, PAGE_LOOK)
    models = plot_models(analysis, PAGE_LOOK, record.model_pages)
    main_metrics = list_main_metrics(analysis)
    leaderboard = (
        build_leaderboard(analysis, main_metrics, record.published_source) if has_measured_models(analysis) else None
    )
    listed = "; ".join(f"{dose.factor.words}: {', '.join(dose.factor.levels)}" for dose in doses)
    no_means = not dimensions and record.recipe is not None
    describing = DESCRIPTIVE if analysis.replicate_noun == "seed" else DESCRIPTIVE_OF_MODELS
    sections = [
        PageSection("models", "Model by model", MODELS_LEAD, _wrap_in_group(models)),
        PageSection("responses", "What the treatment did", f"Treatment: {listed}.", _group_by_factor(doses)),
        PageSection("information", "Gap and information", INFORMATION_LEAD, _wrap_in_group(by_bits)),
        PageSection("paths", "While training", "What each training measured on its way.", _wrap_in_group(paths)),
        PageSection(
            "kept", "Factor by factor", "What embeddings keep of each factor of the images.", _group_by_factor(kept)
        ),
        PageSection(
            "dimensions",
            "Which dimensions carry the gap",
            NO_MEAN_EMBEDDINGS if no_means else "At the end of training.",
            _wrap_in_group(dimensions),
        ),
        PageSection("together", "Gap and quality", describing, _wrap_in_group(together)),
    ]
    shown = [part for part in sections if part.groups or (part.id == "dimensions" and no_means)]
    by_factor = [figure for group in (*doses, *kept) for figure in group.figures]
    left_out = {part.id for part in sections if part not in shown} | ({"leaderboard"} if leaderboard is None else set())
    figures = [*strips.values(), *models, *by_factor, *by_bits, *paths, *dimensions, *together]
    many = has_many_trainings(analysis)
    columns = [name for name in analysis.trials.columns if name in main_metrics or "/" not in name]
    return render_page(
        "sweep",
        f"{analysis.sweep}: {analysis.question}",
        figures,
        select_drawn_pages(record.run_pages, figures) if many else record.run_pages,
        kicker=f"gapctl · sweep {analysis.sweep}" + (f" · scale {analysis.scale}" if analysis.scale else ""),
        contents={name: words for name, words in SECTION_NAMES.items() if name not in left_out},
        alpha=f"{analysis.alpha:g}",
        noun=analysis.replicate_noun,
        with_hint=bool(by_factor or models),
        leaderboard=leaderboard,
        model_pages=record.model_pages,
        sections=shown,
        trials=[] if many else analysis.trials.select(columns).to_dicts(),
        arms=summarise_arms(analysis, main_metrics) if many else None,
        glossary={key: define_metric(key) for key in main_metrics} if len(analysis.trials) else {},
        model_glossary={key: define_metric(key) for key in leaderboard.metrics} if leaderboard else {},
        run_facts=list_run_facts(analysis, record),
        commands=list_commands(analysis, record),
        **collect_verdict_page_values(analysis, record, strips),
        notes=_note_many_trainings(analysis, record),
    )


class FigureGroup(NamedTuple):
    """Charts side by side, below a heading where there are several groups."""

    heading: str
    figures: Sequence[Figure]


class PageSection(NamedTuple):
    """A headed part of the page with charts."""

    id: str
    heading: str
    lead: str
    groups: Sequence[FigureGroup]


def _wrap_in_group(figures: Sequence[Figure]) -> list[FigureGroup]:
    return [FigureGroup("", figures)] if figures else []


def _group_by_factor(groups: Sequence[FactorFigures]) -> list[FigureGroup]:
    drawn = [group for group in groups if group.figures]
    return [FigureGroup(f"By {group.factor.words}" if len(drawn) > 1 else "", group.figures) for group in drawn]


def collect_verdict_page_values(
    analysis: AnalysisResults, record: RunRecord, strips: Mapping[str, Figure]
) -> dict[str, object]:
    """Collect what `verdicts.html` shows: a summary, notices, and a card for each hypothesis, in the file's order.

    `strips` has the small charts by hypothesis id.
    """
    return {
        "question": analysis.question,
        "summary": _summarise_verdicts(analysis),
        "declaration": _describe_declaration(analysis),
        "declared": analysis.declared,
        "warnings": [*_warn_incomplete(analysis, record), *_warn_one_seed(analysis), *_warn_not_a_number(analysis)],
        "cards": [_describe_card(verdict, analysis.alpha, strips.get(verdict.id)) for verdict in analysis.verdicts],
    }


def _summarise_verdicts(analysis: AnalysisResults) -> list[str]:
    """List the number of hypotheses by verdict and marks, alpha, and the number of trainings done."""
    order = list(VERDICT_SYMBOLS)
    ranked = sorted(analysis.verdicts, key=lambda verdict: (order.index(verdict.verdict), verdict.marks))
    counts = Counter((get_symbol(one), f"{one.verdict}{format_marks(one.marks)}") for one in ranked)
    ended = [f"{symbol} {count} {words}".strip() for (symbol, words), count in counts.items()]
    tested = [f"alpha {analysis.alpha:g}, Holm over {len(analysis.verdicts)}"] if ended else []
    done = f"{len(analysis.trials)} of {analysis.planned} trainings done"
    return [", ".join(ended) or "No hypotheses", *tested, done]


class NoticeDetail(NamedTuple):
    """A phrase of a notice, with the hash or the command that it names."""

    said: str
    hash: str = ""
    code: str = ""


class Notice(NamedTuple):
    """A notice above the verdicts; an alert where it has a `word`."""

    word: str
    said: str
    details: Sequence[NoticeDetail] = ()


def _describe_declaration(analysis: AnalysisResults) -> list[Notice]:
    """Say whether the hypotheses were declared in time, and what the sweep asks again."""
    again = [Notice("REDESIGNED", line) for line in explain_redesign(analysis)]
    if not (analysis.verdicts or analysis.declared):
        return again
    declared, now = analysis.declared_sha256, analysis.hypotheses_sha256
    here = NoticeDetail("hypotheses' sha256", hash=now)
    if declared == now and analysis.deviation:
        said = f"The hypotheses stand as declared, but {analysis.deviation};"
        return [Notice("EXPLORATORY", said, [here]), *again]
    if declared == now:
        return [Notice("", "Declared before the first training;", [here]), *again]
    if declared is None:
        said = "These hypotheses were not written down before the first training began;"
        return [Notice("EXPLORATORY", said, [here]), *again]
    since = ["its text is not in the ledger"] if analysis.declared is None else analysis.declared.changes
    changes = [NoticeDetail(text) for text in (*since, *([analysis.deviation] if analysis.deviation else []))]
    said = "The hypotheses were changed after the first training began;"
    before = NoticeDetail("declared was", hash=declared)
    return [Notice("EXPLORATORY", said, [here, before, *changes]), *again]


def _warn_incomplete(analysis: AnalysisResults, record: RunRecord) -> list[Notice]:
    missing = analysis.planned - len(analysis.trials)
    if missing <= 0:
        return []
    named = [f"{waiting.label} ({waiting.why})" for waiting in record.waiting]
    which = f" {format_first_names(named)}." if named else ""
    said = f"{missing} of {analysis.planned} trainings have not finished; verdicts use those that have.{which}"
    how = [] if record.commands is None else [NoticeDetail("This finishes them:", code=record.commands.sweep)]
    return [Notice("INCOMPLETE", said, how)]


def _note_many_trainings(analysis: AnalysisResults, record: RunRecord) -> list["Notice"]:
    """Say what the page leaves out where it does not show every training."""
    if not has_many_trainings(analysis):
        return []
    said = (
        f"These are {len(analysis.trials):,} trainings, and a page shows at most {MOST_TRAININGS:,} one by one. Charts "
        "draw some of each level, from the lowest value to the highest at even ranks, and the table has a row for each "
        "arm. Verdicts, means, intervals and correlations are of all."
    )
    how = [] if record.commands is None else [NoticeDetail("A row for each training:", code=record.commands.export)]
    return [Notice("", said, how)]


def _warn_one_seed(analysis: AnalysisResults) -> list[Notice]:
    over_seeds = [verdict for verdict in analysis.verdicts if verdict.test != "prediction"]
    if not over_seeds or "seed" not in analysis.trials.columns or analysis.trials["seed"].n_unique() != 1:
        return []
    noun = analysis.replicate_noun
    said = "are the replicates, and one gives neither an interval nor a verdict: what follows is estimates alone."
    return [Notice(f"ONE {noun.upper()}", f"{noun.capitalize()}s {said}")]


def _warn_not_a_number(analysis: AnalysisResults) -> list[Notice]:
    """Warn about metrics that a training could not compute; charts and tests leave that training out."""
    asked = [verdict.response for verdict in analysis.verdicts if verdict.response in analysis.trials.columns]
    found = []
    for metric in dict.fromkeys([*asked, *list_main_metrics(analysis)]):
        broken = analysis.trials.filter(pl.col(metric).cast(pl.Float64).is_nan())
        if len(broken):
            found.append(f"{metric} in {format_first_names(list(broken['label']))}")
    if not found:
        return []
    return [Notice("NOT A NUMBER", f"{'; '.join(found)}. Charts and verdicts leave these values out.")]


_TEST_NAMES: Final = {
    "trend": "trend: Page's test, slope over paired {replicates}",
    "contrast": "contrast: paired difference of two levels",
    "equivalence": "equivalence: two one-sided tests",
    "correlation": "correlation: Kendall's τ, permutation test",
    "mediation": "mediation: mediator held fixed against free",
    "threshold": "threshold: response against a value",
    "prediction": "prediction: levels left out in turn, permutation test, jackknife over levels",
}
_DIRECTION_NAMES: Final = {"neither": "none: less than the smallest effect, either way", "either": "either way"}
_FACTOR_TERMS: Final = {"correlation": "other metric"}


def _describe_card(verdict: Verdict, alpha: float, strip: Figure | None) -> dict[str, object]:
    estimate, *interval = format_aligned_numbers([verdict.estimate, *verdict.ci])
    needed = explain_seeds_needed(verdict)
    known = math.isfinite(verdict.standardised)
    return {
        "verdict": verdict,
        "symbol": get_symbol(verdict),
        "reason": f"{verdict.reason} {needed}".strip(),
        "notes": [*filter(None, [describe_prediction(verdict, alpha)]), *explain_marks(verdict)],
        "effect_name": capitalise_first(describe_effect(verdict)),
        "estimate": estimate,
        "effect_unit": name_effect_unit(verdict),
        "confidence": format_confidence_level(alpha),
        "interval": " to ".join(interval)
        if all(map(math.isfinite, verdict.ci))
        else f"too few {verdict.replicate_name}",
        "standardised": f"{format_number(verdict.standardised)} SD" if known else NOT_KNOWN,
        "p": format_p_value(verdict.p),
        "smallest_effect": format_declared_number(verdict.smallest_effect),
        "strip": None if strip is None else strip.name,
        "details": _list_details(verdict, alpha),
    }


def _list_details(verdict: Verdict, alpha: float) -> dict[str, str]:
    bootstrap = " to ".join(format_aligned_numbers(list(verdict.ci_bootstrap)))
    where = Markup(", ").join(CODE.format(f"{path}: {plain(level)}") for path, level in verdict.where.items())
    return {
        **({"source of the claim": verdict.source} if verdict.source is not None else {}),
        "test": _TEST_NAMES.get(verdict.test, verdict.test).format(replicates=verdict.replicate_name),
        "declared direction": _DIRECTION_NAMES.get(verdict.direction, verdict.direction),
        "response": CODE.format(verdict.response),
        **_describe_comparator(verdict),
        **({"levels compared": describe_level_pair(verdict.between[::-1])} if verdict.between else {}),
        **({"only trainings with": where} if verdict.where else {}),
        **_describe_mediation(verdict),
        **_describe_forecasts(verdict),
        "p before Holm": format_p_value(verdict.p_claim),
        "p of the direction alone": format_p_value(verdict.p_direction),
        f"bootstrap {format_confidence_level(alpha)} interval": bootstrap,
        **_describe_replicates(verdict),
        "id": CODE.format(verdict.id),
    }


def _describe_replicates(verdict: Verdict) -> dict[str, str]:
    """Describe how many replicates were compared; of a cohort also its strata."""
    if (found := verdict.forecast) is not None:
        trained = f"{verdict.seeds}; {verdict.trials} of {format_count_with_noun(found.seeds, found.noun)}"
        return {"levels left out in turn; trainings": trained}
    if verdict.cohort is None:
        return {f"paired {verdict.replicate_name}; trainings": f"{verdict.seeds}; {verdict.trials}"}
    strata = f"{verdict.cohort.strata} ({verdict.cohort.singletons} of one model)"
    return {"models, one a lineage; all models": f"{verdict.seeds}; {verdict.trials}", "strata": strata}


def _describe_comparator(verdict: Verdict) -> dict[str, str]:
    if verdict.test == "threshold":
        return {"value": format_declared_number(verdict.value)}
    return {_FACTOR_TERMS.get(verdict.test, "treatment"): CODE.format(verdict.factor)}


def _describe_mediation(verdict: Verdict) -> dict[str, str]:
    """Describe the mediator, and the treatment's effect with it free and held fixed."""
    if verdict.test != "mediation" or verdict.mediator is None:
        return {}
    free, fixed = map(plain, verdict.mediator_levels)
    return {
        "mediator": CODE.format(verdict.mediator),
        f"effect at {free} (free)": _format_with_interval(verdict.effect_free, verdict.effect_free_ci),
        f"effect at {fixed} (held)": _format_with_interval(verdict.effect_fixed, verdict.effect_fixed_ci),
        "part that is mediated": _format_with_interval(verdict.share_mediated, verdict.share_mediated_ci),
    }


def _describe_forecasts(verdict: Verdict) -> dict[str, str]:
    """Describe from what the levels were forecast, how far off, and each forecast beside what was measured."""
    if verdict.test != "prediction":
        return {}
    named: dict[str, str] = {"predictors": Markup(", ").join(map(CODE.format, verdict.predictors))}
    if verdict.beyond:
        named["beyond"] = Markup(", ").join(map(CODE.format, verdict.beyond))
    if verdict.forecast is None:
        return named
    rows = [
        f"{plain(one.level)} {measured} ({forecast})"
        for one in verdict.forecast.levels
        for measured, forecast in [format_aligned_numbers([one.response, one.forecast])]
    ]
    errors = format_aligned_numbers([verdict.forecast.error_before, verdict.forecast.error])
    return {
        **named,
        "error of forecasts, without and with": " and ".join(errors),
        "measured (forecast)": "; ".join(rows),
    }


def _format_with_interval(value: float, ci: Interval) -> str:
    shown = format_aligned_numbers([value, *ci])
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if math.isfinite(value) else NOT_KNOWN


_BITS: Final = ("information/image_given_caption", "information/caption_given_image", "information/shared")
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
    "train/loss_bayes",
    *_BITS,
)


def list_main_metrics(analysis: AnalysisResults) -> list[str]:
    """List the metrics to show: those of hypotheses first, then the usual ones, as far as trials have them.

    Metrics of other packages come last: a sweep has those that its file names. Bits are shown where captions differ.
    """
    asked = [verdict.response for verdict in analysis.verdicts if verdict.response not in _MAIN_METRICS]
    wanted = dict.fromkeys([*asked, *_MAIN_METRICS, *list_extensions("metrics")])
    same = [key for key in _BITS if key in analysis.trials.columns and analysis.trials[key].n_unique() == 1]
    return [key for key in wanted if has_metric(analysis.trials, key) and key not in same]


def define_metric(key: str) -> str:
    """Say what a metric is, with its unit, for the list below a table."""
    counted = f" ({get_metric_unit(key)})" if get_metric_unit(key) else ""
    return f"{explain_catalog_metric(key) or name_metric(key)}{counted}"
