"""The models of a cohort on a page and in files: their table, scatters of correlations, and curves of ablations.

1. `select_finished_models` (of the analysis) gives a row for each model: what is known of it, and its metrics.
2. `build_leaderboard` is the table that people sort and cite, on pages and in LaTeX (`models_page.py`);
   `build_models_table` is the one with everything, for an export.
3. `plot_models` draws every correlation over models, and every metric against the number of removed dimensions.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl

from gapctl.analysis.results import AnalysisResults, EstimateWithInterval, Verdict
from gapctl.analysis.tables import list_metric_columns, select_finished_models
from gapctl.analysis.verdict import SCOPE_WORDS
from gapctl.config.hypotheses import LOGARITHM, Level
from gapctl.config.metrics import PUBLISHED
from gapctl.plan.plan import Plan
from gapctl.report.text import (
    capitalise_first,
    explain_catalog_metric,
    format_confidence_level,
    get_metric_unit,
    label_metric_axis,
    name_metric,
)
from gapctl.text import format_count_with_noun, join_and
from gapctl_charts.ablation import ablation_chart
from gapctl_charts.figure import Figure, figure
from gapctl_charts.look import Look
from gapctl_charts.model_scatter import scatter_chart

HUB: Final = "https://huggingface.co/"
HUB_PREFIX: Final = "hf-hub:"
INTERVENTION: Final = "evaluate.intervention"
REMOVAL: Final = re.compile(r"remove_(\d+)")
FEWEST_IN_A_LINE: Final = 3
"""Models of a stratum, fewer than which a line through them says nothing."""
CURVE_METRICS: Final = ("gap/rmg", "gap/l2m", "quality/object_accuracy", "quality/i2t_recall_1", "quality/t2i_recall_1")


def map_models_to_pages(plan: Plan) -> dict[str, str]:
    """Return the address of the weights' page of each model whose weights come from a hub, by the model's name.

    The fact `repository` names it where `weights` is a tag.
    """
    found = {}
    for trial in plan.trials:
        weights = str(getattr(trial.config.model, "weights", ""))
        if trial.model is None:
            continue
        named = weights.removeprefix(HUB_PREFIX).partition("@")[0] if weights.startswith(HUB_PREFIX) else ""
        if repository := named or trial.model.facts.get("repository"):
            found[trial.model.name] = f"{HUB}{repository}"
    return found


def has_measured_models(analysis: AnalysisResults) -> bool:
    """Return whether models are the replicates, and some are measured."""
    return analysis.replicate_noun == "model" and not analysis.trials.is_empty()


def list_covariates(analysis: AnalysisResults) -> list[str]:
    """List the columns of what is known of each model beside its stratum."""
    columns = analysis.trials.columns
    after = columns[columns.index("model") + 1 :]
    return [name for name in after if "/" not in name and name not in ("stratum", "lineage", "samples_seen", "seconds")]


def choose_untouched_arm(analysis: AnalysisResults) -> dict[str, Level]:
    """Return the level of each factor that stands for the models as they are: the first, or no intervention."""
    levels = {path: analysis.trials[path][0] for path in analysis.factors if path in analysis.trials.columns}
    if INTERVENTION in levels and "none" in analysis.trials[INTERVENTION].to_list():
        levels[INTERVENTION] = "none"
    return levels


class Leaderboard(NamedTuple):
    """Models as a table: `facts` and `metrics` are its columns beside `model`, and `lead` says what they are.

    `number_facts` are the facts that are numbers.
    """

    models: list[dict[str, Any]]
    facts: list[str]
    number_facts: list[str]
    metrics: list[str]
    lead: str


def build_leaderboard(analysis: AnalysisResults, main_metrics: Sequence[str], source: str = "") -> Leaderboard:
    """Return the models as they are, with published numbers, metrics of hypotheses and the main ones."""
    arm = choose_untouched_arm(analysis)
    models = select_finished_models(analysis.trials, analysis.factors, arm)
    known = [name for name in list_metric_columns(models) if models[name].is_not_null().any()]
    published = [name for name in known if name.startswith(PUBLISHED)]
    asked = [name for verdict in analysis.verdicts for name in _list_columns(verdict)]
    metrics = [name for name in dict.fromkeys([*published, *asked, *main_metrics]) if name in known]
    facts = ["stratum", *(["lineage"] if models["lineage"].is_not_null().any() else []), *list_covariates(analysis)]
    at = join_and([f"{path.rpartition('.')[2]} {level}" for path, level in arm.items()]) if arm else ""
    lines = [f"Each of {format_count_with_noun(len(models), 'model')}{f' with {at}' if at else ''}."]
    if published:
        whence = f": {source}" if source else ""
        lines.append(f"Columns that begin with {PUBLISHED} are numbers that others measured{whence}.")
    numbers = [name for name in facts if models.schema[name].is_numeric()]
    return Leaderboard(models.to_dicts(), facts, numbers, metrics, " ".join(lines))


def _list_columns(verdict: Verdict) -> list[str]:
    """List the metrics that a hypothesis names, on each of its evaluation sets."""
    named = [name for name in (verdict.response, verdict.factor) if "/" in name]
    return [f"{one}/{name}" if one else name for one in _list_sets(verdict) for name in named]


def _list_sets(verdict: Verdict) -> list[str]:
    return [one.name for one in verdict.cohort.sets] if verdict.cohort and verdict.cohort.sets else [""]


def build_models_table(analysis: AnalysisResults, pages: Mapping[str, str]) -> pl.DataFrame:
    """Return a row for each model as it is, with all that is known and was measured of it, and its weights' page."""
    models = select_finished_models(analysis.trials, analysis.factors, choose_untouched_arm(analysis))
    links = pl.Series("page", [pages.get(name) for name in models["model"]], pl.String)
    facts = ["model", "stratum", "lineage", *list_covariates(analysis)]
    return models.with_columns(links).select(*facts, pl.exclude(*facts, "trial", "page"), "page", "trial")


def plot_models(analysis: AnalysisResults, look: Look, pages: Mapping[str, str]) -> list[Figure]:
    """Plot each correlation over models, on each of its sets, then curves of ablations; none without a cohort."""
    if not has_measured_models(analysis):
        return []
    scatters = [
        drawn
        for verdict in analysis.verdicts
        if verdict.cohort is not None
        for one in _list_sets(verdict)
        if (drawn := _plot_correlation(analysis, verdict, one, look, pages)) is not None
    ]
    return [*scatters, *_plot_ablations(analysis, look)]


def _plot_correlation(
    analysis: AnalysisResults, verdict: Verdict, one: str, look: Look, pages: Mapping[str, str]
) -> Figure | None:
    """Plot a point for each model, on one evaluation set; None where fewer than two have both values."""
    log, against = verdict.factor.startswith(LOGARITHM), verdict.factor.removeprefix(LOGARITHM).strip()
    models = select_finished_models(analysis.trials, analysis.factors, verdict.where)
    columns = [_find_column(models, one, name) for name in (against, verdict.response)]
    if None in columns or any(not models.schema[str(name)].is_numeric() for name in columns):
        return None
    x, y = map(str, columns)
    known = models.filter(pl.col(x).is_finite() & pl.col(y).is_finite() & ((pl.col(x) > 0) | (not log)))
    if len(known) < 2:
        return None
    told = {name: f"fact_{place}" for place, name in enumerate(list_covariates(analysis))}
    if known["lineage"].is_not_null().any():
        told = {"lineage": "lineage", **told}
    points = known.select(
        "model",
        pl.col("stratum").alias("series"),
        pl.col(x).cast(pl.Float64).alias("against"),
        pl.col(y).alias("response"),
        *(pl.col(name).alias(field) for name, field in told.items()),
        "trial",
        pl.col("model").replace_strict(dict(pages), default=None, return_dtype=pl.String).alias("link"),
    )
    strata = sorted(known["stratum"].unique())
    axes = capitalise_first(_label_axis(x)), capitalise_first(_label_axis(y))
    chart = scatter_chart(points, fit_lines(points, log=log), axes, strata, told, look, log=log)
    on = f" on {one}" if one else ""
    title = f"{capitalise_first(_name_column(verdict.response))} and {_name_column(against)}{on}"
    name = f"models-{verdict.id}{f'-{one}' if one else ''}"
    return figure(name, title, _write_scatter_caption(analysis, verdict, one, len(known)), chart, look)


def _find_column(models: pl.DataFrame, one: str, name: str) -> str | None:
    return next((found for found in (f"{one}/{name}", name) if found in models.columns), None)


def _name_column(name: str) -> str:
    return name_metric(name) if "/" in name else name.replace("_", " ")


def _label_axis(name: str) -> str:
    return label_metric_axis(name) if "/" in name else name.replace("_", " ")


def fit_lines(points: pl.DataFrame, *, log: bool = False) -> pl.DataFrame:
    """Return both ends of the least-squares line of each stratum that has enough models.

    The columns are `against`, `response` and `series`. With `log`, lines are straight in the logarithm of `against`.
    """
    ends = []
    for (stratum,), rows in points.sort("series").group_by("series", maintain_order=True):
        x_N, y_N = rows["against"].to_numpy(), rows["response"].to_numpy()
        places_N = np.log(x_N) if log else x_N
        if len(rows) < FEWEST_IN_A_LINE or np.ptp(places_N) == 0:
            continue
        slope = np.polyfit(places_N - places_N.mean(), y_N, 1)[0]
        for at in (places_N.argmin(), places_N.argmax()):
            value = float(y_N.mean() + slope * (places_N[at] - places_N.mean()))
            ends.append({"against": float(x_N[at]), "response": value, "series": stratum})
    return pl.DataFrame(ends)


def _write_scatter_caption(analysis: AnalysisResults, verdict: Verdict, one: str, models: int) -> str:
    found = verdict.cohort
    assert found is not None
    held = [f"{path.rpartition('.')[2]} {level}" for path, level in verdict.where.items()]
    at = f" with {join_and(held)}" if held else ""
    strata = format_count_with_noun(found.strata, "stratum", "strata")
    lines = [
        f"A mark for each of {format_count_with_noun(models, 'model')}{at}; colour: {strata}.",
        f"Lines: least squares within a stratum of at least {FEWEST_IN_A_LINE} models.",
    ]
    own = next((each.tau for each in found.sets if each.name == one), None) if len(found.sets) > 1 else None
    shown = own or EstimateWithInterval(verdict.estimate, *verdict.ci)
    others = {"within_strata": found.within, "between_strata": found.between, "overall": found.overall}
    beside = [
        f"{SCOPE_WORDS[scope]} {_format_tau(tau)}"
        for scope, tau in others.items()
        if scope != found.scope and own is None and np.isfinite(tau.value)
    ]
    level = format_confidence_level(analysis.alpha)
    interval = f" ({level} interval {_format_tau_range(shown)})" if np.isfinite(shown.low) else ""
    words = SCOPE_WORDS.get(found.scope, "")
    lines.append(f"Kendall's τ {words}: {_format_tau(shown)}{interval}{''.join(f'; {text}' for text in beside)}.")
    if verdict.given:
        lines.append(f"τ is of what is left beside {join_and(list(verdict.given))}; marks and lines are as measured.")
    return "\n".join(lines)


def _format_tau(tau: EstimateWithInterval) -> str:
    return f"{tau.value:.2f}".replace("-", "−")


def _format_tau_range(tau: EstimateWithInterval) -> str:
    return f"{tau.low:.2f} to {tau.high:.2f}".replace("-", "−")


def _plot_ablations(analysis: AnalysisResults, look: Look) -> list[Figure]:
    """Plot a line for each model against the number of removed dimensions, for each metric of interest."""
    if INTERVENTION not in analysis.trials.columns:
        return []
    levels = {level: count_removed(level) for level in analysis.trials[INTERVENTION].unique().sort()}
    removals = {level: count for level, count in levels.items() if count is not None}
    if len(removals) < 2:
        return []
    asked = [name for verdict in analysis.verdicts for name in _list_columns(verdict)]
    parts = [
        select_finished_models(analysis.trials, analysis.factors, {INTERVENTION: level}).with_columns(
            removed=pl.lit(count)
        )
        for level, count in sorted(removals.items(), key=lambda each: each[1])
    ]
    models = pl.concat(parts, how="diagonal")
    strata = sorted(models["stratum"].unique())
    wanted = [name for name in dict.fromkeys([*asked, *CURVE_METRICS]) if not name.startswith(PUBLISHED)]
    return [
        _plot_ablation(models.filter(pl.col(name).is_finite()), name, strata, look)
        for name in wanted
        if name in models.columns and models[name].is_finite().any()
    ]


def count_removed(intervention: str) -> int | None:
    """Return how many dimensions an intervention removes, 0 for none; None for another kind."""
    found = REMOVAL.fullmatch(intervention)
    return int(found[1]) if found else 0 if intervention == "none" else None


def _plot_ablation(models: pl.DataFrame, metric: str, strata: Sequence[str], look: Look) -> Figure:
    rows = models.select("model", "removed", pl.col(metric).alias("value"), pl.col("stratum").alias("series"), "trial")
    meaning, unit = capitalise_first(explain_catalog_metric(metric)), get_metric_unit(metric)
    what = f"{meaning}{f' ({unit})' if unit and unit not in meaning.lower() else ''}. " if meaning else ""
    count = format_count_with_noun(rows["model"].n_unique(), "model")
    caption = (
        f"{what}A line for each of {count}, without the dimensions in which the gap is largest; colour: stratum. "
        "The axis is logarithmic beyond 1."
    )
    title = f"{capitalise_first(name_metric(metric))} without the largest dimensions"
    chart = ablation_chart(rows, capitalise_first(label_metric_axis(metric)), strata, look)
    return figure(f"ablation-{metric.replace('/', '-').replace('_', '-')}", title, caption, chart, look)
