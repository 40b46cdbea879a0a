"""How far trained encoders lie from the optimum of their loss, which the ledger's own tables show.

A table is a training with `model.preset: table`: embeddings that move freely, without encoders.

1. `compute_optimum_excesses` finds the tables in the ledger, matches each training with those that converged and have
   its captions, data, temperature, width and batch, and subtracts their metric. `sweeps/optimum.yaml` trains such
   tables.
2. `list_missing_optima` says before any training of a plan which of its excesses the ledger cannot give.
3. `_explain_missing_optimum` says why there is none: which settings no table has, or that none converged.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import yaml
from pydantic import ValidationError

from gapctl.config.arms import Arm, is_in_arm, list_cells
from gapctl.config.base import flatten_document
from gapctl.config.hypotheses import list_hypothesis_metrics
from gapctl.config.information import find_bayes_loss
from gapctl.config.metrics import OPTIMUM_EXCESSES
from gapctl.config.sweep import SweepFile
from gapctl.config.trial import NO_FACTORS, MadData, TrialConfig, is_table, reset_caption_wording
from gapctl.errors import WorkError, first_line_of_error
from gapctl.ledger import Ledger, Result
from gapctl.ledger.trial import CONFIGURATION
from gapctl.plan.command_line import build_ledger_arguments
from gapctl.plan.plan import Plan, Trial
from gapctl.text import format_count_with_noun, join_and

TABLE_MARK = b"preset: table"
"""What the configuration of a table holds, so that those of other trainings need not be parsed."""
NO_INTERVENTION = "none"
"""The level of `evaluate.intervention` that leaves embeddings as they were trained."""
OptimumSettings = Mapping[str, str]
"""What an optimum depends on: values as text by the path of their setting."""


class OptimumExcesses(NamedTuple):
    """`metrics[name][trial id]` is an excess, and `unmatched[name, label]` says why there is no optimum.

    `lacking` are messages about the tables that the ledger lacks, `damaged` about those that cannot be read.
    """

    metrics: Mapping[str, Mapping[str, float]]
    lacking: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    unmatched: Mapping[tuple[str, str], str] = MappingProxyType({})


class _TableResult(NamedTuple):
    """A finished table. Of those alike, the greatest `preference` counts: posterior targets, then the most samples."""

    trial_id: str
    settings: OptimumSettings
    preference: tuple[bool, int]
    metrics: Mapping[str, float]

    @property
    def converged(self) -> bool:
        return self.metrics.get("train/converged") == 1.0


class _OptimumTables:
    """A ledger's finished tables that may be an optimum, and messages about the damaged ones, in `damaged`."""

    def __init__(self, ledger: Ledger) -> None:
        self.root = ledger.root
        self.candidates, self.damaged = _read_tables(ledger)
        self._alike: dict[frozenset[tuple[str, str]], list[_TableResult]] = {}
        for table in self.candidates:
            self._alike.setdefault(frozenset(table.settings.items()), []).append(table)

    def list_matching(self, settings: OptimumSettings) -> Sequence[_TableResult]:
        """List the tables with these settings."""
        return self._alike.get(frozenset(settings.items()), ())


def compute_optimum_excesses(trials: Sequence[Trial], ledger: Ledger, spec: SweepFile) -> OptimumExcesses:
    """Compute the excesses of finished trials that hypotheses name; a trial has none without a matching table.

    Of tables that match, those count that converged and have a finite number of the metric, of these those with
    posterior targets where there are any, and of these the longest; their mean is the optimum.
    """
    asked = _list_asked_excesses(spec)
    if not asked:
        return OptimumExcesses({})
    tables = _OptimumTables(ledger)
    measured = ledger.results([trial.id for trial in trials])
    found: dict[str, dict[str, float]] = {name: {} for name in asked}
    unmatched: dict[tuple[str, str], str] = {}
    for trial, result in zip(trials, measured, strict=True):
        settings = _list_optimum_settings(trial.config, trial.data_fingerprint)
        for name in asked:
            metric = OPTIMUM_EXCESSES[name]
            optimum = _find_optimum(trial.config, settings, metric, tables)
            if isinstance(optimum, str):
                unmatched[name, trial.label] = optimum
            elif isinstance(result, Result) and metric in result.metrics:
                found[name][trial.id] = result.metrics[metric] - optimum
    reasons = _list_reasons(asked, unmatched, trials)
    return OptimumExcesses(found, tuple(reasons), tuple(tables.damaged), unmatched)


def list_missing_optima(plan: Plan, ledger: Ledger) -> list[str]:
    """List messages about excesses that a plan's hypotheses name, for compared trainings without a matching table.

    Tables that the plan is still to train count as if they had converged.
    """
    asked = _list_asked_excesses(plan.sweep.spec)
    if not asked:
        return []
    tables = _OptimumTables(ledger)
    finished = {table.trial_id for table in tables.candidates}
    settings = {trial.label: _list_optimum_settings(trial.config, trial.data_fingerprint) for trial in plan.trials}
    unfinished = [trial for trial in plan.trials if trial.id not in finished and _is_optimum_candidate(trial.config)]
    awaited = [settings[trial.label] for trial in unfinished]
    unmatched: dict[tuple[str, str], str] = {}
    for trial in plan.trials:
        own = settings[trial.label]
        if own not in awaited:
            for name in asked:
                optimum = _find_optimum(trial.config, own, OPTIMUM_EXCESSES[name], tables)
                if isinstance(optimum, str):
                    unmatched[name, trial.label] = optimum
    return _list_reasons(asked, unmatched, plan.trials)


def _list_asked_excesses(spec: SweepFile) -> dict[str, list[Arm]]:
    """List by the name of each excess the arms that the hypotheses which ask for it compare."""
    asked: dict[str, list[Arm]] = {}
    for hypothesis in spec.hypotheses:
        compared = [{**hypothesis.where, **cell} for cell in list_cells(hypothesis, spec)]
        for name in list_hypothesis_metrics(hypothesis):
            if name in OPTIMUM_EXCESSES:
                asked.setdefault(name, []).extend(compared)
    return asked


def _find_optimum(config: TrialConfig, settings: OptimumSettings, metric: str, tables: _OptimumTables) -> float | str:
    """Return the metric's mean over the preferred of the tables that converged and have it, or why there is none."""
    matching = tables.list_matching(settings)
    known = [table for table in matching if table.converged and math.isfinite(table.metrics.get(metric, math.nan))]
    if not known:
        return _explain_missing_optimum(config, settings, metric, tables)
    preferred = max(table.preference for table in known)
    values = [table.metrics[metric] for table in known if table.preference == preferred]
    return sum(values) / len(values)


def _list_reasons(
    asked: Mapping[str, Sequence[Arm]], unmatched: Mapping[tuple[str, str], str], trials: Sequence[Trial]
) -> list[str]:
    """List a message for each reason, with the compared trainings that it concerns and the first of them."""
    labels: dict[tuple[str, str], list[str]] = {}
    counts: dict[str, int] = {}
    for name, arms in asked.items():
        compared = [trial.label for trial in trials if any(is_in_arm(trial.factors, arm) for arm in arms)]
        counts[name] = len(compared)
        for label in compared:
            if (name, label) in unmatched:
                labels.setdefault((name, unmatched[name, label]), []).append(label)
    names: dict[tuple[str, int, tuple[str, ...]], list[str]] = {}
    for (name, reason), some in labels.items():
        names.setdefault((reason, counts[name], tuple(some)), []).append(name)
    return [
        f"{', '.join(each)}: for {len(some)} of {format_count_with_noun(count, 'training')} ({some[0]}), {reason}"
        for (reason, count, some), each in names.items()
    ]


def _explain_why_no_table_matches(config: TrialConfig) -> str:
    """Explain why no table that is an optimum can be like this training; "" where one can."""
    if (moved := _get_intervention(config)) != NO_INTERVENTION:
        return f"evaluate.intervention {moved} moves its embeddings, and an optimum is of tables that nothing moved"
    if config.temperature.mode == "frozen":
        return "temperature.mode frozen keeps the temperature of earlier weights, and no table begins with any"
    if config.loss.has_terms or find_bayes_loss(config) is None:
        return "the least that its loss can be is not known, so no table is known to have converged to it"
    return ""


def _explain_missing_optimum(
    config: TrialConfig, settings: OptimumSettings, metric: str, tables: _OptimumTables
) -> str:
    """Say that no table with these settings gives the metric's optimum, and which of them no table has, or can have."""
    if impossible := _explain_why_no_table_matches(config):
        return impossible
    if matching := tables.list_matching(settings):
        converged = [table for table in matching if table.converged]
        these = f"{format_count_with_noun(len(converged or matching), 'table')} of these captions in {tables.root}"
        others = "a copy of the sweep optimum (`gapctl new`) trains others"
        if converged:
            return f"{these} converged, but recorded no finite {metric}; {others}, with other seeds"
        return f"{these} did not converge (train/converged is 1 where one did); {others}, on more samples"
    command = shlex.join(["gapctl", "sweep", "optimum", *build_ledger_arguments(tables.root)])
    train = f"`{command}` trains such tables, and a copy of that sweep (`gapctl new`) those of other settings"
    lacking = [
        name for name, value in settings.items() if all(each.settings.get(name) != value for each in tables.candidates)
    ]
    beside = ""
    if tables.candidates and not lacking:
        differing = (
            [name for name, value in settings.items() if each.settings.get(name) != value] for each in tables.candidates
        )
        lacking, beside = min(differing, key=len), " and all else alike"
    none = (
        f": none with {join_and([f'{name} {settings[name]}' for name in lacking])}{beside}" if tables.candidates else ""
    )
    same = "of the same captions, temperature, width and batch"
    return f"{tables.root} has no table (model.preset table, init.gap 0) {same}{none}; {train}"


def _is_optimum_candidate(config: TrialConfig) -> bool:
    """Return whether a table ends at the optimum once it converges: begun without a gap, on matched pairs, unmoved."""
    starts_plain = not (config.init.gap or config.init_from or config.train.mismatched)
    return is_table(config) and starts_plain and not _explain_why_no_table_matches(config)


def _get_intervention(config: TrialConfig) -> str:
    return config.evaluate.intervention if config.evaluate.strength else NO_INTERVENTION


def _read_tables(ledger: Ledger) -> tuple[list[_TableResult], list[str]]:
    """Read the finished tables that may be an optimum; return them and messages about those that are damaged."""
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
    found: list[_TableResult] = []
    for (trial_id, (config, fingerprint)), result in zip(
        configurations.items(), ledger.results(list(configurations)), strict=True
    ):
        if isinstance(result, WorkError):
            damaged.append(str(result))
        elif result is not None and _is_optimum_candidate(config):
            settings = _list_optimum_settings(config, fingerprint)
            preference = config.loss.targets == "posterior", result.samples_seen
            found.append(_TableResult(trial_id, settings, preference, result.metrics))
    return found, damaged


def _list_optimum_settings(config: TrialConfig, data_fingerprint: str) -> OptimumSettings:
    """List what decides about an optimum: no wording of captions, and no start of a learned temperature."""
    data, temperature = config.data, config.temperature
    if not isinstance(data, MadData):
        return {}
    starts = () if temperature.mode == "learned" else ("init", "final")
    described = {
        "data": reset_caption_wording(data).model_dump(mode="json", exclude={"source"}),
        "loss": config.loss.model_dump(mode="json", exclude={"targets"}),
        "model": {"embed_dim": config.model.embed_dim},
        "train": {"batch_size": config.train.batch_size},
        "evaluate": {"intervention": _get_intervention(config)},
        "temperature": temperature.model_dump(mode="json", include={"mode", *starts}),
    }
    values = {name: _format_setting(value) for name, value in flatten_document(described).items()}
    return {**values, "data.source of fingerprint": data_fingerprint}


def _format_setting(value: object) -> str:
    return (", ".join(map(str, value)) or NO_FACTORS) if isinstance(value, list) else str(value)
