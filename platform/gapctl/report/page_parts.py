"""Parts that all pages share: the document with its charts, sections, and the record of what was run.

`read_run_record` collects a plan's run record from a ledger, `render_run_record` shows it on a sweep's page, and
`collect_run_facts` lists the facts of one sweep for comparisons and Markdown. `render_document` wraps a page's content
with its style, charts and script.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import polars as pl

from gapctl.analysis.compare import NOT_RECORDED, SweepAnalysis, format_missing_arms
from gapctl.analysis.results import AnalysisResults
from gapctl.config.base import flatten_document
from gapctl.config.sweep import SweepFile
from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result
from gapctl.ledger.trial import CONFIGURATION, DIMENSIONS, FAILURE
from gapctl.plan.command_line import build_plan_arguments, build_ui_arguments
from gapctl.plan.plan import Plan, Trial
from gapctl.report.cohort_models import map_models_to_pages
from gapctl.report.html import HASH, RunPages
from gapctl.report.many_trainings import choose_profiled_trials
from gapctl.report.text import format_duration, format_number, name_factor
from gapctl.text import format_count_with_noun


class Commands(NamedTuple):
    """Commands to train the rest, to judge again, to train one trial (`TRIAL` stands for its id), to look at runs.

    `export` writes a row for each training into a file.
    """

    sweep: str
    analyze: str
    train: str
    ui: str
    export: str = ""


def build_commands(plan: Plan, ledger: Ledger) -> Commands:
    """Build the commands with this plan's file, scale and `--set` options, and this ledger's folder."""
    same = build_plan_arguments(plan, ledger.root)
    return Commands(
        sweep=shlex.join(["gapctl", "sweep", *same]),
        analyze=shlex.join(["gapctl", "analyze", *same, "--out", "report.html"]),
        train=shlex.join(["gapctl", "train", *same, "--trial", "TRIAL"]),
        ui=shlex.join(["gapctl", "ui", *build_ui_arguments(plan.sweep)]),
        export=shlex.join(["gapctl", "analyze", *same, "--export", "trials.csv"]),
    )


class UnfinishedTrial(NamedTuple):
    """A planned training without a usable result, and the reason as far as it is known."""

    trial: str
    label: str
    why: str


@dataclass(frozen=True)
class RunRecord:
    """What was run, as far as it is known: any part may be missing, and an analysis alone also gives a page.

    `machines` and `versions` count trainings by the hardware and software that ran them. `dimensions` has a row for
    each trial and dimension (`trial`, `dimension`, `image_mean`, `text_mean`). `settings` is one trial before
    treatments, by dotted path; `treatments` describe what the levels of each named one change in it. Of a cohort,
    `model_pages` are the addresses of its models' weights, and `published_source` is where published numbers are from.
    """

    waiting: tuple[UnfinishedTrial, ...] = ()
    machines: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    recipe: int | None = None
    data: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    treatments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    dimensions: pl.DataFrame = field(default_factory=pl.DataFrame)
    commands: Commands | None = None
    run_pages: RunPages | None = None
    model_pages: Mapping[str, str] = field(default_factory=dict)
    published_source: str = ""


def read_run_record(
    plan: Plan, ledger: Ledger, run_pages: RunPages | None = None, *, with_dimensions: bool = True
) -> RunRecord:
    """Read the run record of the plan's trials from the ledger; list damaged ones as waiting.

    Read `dimensions` only with `with_dimensions`, for a page that draws them; of many trials, those of some.
    """
    results, waiting = _split_results(plan, ledger)
    return RunRecord(
        waiting=tuple(waiting),
        machines=Counter(map(_describe_machine, results)),
        versions=_count_versions(results),
        recipe=plan.recipe_version,
        data=tuple(dict.fromkeys(trial.data_fingerprint for trial in plan.trials)),
        settings=_list_settings(plan.sweep.spec),
        treatments={
            name: {
                level: ", ".join(f"{path} {value}" for path, value in changes.items()) or "nothing"
                for level, changes in levels.items()
            }
            for name, levels in plan.sweep.spec.treatments.items()
        },
        dimensions=(
            _read_mean_embeddings(ledger, choose_profiled_trials(plan, results)) if with_dimensions else pl.DataFrame()
        ),
        commands=build_commands(plan, ledger),
        run_pages=run_pages,
        model_pages=map_models_to_pages(plan),
        published_source=plan.sweep.spec.cohort.source if plan.sweep.spec.cohort else "",
    )


def _list_settings(spec: SweepFile) -> dict[str, str]:
    plain = {path: str(value) for path, value in flatten_document(spec.base.model_dump(mode="json")).items()}
    treated = {
        path: f"set by {name}"
        for name, levels in spec.treatments.items()
        for changes in levels.values()
        for path in changes
    }
    return plain | treated


def _split_results(plan: Plan, ledger: Ledger) -> tuple[list[Result], list[UnfinishedTrial]]:
    found = list(zip(plan.trials, ledger.results([trial.id for trial in plan.trials]), strict=True))
    unfinished = [trial.id for trial, result in found if result is None]
    begun, failed = ledger.filter_by_file(unfinished, CONFIGURATION), ledger.filter_by_file(unfinished, FAILURE)

    def why(trial: Trial, result: WorkError | None) -> str:
        if result is not None:
            return "its result is damaged"
        if trial.id not in begun:
            return "not begun"
        return "failed" if trial.id in failed else "not finished"

    waiting = [
        UnfinishedTrial(trial.id, trial.label, why(trial, result))
        for trial, result in found
        if not isinstance(result, Result)
    ]
    return [result for _, result in found if isinstance(result, Result)], waiting


def _describe_machine(result: Result) -> str:
    """Describe a training's hardware in a line, with whatever a result recorded."""
    known = result.hardware
    named = [str(known[key]) for key in ("device", "name") if key in known]
    counts = {name: known[f"{name}s"] for name in ("core", "thread") if f"{name}s" in known}
    counted = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
    exact = [str(known["precision"])] if "precision" in known else []
    return ", ".join([*named, *counted, *exact]) or "not recorded"


def _count_versions(results: Sequence[Result]) -> dict[str, Counter[str]]:
    names = dict.fromkeys(name for result in results for name in result.versions)
    return {name: Counter(result.versions.get(name, "not recorded") for result in results) for name in names}


def _read_mean_embeddings(ledger: Ledger, trials: Sequence[str]) -> pl.DataFrame:
    """Read the mean embeddings that trials saved; skip damaged and missing files, which the figure names."""
    found = [
        means.select(pl.lit(trial).alias("trial"), pl.col("dimension").cast(pl.Int64), "image_mean", "text_mean")
        for trial, means in zip(trials, ledger.tables(trials, DIMENSIONS), strict=True)
        if isinstance(means, pl.DataFrame)
    ]
    return pl.concat(found) if found else pl.DataFrame()


_DATA_SET_DESCRIPTIONS = {
    "mad": "MAD: MNIST digits with thickness, swelling, fracture, scale and colour drawn; captions name the digit and "
    "some of these",
}
_SUMMARY_SETTINGS = {
    "data.dataset", "data.source", "model.preset", "model.embed_dim", "model.architecture", "model.weights",
    "temperature.mode", "temperature.init",
    "temperature.lr", "loss.kind", "train.batch_size", "train.lr", "evaluate.gallery", "evaluate.every",
}  # fmt: skip


def list_run_facts(analysis: AnalysisResults, record: RunRecord) -> dict[str, str]:
    """List the facts of a run, by their terms."""
    return {
        **_describe_training(analysis, record),
        **_summarise_counts(analysis),
        **{
            name_factor(name): "; ".join(f"{level} changes {changes}" for level, changes in levels.items())
            for name, levels in record.treatments.items()
        },
        **_describe_provenance(analysis, record),
    }


def list_commands(analysis: AnalysisResults, record: RunRecord) -> dict[str, str]:
    """List the commands that go on with a run, as far as they are known, by what they do."""
    sweep = "Train what is missing, and judge again"
    commands = record.commands
    if commands is None:
        # The usual folder, where only the sweep's name is known.
        scale = ["--scale", analysis.scale] if analysis.scale else []
        return {sweep: shlex.join(["gapctl", "sweep", f"sweeps/{analysis.sweep}.yaml", *scale])}
    return {
        sweep: commands.sweep,
        "Judge again, train nothing": commands.analyze,
        "Train one trial alone (put its id)": commands.train,
        "Look at the runs in MLflow": commands.ui,
    }


def _describe_model(told: Mapping[str, str]) -> str:
    if "model.preset" in told:
        return f"preset {told['model.preset']}, embeddings {told['model.embed_dim']} wide"
    weights = told.get("model.weights", "")
    return f"open_clip's {told['model.architecture']}, {f'weights {weights}' if weights else 'random weights'}"


def _describe_training(analysis: AnalysisResults, record: RunRecord) -> dict[str, str]:
    """Describe one training: data, model, recipe; mark what the sweep varies as varied."""
    if not record.settings:
        return {}
    told = {path: "varied" if path in analysis.factors else value for path, value in record.settings.items()}
    data = _DATA_SET_DESCRIPTIONS.get(told["data.dataset"], told["data.dataset"])
    rate = told.get("temperature.lr", "None")
    own_rate = "" if rate == "None" else f", at a learning rate of its own ({rate})"
    rest = ", ".join(f"{path} {value}" for path, value in told.items() if path not in _SUMMARY_SETTINGS)
    return {
        "data": f"{data}; source {told['data.source']}",
        "model": _describe_model(told),
        "temperature and loss": (
            f"{told['temperature.mode']}, from {told['temperature.init']}{own_rate}; {told['loss.kind']} loss"
        ),
        "training": f"batches of {told['train.batch_size']}, learning rate {told['train.lr']}",
        "evaluation": f"{told['evaluate.gallery']} held-out pairs, every {told['evaluate.every']} samples",
        "all other settings": rest,
    }


def _summarise_counts(analysis: AnalysisResults) -> dict[str, str]:
    trials = analysis.trials
    seconds = float(trials.get_column("seconds").sum()) if "seconds" in trials.columns else 0.0
    replicates = trials.get_column("seed").n_unique() if "seed" in trials.columns else 0
    family = format_count_with_noun(len(analysis.verdicts), "hypothesis", "hypotheses")
    return {
        "trainings": f"{len(trials)} done of {analysis.planned} planned",
        "scale": analysis.scale or "none",
        f"{analysis.replicate_noun}s": str(replicates),
        "varied": ", ".join(f"{name_factor(path)} ({path})" for path in analysis.factors),
        "samples seen by each": _format_samples_seen(analysis),
        "time in training": f"{format_duration(seconds)} in all",
        "alpha": f"{analysis.alpha:g}, Holm over {family}",
    }


def _describe_provenance(analysis: AnalysisResults, record: RunRecord) -> dict[str, str]:
    recipe = {} if record.recipe is None else {"recipe version": str(record.recipe)}
    machines = {"hardware": "; ".join(_format_counts(record.machines))} if record.machines else {}
    named = (f"{name} {' and '.join(_format_counts(found))}" for name, found in record.versions.items())
    versions = {"versions": ", ".join(named)} if record.versions else {}
    data = {"fingerprint of the data": HASH.format(", ".join(record.data))} if record.data else {}
    return {
        **machines,
        **versions,
        **recipe,
        **data,
        "sweep file's sha256": HASH.format(analysis.spec_sha256),
        "hypotheses' sha256": HASH.format(analysis.hypotheses_sha256),
    }


def _format_samples_seen(analysis: AnalysisResults) -> str:
    if "samples_seen" not in analysis.trials.columns or analysis.trials.is_empty():
        return "–"
    seen = sorted(analysis.trials.get_column("samples_seen").drop_nulls().unique())
    return " to ".join(f"{count:,}" for count in dict.fromkeys([seen[0], seen[-1]])) if seen else "–"


def _format_counts(counted: Mapping[str, int]) -> list[str]:
    """List what trainings have; where they differ, each with its number of trainings."""
    if len(counted) == 1:
        return list(counted)
    return [f"{what} ({count} trainings)" for what, count in counted.items()]


_HARDWARE_FIELDS: Final = ("device", "name", "threads", "precision", "packed")


class Fact(NamedTuple):
    """A term and its description; `code` where that is a command or a hash."""

    term: str
    said: str
    code: bool = False


def collect_run_facts(judged: SweepAnalysis, ledger: Ledger) -> list[Fact]:
    """Collect the facts of one sweep of a ledger."""
    analysis, spec = judged.analysis, judged.plan.sweep.spec
    done, planned = len(analysis.trials), len(judged.plan.trials)
    command = build_commands(judged.plan, ledger).sweep
    varied = "; ".join(f"{path}: {', '.join(map(str, levels))}" for path, levels in spec.vary.items())
    seconds = float(analysis.trials["seconds"].sum())
    each = f"{format_number(seconds / done)} s each on average" if done else "none done"
    replicates = format_count_with_noun(len(spec.replicate_numbers), spec.replicate_noun)
    missing = []
    if judged.missing:
        which = format_missing_arms(judged.missing, judged.plan.trials)
        count = format_count_with_noun(len(judged.missing), "training")
        missing = [Fact("missing", f"{count}: {which}; `{command}` finishes them")]
    return [
        Fact(
            "trainings",
            f"{done} of {planned} done; {replicates}; {varied}",
        ),
        *missing,
        Fact("time", f"{format_duration(seconds)} of training in all, {each}"),
        *_collect_provenance(analysis.provenance),
        Fact("sweep file's sha256", analysis.spec_sha256, code=True),
        Fact("hypotheses' sha256", analysis.hypotheses_sha256, code=True),
        Fact("run it again", command, code=True),
    ]


def _collect_provenance(provenance: pl.DataFrame) -> list[Fact]:
    data = [_format_column(provenance, name) for name in ("data_source", "data_fingerprint", "recipe_version")]
    hardware = [f"{name} {_format_column(provenance, f'hardware.{name}')}" for name in _HARDWARE_FIELDS]
    versions = [name.removeprefix("versions.") for name in provenance.columns if name.startswith("versions.")]
    return [
        Fact("data", f"{data[0]}, fingerprint {data[1]}, recipe version {data[2]}"),
        Fact("hardware", "; ".join(hardware)),
        Fact("versions", ", ".join(f"{name} {_format_column(provenance, f'versions.{name}')}" for name in versions)),
    ]


def _format_column(provenance: pl.DataFrame, name: str) -> str:
    """Format a column's value, or each of its values with the number of trainings that have it."""
    if name not in provenance.columns:
        return NOT_RECORDED
    counts = provenance[name].value_counts(sort=True)
    found = [(NOT_RECORDED if value is None else str(value), count) for value, count in counts.rows()]
    if len(found) == 1:
        return found[0][0]
    return " and ".join(f"{value} ({count} trainings)" for value, count in sorted(found, key=lambda one: -one[1]))
