"""How far trained encoders lie from the optimum of their loss, which the ledger's own tables show (preset table).

`compute_optimum_excesses` finds the tables in the ledger, matches each training with those of the same captions, data,
temperature, width and batch, and subtracts their metric. `sweeps/optimum.yaml` trains such tables.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import yaml
from pydantic import ValidationError

from gapctl.config.base import format_canonical_json, select_hashed_fields
from gapctl.config.metrics import OPTIMUM_EXCESSES
from gapctl.config.trial import MadData, TrialConfig, is_table
from gapctl.errors import WorkError, first_line_of_error
from gapctl.ledger import Ledger, Result
from gapctl.ledger.trial import CONFIGURATION
from gapctl.plan.plan import Trial

TABLE_MARK = b"preset: table"
"""What the configuration of a table holds, so that those of other trainings need not be parsed."""


class OptimumExcesses(NamedTuple):
    """Metrics by name and by the ids of trials, and messages about what could not be looked up."""

    metrics: Mapping[str, Mapping[str, float]]
    missing: tuple[str, ...]


class _TableResult(NamedTuple):
    samples: int
    metrics: Mapping[str, float]


def compute_optimum_excesses(trials: Sequence[Trial], ledger: Ledger, asked: Sequence[str]) -> OptimumExcesses:
    """Compute the requested excesses of finished trials; a trial has none where the ledger has no such table.

    Of tables that match, those count that were trained longest from no gap; their mean is the optimum.
    """
    named = {name: OPTIMUM_EXCESSES[name] for name in asked if name in OPTIMUM_EXCESSES}
    if not named:
        return OptimumExcesses({}, ())
    tables, missing = _read_tables(ledger)
    measured = ledger.results([trial.id for trial in trials])
    found: dict[str, dict[str, float]] = {name: {} for name in named}
    unmatched = []
    for trial, result in zip(trials, measured, strict=True):
        matching = tables.get(_get_optimum_key(trial.config, trial.data_fingerprint), [])
        if not matching:
            unmatched.append(trial.label)
        longest = [table.metrics for table in matching if table.samples == max(each.samples for each in matching)]
        for name, metric in named.items():
            optima = [metrics[metric] for metrics in longest if metric in metrics]
            if optima and isinstance(result, Result) and metric in result.metrics:
                found[name][trial.id] = result.metrics[metric] - sum(optima) / len(optima)
    if unmatched:
        missing.append(
            f"{', '.join(named)}: for {len(unmatched)} of {len(trials)} trainings ({unmatched[0]}), {ledger.root} has "
            "no table (model.preset table, init.gap 0) of the same captions, temperature, width and batch; "
            "sweeps/optimum.yaml trains such tables"
        )
    return OptimumExcesses(found, tuple(missing))


def _read_tables(ledger: Ledger) -> tuple[dict[Hashable, list[_TableResult]], list[str]]:
    """Read the finished tables that began without a gap, by what an optimum depends on."""
    known = ledger.list_trial_ids()
    damaged: list[str] = []
    configurations: dict[str, tuple[TrialConfig, str]] = {}
    for trial_id, content in zip(known, ledger.contents(known, CONFIGURATION), strict=True):
        if isinstance(content, bytes) and TABLE_MARK in content:
            try:
                document = yaml.safe_load(content)
                config = TrialConfig.model_validate(document["config"])
                configurations[trial_id] = config, str(document["data_fingerprint"])
            except (yaml.YAMLError, ValidationError, TypeError, KeyError) as error:
                damaged.append(str(ledger.trial(trial_id).damaged(CONFIGURATION, first_line_of_error(error))))
    found: dict[Hashable, list[_TableResult]] = {}
    for (config, fingerprint), result in zip(
        configurations.values(), ledger.results(list(configurations)), strict=True
    ):
        if isinstance(result, WorkError):
            damaged.append(str(result))
        elif result is not None and is_table(config) and not config.init.gap:
            table = _TableResult(result.samples_seen, result.metrics)
            found.setdefault(_get_optimum_key(config, fingerprint), []).append(table)
    return found, damaged


def _get_optimum_key(config: TrialConfig, data_fingerprint: str) -> Hashable:
    """Return what decides about an optimum: not the order of captions, nor where a learned temperature begins."""
    data, temperature = config.data, config.temperature
    if not isinstance(data, MadData):
        return None
    described = select_hashed_fields(data)
    described["captions"].pop("order", None)
    described.pop("source", None)
    loss = select_hashed_fields(config.loss)
    loss.pop("targets", None)
    fixed = () if temperature.mode == "learned" else (temperature.init, temperature.final)
    return (
        format_canonical_json({"data": described, "loss": loss}),
        data_fingerprint,
        config.model.embed_dim,
        config.train.batch_size,
        temperature.mode,
        fixed,
    )
