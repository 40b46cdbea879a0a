"""Read a plan's finished trials into polars frames: a row for each trial, a row for each evaluation.

`read_trial_tables` is the entry. Histories are most of a ledger, so `read_histories` reads them in portions and only on
request; a damaged file costs its own rows and nothing else.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import polars as pl
import polars.selectors as cs

from gapctl.analysis.between_trainings import TrialValues, compute_cross_trial_metrics
from gapctl.analysis.cohort import LINEAGE, STRATUM
from gapctl.analysis.learning import ArmCheck, run_learning_checks
from gapctl.analysis.optimum import compute_optimum_excesses
from gapctl.analysis.paired_responses import build_trial_factor_columns
from gapctl.config.cohort import Cohort, get_model_lineage, get_model_stratum, is_same_level
from gapctl.config.hypotheses import Level, list_hypothesis_metrics
from gapctl.config.information import MadBits, find_caption_bits
from gapctl.config.metrics import SAMPLES_TO_SMALL_GAP, SMALL_GAP, is_cross_trial_metric
from gapctl.config.sweep import SweepFile
from gapctl.errors import WorkError, first_line_of_error
from gapctl.ledger import Ledger, Result
from gapctl.ledger.trial import HISTORY
from gapctl.plan.plan import Plan, Trial, compute_by_arm

HISTORIES_AT_ONCE = 200
"""Histories whose files are in memory at a time; larger portions are not faster."""
_METRIC_COLUMNS = pl.exclude("trial", "samples_seen", "seconds").cast(pl.Float64)


class FinishedTrial(NamedTuple):
    """A trial and its result."""

    trial: Trial
    result: Result


class TrialTables(NamedTuple):
    """`trials`, `history`, `provenance` and `learning` as in `AnalysisResults`, and messages about damaged files.

    `no_optimum` says by metric and label why trainings have no excess over the loss' optimum; `lacking` are messages
    about the tables that the ledger lacks for it, and what trains them.
    """

    trials: pl.DataFrame
    history: pl.DataFrame
    damaged: tuple[str, ...]
    provenance: pl.DataFrame = pl.DataFrame()
    learning: tuple[ArmCheck, ...] = ()
    no_optimum: Mapping[tuple[str, str], str] = MappingProxyType({})
    lacking: tuple[str, ...] = ()


class TrialHistories(NamedTuple):
    """`frame` as `AnalysisResults` describes it, and messages about damaged files."""

    frame: pl.DataFrame
    damaged: tuple[str, ...]


def read_trial_tables(plan: Plan, ledger: Ledger, *, with_history: bool = True) -> TrialTables:
    """Read every finished trial of the plan; read histories only with `with_history`.

    A trial with a damaged result is left out of all frames, one with a damaged history only of `history`. Metrics of
    several trainings together are computed where a hypothesis names them, and samples until a small gap also with
    histories.
    """
    finished: list[FinishedTrial] = []
    damaged: list[str] = []
    for trial, result in zip(plan.trials, ledger.results([trial.id for trial in plan.trials]), strict=True):
        if isinstance(result, WorkError):
            damaged.append(str(result))
        elif result is not None:
            finished.append(FinishedTrial(trial, result))
    vary = plan.sweep.spec.vary
    named = dict.fromkeys(name for item in plan.sweep.spec.hypotheses for name in list_hypothesis_metrics(item))
    trials = [trial for trial, _ in finished]
    asked = list(filter(is_cross_trial_metric, named))
    between = compute_cross_trial_metrics(plan, [trial.id for trial in trials], ledger, asked)
    optima = compute_optimum_excesses(trials, ledger, plan.sweep.spec)
    histories = read_histories(trials if with_history else [], ledger, vary)
    added = {**between.metrics, **optima.metrics, **compute_bits(trials)}
    if with_history or SAMPLES_TO_SMALL_GAP in named:
        frame = histories.frame if with_history else read_histories(trials, ledger, vary).frame
        added |= {SAMPLES_TO_SMALL_GAP: found} if (found := find_samples_to_small_gap(frame)) else {}
    damaged += [*histories.damaged, *between.damaged, *optima.damaged]
    # Damaged results of preparations are skipped, since no verdict is about them.
    results = ledger.results([trial.id for trial in plan.preparations])
    prepared = [
        FinishedTrial(trial, result)
        for trial, result in zip(plan.preparations, results, strict=True)
        if isinstance(result, Result)
    ]
    return TrialTables(
        _build_trials_table(finished, plan.sweep.spec, added),
        histories.frame,
        tuple(damaged),
        build_provenance(finished, plan.recipe_version),
        run_learning_checks(plan, {trial.id: result.metrics for trial, result in (*finished, *prepared)}),
        optima.unmatched,
        optima.lacking,
    )


def list_metric_columns(trials: pl.DataFrame) -> list[str]:
    """List the metric columns of a frame, which alone have a slash in their name."""
    return [name for name in trials.columns if "/" in name]


def _build_trials_table(
    finished: Sequence[FinishedTrial], spec: SweepFile, added: Mapping[str, TrialValues]
) -> pl.DataFrame:
    ids = [trial.id for trial, _ in finished]
    drawn = spec.replicates.space if spec.replicates else {}
    columns = [
        *build_trial_factor_columns([trial for trial, _ in finished], spec.vary),
        *(build_cohort_columns([trial for trial, _ in finished], spec.cohort) if spec.cohort else ()),
        *(_build_fact_column(path, [trial.recipe[path] for trial, _ in finished]) for path in drawn),
        *_build_metric_columns([result.metrics for _, result in finished]),
        *(pl.Series(name, [values.get(each) for each in ids], pl.Float64) for name, values in added.items()),
        pl.Series("samples_seen", [result.samples_seen for _, result in finished], pl.Int64),
        pl.Series("seconds", [result.seconds for _, result in finished], pl.Float64),
    ]
    return pl.DataFrame(columns)


def _build_metric_columns(metrics: Sequence[Mapping[str, float]]) -> list[pl.Series]:
    """Return a column for each metric, in the order of their names; null where a trial lacks it.

    Trials of one sweep mostly have the same metrics in the same order, so that their values are one matrix.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, values in enumerate(metrics):
        groups.setdefault(tuple(values), []).append(place)
    names = sorted({name for group in groups for name in group})
    if len(groups) != 1:
        return [pl.Series(name, [values.get(name) for values in metrics], pl.Float64) for name in names]
    order = {name: column for column, name in enumerate(next(iter(groups)))}
    numbers = chain.from_iterable(values.values() for values in metrics)
    table = np.fromiter(numbers, np.float64, len(metrics) * len(order)).reshape(len(metrics), len(order))
    return [pl.Series(name, np.ascontiguousarray(table[:, order[name]])) for name in names]


def compute_bits(trials: Sequence[Trial]) -> dict[str, TrialValues]:
    """Return the information of the trials' captions by metric and id; nothing where it is known of none."""
    found = compute_by_arm(trials, lambda trial: find_caption_bits(trial.config))
    known = {trial.id: bits for trial, bits in zip(trials, found, strict=True) if bits is not None}
    names = MadBits._fields if known else ()
    return {f"information/{name}": {each: getattr(bits, name) for each, bits in known.items()} for name in names}


def find_samples_to_small_gap(history: pl.DataFrame) -> TrialValues:
    """Return the samples that each trial had seen when its means were first found near each other, by id.

    Where they never were, it is all that it has seen: as many at least. A trial whose evaluations lack `gap/l2m` has
    none.
    """
    if "gap/l2m" not in history.columns:
        return {}
    seen = pl.col("samples_seen")
    found = history.filter(pl.col("gap/l2m").is_not_null()).group_by("trial", maintain_order=True)
    first = found.agg(seen.filter(pl.col("gap/l2m") < SMALL_GAP).min().fill_null(seen.max()).cast(pl.Float64))
    return dict(first.iter_rows())


def build_cohort_columns(trials: Sequence[Trial], cohort: Cohort) -> list[pl.Series]:
    """Return `model`, `stratum`, `lineage`, a column for each covariate, and numbers that others published.

    There is a row for each trial; what is not known of a model is null. Without strata, all models are of one.
    """
    models = [trial.model for trial in trials if trial.model is not None]
    published = dict.fromkeys(name for model in cohort.members for name in model.published)
    return [
        pl.Series("model", [model.name for model in models], pl.String),
        pl.Series(STRATUM, [get_model_stratum(cohort, model) for model in models], pl.String),
        pl.Series(LINEAGE, [get_model_lineage(cohort, model) for model in models], pl.String),
        *(_build_fact_column(name, [model.get_fact(name) for model in models]) for name in cohort.covariate_names),
        *(pl.Series(name, [model.published.get(name) for model in models], pl.Float64) for name in published),
    ]


def select_finished_models(
    trials: pl.DataFrame, factors: Sequence[str], where: Mapping[str, Level], arms: int | None = None
) -> pl.DataFrame:
    """Return a row for each model whose trials at some levels, or of some facts, are done: `arms` of them.

    Metrics are means over its trials, `trial` is the first. Without `arms`, as many count as the most complete model
    has.
    """
    for name, level in where.items():
        trials = trials.filter([is_same_level(value, level) for value in trials[name]])
    metrics = list_metric_columns(trials)
    facts = [name for name in trials.columns if name not in (*metrics, *factors, "label", "model")]
    models = trials.group_by("model", maintain_order=True).agg(
        pl.col(facts).first(), pl.col(metrics).cast(pl.Float64).mean(), pl.len().alias("arms")
    )
    return models.filter(pl.col("arms") == (pl.col("arms").max() if arms is None else arms)).drop("arms")


def _build_fact_column(name: str, values: Sequence[Level | None]) -> pl.Series:
    """Return a column of numbers where all known values are numbers, else of text."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return pl.Series(name, values, pl.Float64)
    return pl.Series(name, [None if value is None else str(value) for value in values], pl.String)


def build_provenance(finished: Sequence[FinishedTrial], recipe_version: int) -> pl.DataFrame:
    """Return a row for each trial with what its result was computed from and on.

    The columns are `trial`, `data_source`, `data_fingerprint`, `recipe_version`, `hardware.*` and `versions.*`. What a
    result does not record is null. A column has whole numbers where all of its values are, else text.
    """
    columns = [
        pl.Series("trial", [trial.id for trial, _ in finished], pl.String),
        pl.Series("data_source", [trial.config.data.source for trial, _ in finished], pl.String),
        pl.Series("data_fingerprint", [trial.data_fingerprint for trial, _ in finished], pl.String),
        pl.Series("recipe_version", [recipe_version] * len(finished), pl.Int64),
        *_build_columns("hardware", [result.hardware for _, result in finished]),
        *_build_columns("versions", [result.versions for _, result in finished]),
    ]
    return pl.DataFrame(columns)


def _build_columns(group: str, facts: Sequence[dict[str, str | int]] | Sequence[dict[str, str]]) -> list[pl.Series]:
    columns = []
    for name in dict.fromkeys(name for of_trial in facts for name in of_trial):
        values = [of_trial.get(name) for of_trial in facts]
        if all(value is None or isinstance(value, int) for value in values):
            columns.append(pl.Series(f"{group}.{name}", values, pl.Int64))
        else:
            texts = [None if value is None else str(value) for value in values]
            columns.append(pl.Series(f"{group}.{name}", texts, pl.String))
    return columns


def read_histories(
    trials: Sequence[Trial],
    ledger: Ledger,
    vary: Mapping[str, Sequence[Level]],
    metrics: Sequence[str] | None = None,
) -> TrialHistories:
    """Read the evaluations of these trials, in their order; a trial without a history has no rows.

    With `metrics`, read no others but `gap/l2m`: each column that is not read saves memory and time.
    """
    columns = _METRIC_COLUMNS
    if metrics is not None:
        columns = cs.by_name("gap/l2m", *metrics, require_all=False).cast(pl.Float64)
    parts: list[pl.DataFrame] = []
    damaged: list[str] = []
    left = iter(trials)
    while some := list(islice(left, HISTORIES_AT_ONCE)):
        rows, wrong = _read_all_histories(some, ledger, columns)
        if rows:
            # Thousands of small frames take twice the memory of their values.
            parts.append(pl.concat(rows, how="diagonal", rechunk=True))
        damaged += wrong
    return TrialHistories(_label_histories(parts, trials, vary), tuple(damaged))


def _read_all_histories(
    trials: Sequence[Trial], ledger: Ledger, columns: pl.Expr
) -> tuple[list[pl.DataFrame], list[str]]:
    """Read the trials' evaluations at once; where a file is damaged, one by one, to find it."""
    files = zip(trials, ledger.contents([trial.id for trial in trials], HISTORY), strict=True)
    contents = {trial.id: content for trial, content in files if content}
    unread = [str(content) for content in contents.values() if isinstance(content, WorkError)]
    read = {trial_id: content for trial_id, content in contents.items() if isinstance(content, bytes)}
    try:
        return pl.collect_all([_scan_history(trial_id, content, columns) for trial_id, content in read.items()]), unread
    except (pl.exceptions.PolarsError, OSError):
        found = [_read_history_or_message(ledger, trial_id, content, columns) for trial_id, content in read.items()]
        whole = [part for part in found if isinstance(part, pl.DataFrame)]
        return whole, [*unread, *(part for part in found if isinstance(part, str))]


def _scan_history(trial_id: str, content: bytes, columns: pl.Expr) -> pl.LazyFrame:
    return pl.scan_parquet(content).select(
        pl.lit(trial_id).alias("trial"), pl.col("samples_seen").cast(pl.Int64), columns
    )


def _read_history_or_message(ledger: Ledger, trial_id: str, content: bytes, columns: pl.Expr) -> pl.DataFrame | str:
    """Return one trial's evaluations, or the message about its damaged file."""
    try:
        return _scan_history(trial_id, content, columns).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        problem: WorkError = ledger.trial(trial_id).damaged("history.parquet", first_line_of_error(error))
        return str(problem)


def _label_histories(
    parts: Sequence[pl.DataFrame], trials: Sequence[Trial], vary: Mapping[str, Sequence[Level]]
) -> pl.DataFrame:
    ids, *labels = build_trial_factor_columns(trials, vary)
    if not parts:
        return pl.DataFrame([*(column.clear() for column in (ids, *labels)), pl.Series("samples_seen", [], pl.Int64)])
    # Added columns leave the others where they are; a join would copy them, and they are most of a ledger.
    rows = pl.concat(parts, how="diagonal", rechunk=False)
    rows = rows.with_columns(map_ids_to_values(pl.col("trial"), ids, column) for column in labels)
    names = ["trial", *(column.name for column in labels)]
    return rows.select(*names, pl.exclude(names))


def map_ids_to_values(key: pl.Expr, ids: pl.Series, values: pl.Series) -> pl.Expr:
    """Map each id to its value, as a column of the values' name and type."""
    return key.replace_strict(ids, values, return_dtype=values.dtype).alias(values.name)
