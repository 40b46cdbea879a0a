"""What was run, beside what was found: what a page tells so that a reader can trust a number, and get it again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import polars as pl

from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result
from gapctl.ledger.trial_folder import CONFIGURATION, FAILURE
from gapctl.plan.trials import Plan, Trial
from gapctl.report.commands import Commands, commands_of
from gapctl.spec.paths import leaf_values
from gapctl.spec.sweep import Level, SweepFile


class Waiting(NamedTuple):
    """A planned training without a usable result, and why as far as that is known."""

    trial: str
    label: str
    why: str


class RunPages(NamedTuple):
    """Where MLflow shows the trainings: its address, and each trial's page below that.

    `started_by` is the command that must be running for the address to answer, None where a server always does.
    """

    address: str
    started_by: str | None
    pages: Mapping[str, str]


@dataclass(frozen=True)
class RunRecord:
    """Any part may be missing: an analysis alone gives a page, too.

    `machines` and `versions` count trainings by what made them. `dimensions` has a row per trial and dimension
    (`trial`, `dimension`, `image_mean`, `text_mean`). `settings` is one trial before treatments, by dotted path;
    `treatments` say what the levels of each named one change in it.
    """

    waiting: tuple[Waiting, ...] = ()
    machines: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    recipe: int | None = None
    data: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    treatments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dimensions: pl.DataFrame = field(default_factory=pl.DataFrame)
    commands: Commands | None = None
    run_pages: RunPages | None = None


def read_record(
    plan: Plan, ledger: Ledger, run_pages: RunPages | None = None, *, with_dimensions: bool = True
) -> RunRecord:
    """Reads what the ledger knows of the plan's trials; damaged ones are listed as waiting.

    `dimensions` are read for a page that draws them, and empty otherwise.
    """
    results, waiting = _results(plan, ledger)
    return RunRecord(
        waiting=tuple(waiting),
        machines=Counter(map(_machine, results)),
        versions=_versions(results),
        recipe=plan.recipe_version,
        data=tuple(dict.fromkeys(trial.data_fingerprint for trial in plan.trials)),
        settings=_settings(plan.sweep.spec),
        treatments={
            name: {level: _changes(changes) for level, changes in levels.items()}
            for name, levels in plan.sweep.spec.treatments.items()
        },
        dimensions=_dimensions(ledger, results) if with_dimensions else pl.DataFrame(),
        commands=commands_of(plan, ledger),
        run_pages=run_pages,
    )


def _settings(spec: SweepFile) -> dict[str, str]:
    plain = {path: str(value) for path, value in leaf_values(spec.base.model_dump(mode="json")).items()}
    treated = {
        path: f"set by {name}"
        for name, levels in spec.treatments.items()
        for changes in levels.values()
        for path in changes
    }
    return plain | treated


def _changes(changes: Mapping[str, Level]) -> str:
    return ", ".join(f"{path} {level}" for path, level in changes.items()) or "nothing"


def _results(plan: Plan, ledger: Ledger) -> tuple[list[Result], list[Waiting]]:
    found = list(zip(plan.trials, ledger.results([trial.id for trial in plan.trials]), strict=True))
    unfinished = [trial.id for trial, result in found if result is None]
    begun, failed = ledger.having(unfinished, CONFIGURATION), ledger.having(unfinished, FAILURE)

    def why(trial: Trial, result: WorkError | None) -> str:
        if result is not None:
            return "its result is damaged"
        if trial.id not in begun:
            return "not begun"
        return "failed" if trial.id in failed else "not finished"

    waiting = [
        Waiting(trial.id, trial.label, why(trial, result)) for trial, result in found if not isinstance(result, Result)
    ]
    return [result for _, result in found if isinstance(result, Result)], waiting


def _machine(result: Result) -> str:
    """A training's hardware in a line, for however little a result knows of it."""
    known = result.hardware
    named = [str(known[key]) for key in ("device", "name") if key in known]
    counted = [_counted(known[f"{name}s"], name) for name in ("core", "thread") if f"{name}s" in known]
    exact = [str(known["precision"])] if "precision" in known else []
    return ", ".join([*named, *counted, *exact]) or "not recorded"


def _counted(count: str | int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _versions(results: Sequence[Result]) -> dict[str, Counter[str]]:
    names = dict.fromkeys(name for result in results for name in result.versions)
    return {name: Counter(result.versions.get(name, "not recorded") for result in results) for name in names}


def _dimensions(ledger: Ledger, results: Sequence[Result]) -> pl.DataFrame:
    """The mean embeddings of the trials that kept them; the figure names trainings whose file is damaged or gone."""
    trials = [result.trial for result in results]
    found = [
        means.select(pl.lit(trial).alias("trial"), pl.col("dimension").cast(pl.Int64), "image_mean", "text_mean")
        for trial, means in zip(trials, ledger.dimensions(trials), strict=True)
        if isinstance(means, pl.DataFrame)
    ]
    return pl.concat(found) if found else pl.DataFrame()
