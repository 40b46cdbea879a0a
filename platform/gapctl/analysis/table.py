"""A plan's finished trials as polars frames: a row per trial, a row per evaluation."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from gapctl.analysis.between_trainings import Values, between_trainings
from gapctl.analysis.histories import read_histories
from gapctl.analysis.learning import ArmCheck, learning_checks
from gapctl.analysis.levels import identity
from gapctl.analysis.provenance import Finished, provenance
from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result
from gapctl.plan.trials import Plan
from gapctl.spec.hypotheses import named_by
from gapctl.spec.sweep import Level
from gapctl.spec.vocabulary import is_of_several

NO_METRIC = ("trial", "label", "seed", "samples_seen", "seconds")


class Tables(NamedTuple):
    """`trials`, `history`, `provenance` and `learning` as `results.Analysis` describes them; why what is damaged was
    left out."""

    trials: pl.DataFrame
    history: pl.DataFrame
    damaged: tuple[str, ...]
    provenance: pl.DataFrame = pl.DataFrame()
    learning: tuple[ArmCheck, ...] = ()


def read_tables(plan: Plan, ledger: Ledger, *, with_history: bool = True) -> Tables:
    """Reads every finished trial of the plan; histories, which are most of a ledger, only where they are asked for.

    A trial with a damaged result is left out of all frames, one with a damaged history only of `history`: its
    result is whole. What no trial knows alone is computed where a hypothesis asks for it.
    """
    finished: list[Finished] = []
    damaged: list[str] = []
    for trial, result in zip(plan.trials, ledger.results([trial.id for trial in plan.trials]), strict=True):
        if isinstance(result, WorkError):
            damaged.append(str(result))
        elif result is not None:
            finished.append(Finished(trial, result))
    vary = plan.sweep.spec.vary
    named = dict.fromkeys(name for item in plan.sweep.spec.hypotheses for name in named_by(item))
    between = between_trainings(plan, [trial.id for trial, _ in finished], ledger, list(filter(is_of_several, named)))
    histories = read_histories([trial for trial, _ in finished] if with_history else [], ledger, vary)
    damaged += [*histories.damaged, *between.damaged]
    trials = _trials(finished, vary, between.metrics)
    return Tables(
        trials,
        histories.frame,
        tuple(damaged),
        provenance(finished, plan.recipe_version),
        learning_checks(plan, _metrics(finished) | _metrics(_preparations(plan, ledger))),
    )


def _preparations(plan: Plan, ledger: Ledger) -> list[Finished]:
    """The trainings that others begin with; a damaged one counts as not there, since no verdict is of it."""
    results = ledger.results([trial.id for trial in plan.preparations])
    each = zip(plan.preparations, results, strict=True)
    return [Finished(trial, result) for trial, result in each if isinstance(result, Result)]


def _metrics(finished: Sequence[Finished]) -> dict[str, Mapping[str, float]]:
    return {trial.id: result.metrics for trial, result in finished}


def metrics_of(trials: pl.DataFrame, factors: Sequence[str]) -> list[str]:
    """The metric columns of a frame."""
    return [name for name in trials.columns if name not in (*NO_METRIC, *factors)]


def _trials(
    finished: Sequence[Finished], vary: Mapping[str, Sequence[Level]], between: Mapping[str, Values]
) -> pl.DataFrame:
    ids = [trial.id for trial, _ in finished]
    metrics = sorted({name for _, result in finished for name in result.metrics})
    columns = [
        *identity([trial for trial, _ in finished], vary),
        *(pl.Series(name, [result.metrics.get(name) for _, result in finished], pl.Float64) for name in metrics),
        *(pl.Series(name, [values.get(each) for each in ids], pl.Float64) for name, values in between.items()),
        pl.Series("samples_seen", [result.samples_seen for _, result in finished], pl.Int64),
        pl.Series("seconds", [result.seconds for _, result in finished], pl.Float64),
    ]
    return pl.DataFrame(columns)
