"""Compare sweeps: their verdicts side by side, the trials they share, and how their trainings differ.

`compare_sweeps` builds the comparison from sweeps that were each analysed by themselves. `build_trials_table` and
`build_history_table` export their trials in one frame.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple

import polars as pl

from gapctl.analysis.hypothesis_effects import apply_holm
from gapctl.analysis.learning import label_arm
from gapctl.analysis.paired_responses import infer_level_type
from gapctl.analysis.results import AnalysisResults, Verdict
from gapctl.analysis.tables import list_metric_columns, map_ids_to_values
from gapctl.config.base import flatten_document
from gapctl.config.hypotheses import Hypothesis, Level
from gapctl.config.validation_errors import collect_parts, collect_varied_values
from gapctl.plan.command_line import format_result_file_prefix
from gapctl.plan.plan import Plan, Trial

NOT_RECORDED: Final = "not recorded"


_IGNORED_PROVENANCE: Final = ("trial", "hardware.memory_mb", "hardware.gpu_memory_mb", "hardware.cores")
"""What a machine had or used, which no result depends on."""
_FIELDS_SHOWN_SEPARATELY: Final = {"response", "factor", "test", "where"}
_FIELDS_NOT_OF_THE_EFFECT: Final = {"id", "claim", "source", "direction", "smallest_effect"}


@dataclass(frozen=True)
class SweepAnalysis:
    """One scale of a sweep with its analysis; its verdicts go by Holm over its own file, whatever it is compared with.

    `damaged` are messages about trials that were left out, `lacking` about what else the ledger lacks for the
    hypotheses, and what to run.
    """

    plan: Plan
    analysis: AnalysisResults
    damaged: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name that tells it from other sweeps of a ledger."""
        return f"{self.analysis.sweep} ({self.plan.sweep.scale_name_or_base})"

    @property
    def file_name(self) -> str:
        """The beginning of the names of its files."""
        return format_result_file_prefix(self.plan.sweep)

    @property
    def missing(self) -> tuple[Trial, ...]:
        """The planned trials without a sound result."""
        done = set(self.analysis.trials["trial"])
        return tuple(trial for trial in self.plan.trials if trial.id not in done)


class SharedTrials(NamedTuple):
    """Finished trials that two sweeps have in common, and the number that each sweep has."""

    sweeps: tuple[str, str]
    trials: tuple[str, ...]
    of: tuple[int, int]


class SettingDifference(NamedTuple):
    """A setting or circumstance that not all trainings share, with its values in each sweep."""

    what: str
    values: Mapping[str, tuple[str, ...]]


class SweepVerdict(NamedTuple):
    """One sweep's verdict; `effect` names the quantity that its estimate measures.

    For example `trend`, or `contrast, between 0 and 5, where temperature.mode is learned`. `p_of_all` is p of the whole
    claim after Holm over the confirmatory verdicts of all sweeps that are compared; NaN for an exploratory one.
    """

    sweep: str
    effect: str
    alpha: float
    verdict: Verdict
    p_of_all: float = math.nan


@dataclass(frozen=True)
class ResponseComparison:
    """Verdicts on one response and factor; estimates of the same `effect` measure the same quantity."""

    response: str
    factor: str
    findings: tuple[SweepVerdict, ...]

    @property
    def sweeps(self) -> tuple[str, ...]:
        """The sweeps that have such a verdict."""
        return tuple(dict.fromkeys(finding.sweep for finding in self.findings))


@dataclass(frozen=True)
class SweepComparison:
    """Everything that a comparison shows; `not_judged` explains for each sweep left out why it is."""

    sweeps: tuple[SweepAnalysis, ...]
    comparisons: tuple[ResponseComparison, ...]
    shared: tuple[SharedTrials, ...]
    differences: tuple[SettingDifference, ...]
    not_judged: tuple[str, ...]


def compare_sweeps(sweeps: Sequence[SweepAnalysis], not_judged: Sequence[str] = ()) -> SweepComparison:
    """Compare sweeps that were each analysed by themselves."""
    return SweepComparison(
        tuple(sweeps), compare_verdicts(sweeps), find_shared_trials(sweeps), find_differences(sweeps), tuple(not_judged)
    )


def compare_verdicts(sweeps: Sequence[SweepAnalysis]) -> tuple[ResponseComparison, ...]:
    """Return a comparison for each response and factor that any sweep has a hypothesis on, in the files' order.

    One that only one sweep has a hypothesis on contains that sweep alone.
    """
    found: dict[tuple[str, str], list[SweepVerdict]] = {}
    p_of_all = correct_over_sweeps([(judged.name, one) for judged in sweeps for one in judged.analysis.verdicts])
    for judged in sweeps:
        for hypothesis, verdict in zip(judged.plan.sweep.spec.hypotheses, judged.analysis.verdicts, strict=True):
            p = p_of_all.get((judged.name, verdict.id), math.nan)
            finding = SweepVerdict(judged.name, _describe_effect(hypothesis), judged.analysis.alpha, verdict, p)
            found.setdefault((verdict.response, verdict.factor), []).append(finding)
    return tuple(ResponseComparison(*key, _group_by_effect(findings)) for key, findings in found.items())


def correct_over_sweeps(verdicts: Sequence[tuple[str, Verdict]]) -> dict[tuple[str, str], float]:
    """Return p of each whole claim after Holm over all confirmatory ones, by the name of its sweep and its id.

    Whoever asks the same in ten files has ten chances; Holm over each file alone does not count them.
    """
    confirmatory = [(sweep, verdict) for sweep, verdict in verdicts if not verdict.exploratory]
    corrected = apply_holm([verdict.p_claim for _, verdict in confirmatory], alpha=1.0)
    return {(sweep, one.id): found.p for (sweep, one), found in zip(confirmatory, corrected, strict=True)}


def _group_by_effect(findings: Sequence[SweepVerdict]) -> tuple[SweepVerdict, ...]:
    order = list(dict.fromkeys(finding.effect for finding in findings))
    return tuple(sorted(findings, key=lambda finding: order.index(finding.effect)))


def _describe_effect(hypothesis: Hypothesis) -> str:
    details = hypothesis.model_dump(
        mode="json", exclude=_FIELDS_NOT_OF_THE_EFFECT | _FIELDS_SHOWN_SEPARATELY, exclude_none=True
    )
    phrases = [
        f"{name} {' and '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in details.items()
        if value != []
    ]
    held = [f"{path} is {level}" for path, level in sorted(hypothesis.where.items())]
    return ", ".join([hypothesis.test, *phrases, *([f"where {' and '.join(held)}"] if held else [])])


def find_shared_trials(sweeps: Sequence[SweepAnalysis]) -> tuple[SharedTrials, ...]:
    """List each pair of sweeps that share trials: their verdicts are not independent evidence."""
    found = []
    for one, other in combinations(sweeps, 2):
        here, there = set(one.analysis.trials["trial"]), set(other.analysis.trials["trial"])
        if both := here & there:
            found.append(SharedTrials((one.name, other.name), tuple(sorted(both)), (len(here), len(there))))
    return tuple(found)


def find_differences(sweeps: Sequence[SweepAnalysis]) -> tuple[SettingDifference, ...]:
    """List the settings and circumstances in which sweeps differ, or one sweep's trainings among themselves.

    Settings come first, then data, recipe, hardware and versions. A setting that all sweeps vary alike is left out.
    """
    settings = _list_differences([_collect_settings(judged) for judged in sweeps], sweeps, "not there")
    made = _list_differences([_collect_provenance(judged) for judged in sweeps], sweeps, NOT_RECORDED)
    return (
        *(found for found in settings if len(set(found.values.values())) > 1),
        *(found for found in made if len({value for values in found.values.values() for value in values}) > 1),
    )


def _list_differences(
    found: Sequence[Mapping[str, tuple[str, ...]]], sweeps: Sequence[SweepAnalysis], absent: str
) -> list[SettingDifference]:
    names = dict.fromkeys(name for of_sweep in found for name in of_sweep)
    return [
        SettingDifference(
            name,
            {judged.name: of_sweep.get(name, (absent,)) for judged, of_sweep in zip(sweeps, found, strict=True)},
        )
        for name in names
    ]


def _collect_settings(judged: SweepAnalysis) -> dict[str, tuple[str, ...]]:
    """Collect every setting's values by dotted path, without the data's location, which provenance has."""
    spec = judged.plan.sweep.spec
    base = {path: (str(value),) for path, value in flatten_document(spec.base.model_dump(mode="json")).items()}
    varied = {
        path: tuple(str(level) for level in sorted(levels or (), key=_make_sort_key))
        for path, levels in collect_varied_values(collect_parts(spec)).items()
    }
    counted = {"seeds": spec.seeds} if spec.replicates is None else {"recipes": spec.replicates.draws}
    counts = {name: (str(count),) for name, count in {**counted, "first_seed": spec.first_seed}.items()}
    settings = {**base, **varied, **counts}
    settings.pop("data.source", None)
    return settings


def _collect_provenance(judged: SweepAnalysis) -> dict[str, tuple[str, ...]]:
    table = judged.analysis.provenance
    names = [name for name in table.columns if name not in _IGNORED_PROVENANCE]
    return {
        name: tuple(
            NOT_RECORDED if value is None else str(value) for value in sorted(set(table[name]), key=_make_sort_key)
        )
        for name in names
    }


def _make_sort_key(value: object) -> tuple[bool, float, str]:
    """Sort numbers by size, before texts."""
    if isinstance(value, int | float):
        return False, float(value), str(value)
    return True, 0.0, str(value)


def format_missing_arms(missing: Sequence[Trial], planned: Sequence[Trial], most: int = 6) -> str:
    """List trials by their labels, an arm that is missing at every seed once; cut after `most` of them."""
    left = {trial.id for trial in missing}
    whole = {
        arm for arm in map(label_arm, missing) if all(trial.id in left for trial in planned if label_arm(trial) == arm)
    }
    labels = dict.fromkeys(
        f"{label_arm(trial)} at all seeds" if label_arm(trial) in whole else trial.label for trial in missing
    )
    shown = list(labels)[:most]
    more = [f"and {len(labels) - most} more"] if len(labels) > most else []
    return ", ".join([*shown, *more])


def build_trials_table(sweeps: Sequence[SweepAnalysis]) -> pl.DataFrame:
    """Return a row for each sweep and finished trial; a trial that two sweeps share is in both.

    A treatment that one sweep varies has its fixed value in the others' rows.
    """
    treatments = _list_treatments(sweeps)
    parts = [_add_sweep_columns(judged, _export_trials(judged), treatments) for judged in sweeps]
    found = pl.concat(parts, how="diagonal_relaxed")
    made = [name for name in found.columns if name.startswith(("data_", "recipe_", "hardware.", "versions."))]
    hashes = ["spec_sha256", "hypotheses_sha256"]
    last = ["samples_seen", "seconds", *hashes, *made]
    return found.select(pl.exclude(last), *last)


def build_history_table(sweeps: Sequence[SweepAnalysis]) -> pl.DataFrame:
    """Return a row for each sweep, trial and evaluation."""
    treatments = _list_treatments(sweeps)
    histories = [judged.analysis.history.drop(judged.analysis.factors) for judged in sweeps]
    parts = [_add_sweep_columns(judged, rows, treatments) for judged, rows in zip(sweeps, histories, strict=True)]
    return pl.concat(parts, how="diagonal_relaxed")


def _export_trials(judged: SweepAnalysis) -> pl.DataFrame:
    analysis = judged.analysis
    metrics = list_metric_columns(analysis.trials)
    hashes = [pl.lit(getattr(analysis, name)).alias(name) for name in ("spec_sha256", "hypotheses_sha256")]
    chosen = analysis.trials.select("trial", "label", "seed", *metrics, "samples_seen", "seconds", *hashes)
    return chosen.join(analysis.provenance, on="trial", how="left", maintain_order="left")


def _add_sweep_columns(judged: SweepAnalysis, rows: pl.DataFrame, treatments: Sequence[str]) -> pl.DataFrame:
    first = ["sweep", "scale", "trial", "label", "seed", *treatments]
    ids, *levels = _collect_levels(judged, treatments)
    names = [pl.lit(judged.analysis.sweep).alias("sweep"), pl.lit(judged.plan.sweep.scale_name_or_base).alias("scale")]
    added = rows.with_columns(*names, *(map_ids_to_values(pl.col("trial"), ids, column) for column in levels))
    return added.select(*first, pl.exclude(first))


def _list_treatments(sweeps: Sequence[SweepAnalysis]) -> list[str]:
    """List what differs between trainings by declaration: the sweeps' factors, and what their recipes draw."""
    drawn = [judged.plan.sweep.spec.replicates for judged in sweeps]
    factors = [path for judged in sweeps for path in judged.analysis.factors]
    return list(dict.fromkeys([*factors, *(path for each in drawn if each for path in each.space)]))


def _collect_levels(judged: SweepAnalysis, treatments: Sequence[str]) -> list[pl.Series]:
    """Return the planned trials' ids, then their values of each treatment, null where a configuration has none."""
    trials = judged.plan.trials
    configured = [{**trial.factors, **flatten_document(trial.config.model_dump(mode="json"))} for trial in trials]
    columns = [_export_column(path, [values.get(path) for values in configured]) for path in treatments]
    return [pl.Series("trial", [trial.id for trial in trials], pl.String), *columns]


def _export_column(path: str, values: Sequence[Level | None]) -> pl.Series:
    if all(value is None for value in values):
        return pl.Series(path, values, dtype=pl.Null)
    dtype = infer_level_type([value for value in values if value is not None])
    plain = [None if value is None else str(value) for value in values] if dtype == pl.String else values
    return pl.Series(path, plain, dtype=dtype)
