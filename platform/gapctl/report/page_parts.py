"""Parts that all pages share: the document with its charts, sections, and the record of what was run.

`read_record` collects a plan's run record from a ledger, `render_run_record` shows it on a sweep's page, and
`collect_run_facts` lists the facts of one sweep for comparisons and Markdown. `render_document` wraps a page's content
with its style, charts and script.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import polars as pl

from gapctl.analysis.compare import NOT_RECORDED, SweepAnalysis, describe_arms
from gapctl.analysis.results import Analysis
from gapctl.config.base import flatten_document
from gapctl.config.hypotheses import Level
from gapctl.config.sweep import SweepFile
from gapctl.errors import WorkError
from gapctl.ledger import Ledger, Result
from gapctl.ledger.trial import CONFIGURATION, DIMENSIONS, FAILURE
from gapctl.plan.command_line import build_plan_arguments, build_ui_arguments
from gapctl.plan.plan import Plan, Trial
from gapctl.report.html import (
    Html,
    build_element,
    embed_javascript,
    embed_json,
    fill_template,
    join_html,
    load_vega_code,
    pack_charts,
    read_asset,
    render_facts,
)
from gapctl.report.text import format_count, format_duration, format_number, name_factor
from gapctl_charts.figure import Figure
from gapctl_charts.look import SHADES, css_variables


class Commands(NamedTuple):
    """Commands to train the rest, to judge again, to train one trial (`TRIAL` stands for its id), to look at runs."""

    sweep: str
    analyze: str
    train: str
    ui: str


def build_commands(plan: Plan, ledger: Ledger) -> Commands:
    """Build the commands with this plan's file, scale and `--set` options, and this ledger's folder."""
    same = build_plan_arguments(plan, ledger.root)
    return Commands(
        sweep=shlex.join(["gapctl", "sweep", *same]),
        analyze=shlex.join(["gapctl", "analyze", *same, "--out", "report.html"]),
        train=shlex.join(["gapctl", "train", *same, "--trial", "TRIAL"]),
        ui=shlex.join(["gapctl", "ui", *build_ui_arguments(plan.sweep)]),
    )


def guess_sweep_command(sweep: str, scale: str | None) -> str:
    """Return the command for a file in the usual folder, where only the sweep's name is known."""
    return shlex.join(["gapctl", "sweep", f"sweeps/{sweep}.yaml", *(["--scale", scale] if scale else [])])


class UnfinishedTrial(NamedTuple):
    """A planned training without a usable result, and the reason as far as it is known."""

    trial: str
    label: str
    why: str


class RunPages(NamedTuple):
    """The address at which MLflow shows the trainings, and each trial's page below it.

    `started_by` is the command that must be running for the address to answer; None where a server always does.
    """

    address: str
    started_by: str | None
    pages: Mapping[str, str]


@dataclass(frozen=True)
class RunRecord:
    """What was run, as far as it is known: any part may be missing, and an analysis alone also gives a page.

    `machines` and `versions` count trainings by the hardware and software that ran them. `dimensions` has a row for
    each trial and dimension (`trial`, `dimension`, `image_mean`, `text_mean`). `settings` is one trial before
    treatments, by dotted path; `treatments` describe what the levels of each named one change in it.
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


def read_record(
    plan: Plan, ledger: Ledger, run_pages: RunPages | None = None, *, with_dimensions: bool = True
) -> RunRecord:
    """Read the run record of the plan's trials from the ledger; list damaged ones as waiting.

    Read `dimensions` only with `with_dimensions`, for a page that draws them.
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
            name: {level: _format_changes(changes) for level, changes in levels.items()}
            for name, levels in plan.sweep.spec.treatments.items()
        },
        dimensions=_read_mean_embeddings(ledger, results) if with_dimensions else pl.DataFrame(),
        commands=build_commands(plan, ledger),
        run_pages=run_pages,
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


def _format_changes(changes: Mapping[str, Level]) -> str:
    return ", ".join(f"{path} {level}" for path, level in changes.items()) or "nothing"


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


def _read_mean_embeddings(ledger: Ledger, results: Sequence[Result]) -> pl.DataFrame:
    """Read the mean embeddings that trials saved; skip damaged and missing files, which the figure names."""
    trials = [result.trial for result in results]
    found = [
        means.select(pl.lit(trial).alias("trial"), pl.col("dimension").cast(pl.Int64), "image_mean", "text_mean")
        for trial, means in zip(trials, ledger.tables(trials, DIMENSIONS), strict=True)
        if isinstance(means, pl.DataFrame)
    ]
    return pl.concat(found) if found else pl.DataFrame()


def render_document(title: str, content: Html, figures: Sequence[Figure], run_pages: RunPages | None = None) -> str:
    """Return a complete HTML page: its content, the specifications of its charts, and the code that draws them."""
    page = fill_template(
        "document",
        title=title,
        colours=render_palette(),
        style=Html(read_asset("page.css")),
        content=content,
        charts=embed_json(pack_charts(figures)),
        facts=embed_json(_collect_script_facts(run_pages)),
        vega=embed_javascript(load_vega_code()),
        script=embed_javascript("\n".join(read_asset(name) for name in ("charts.js", "runs.js", "page.js"))),
    )
    return page.text


def render_palette() -> Html:
    """Return the palette as CSS variables, for light and for dark screens."""
    light, dark = css_variables("light"), css_variables("dark")
    return Html(f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}")


def render_section(name: str, heading: str, lead: str, parts: Sequence[Html]) -> Html:
    """Render a headed part of the page; empty where it has no content."""
    return (
        fill_template("section", id=name, heading=heading, lead=lead, content=join_html(parts)) if parts else Html("")
    )


def render_panels(figures: Iterable[Figure]) -> Html:
    """Render places for charts side by side, each with its title and caption."""
    drawn = (
        fill_template("figure", name=figure.name, title=figure.title, caption=figure.caption) for figure in figures
    )
    return build_element("div", join_html(drawn), class_="panels")


def _collect_script_facts(run_pages: RunPages | None) -> Mapping[str, Any]:
    """Collect what the page's script needs beside the charts: colours for files, and MLflow's page of each trial."""
    return {
        "paper": {name: shade.light for name, shade in SHADES.items()},
        "mlflow": None if run_pages is None else run_pages.address,
        "pages": {} if run_pages is None else dict(run_pages.pages),
    }


_DATA_SET_DESCRIPTIONS = {
    "mad": "MAD: MNIST digits with thickness, swelling, fracture, scale and colour drawn; captions name the digit and "
    "some of these",
}
_SUMMARY_SETTINGS = {
    "data.dataset", "data.source", "model.preset", "model.embed_dim", "temperature.mode", "temperature.init",
    "temperature.lr", "loss.kind", "train.batch_size", "train.lr", "evaluate.gallery", "evaluate.every",
}  # fmt: skip


def render_run_record(analysis: Analysis, record: RunRecord) -> Html:
    """Render the facts of a run, then the commands as far as they are known."""
    known = {
        **_describe_training(analysis, record),
        **_summarise_counts(analysis),
        **_describe_treatments(record),
        **_describe_provenance(analysis, record),
    }
    return fill_template("record", facts=render_facts(known), again=_render_commands(analysis, record))


def _describe_training(analysis: Analysis, record: RunRecord) -> dict[str, str | Html]:
    """Describe one training: data, model, recipe; mark what the sweep varies as varied."""
    if not record.settings:
        return {}
    told = {path: "varied" if path in analysis.factors else value for path, value in record.settings.items()}
    data = _DATA_SET_DESCRIPTIONS.get(told["data.dataset"], told["data.dataset"])
    rest = ", ".join(f"{path} {value}" for path, value in told.items() if path not in _SUMMARY_SETTINGS)
    return {
        "data": f"{data}; source {told['data.source']}",
        "model": f"preset {told['model.preset']}, embeddings {told['model.embed_dim']} wide",
        "temperature and loss": (
            f"{told['temperature.mode']}, from {told['temperature.init']}{_describe_own_rate(told)}; "
            f"{told['loss.kind']} loss"
        ),
        "training": f"batches of {told['train.batch_size']}, learning rate {told['train.lr']}",
        "evaluation": f"{told['evaluate.gallery']} held-out pairs, every {told['evaluate.every']} samples",
        "all other settings": rest,
    }


def _describe_own_rate(told: Mapping[str, str]) -> str:
    rate = told.get("temperature.lr", "None")
    return "" if rate == "None" else f", at a learning rate of its own ({rate})"


def _describe_treatments(record: RunRecord) -> dict[str, str | Html]:
    """Describe what each level of a named treatment changes."""
    return {
        name_factor(name): "; ".join(f"{level} changes {changes}" for level, changes in levels.items())
        for name, levels in record.treatments.items()
    }


def _summarise_counts(analysis: Analysis) -> dict[str, str | Html]:
    trials = analysis.trials
    seconds = float(trials.get_column("seconds").sum()) if "seconds" in trials.columns else 0.0
    seeds = trials.get_column("seed").n_unique() if "seed" in trials.columns else 0
    return {
        "trainings": f"{len(trials)} done of {analysis.planned} planned",
        "scale": analysis.scale or "none",
        "seeds": str(seeds),
        "varied": ", ".join(f"{name_factor(path)} ({path})" for path in analysis.factors),
        "samples seen by each": _format_samples_seen(analysis),
        "time in training": f"{format_duration(seconds)} in all",
        "alpha": f"{analysis.alpha:g}, Holm over {len(analysis.verdicts)} hypotheses",
    }


def _describe_provenance(analysis: Analysis, record: RunRecord) -> dict[str, str | Html]:
    recipe = {} if record.recipe is None else {"recipe version": str(record.recipe)}
    machines = {"hardware": "; ".join(_format_counts(record.machines))} if record.machines else {}
    named = (f"{name} {' and '.join(_format_counts(found))}" for name, found in record.versions.items())
    versions = {"versions": ", ".join(named)} if record.versions else {}
    data = {"fingerprint of the data": _render_hash(", ".join(record.data))} if record.data else {}
    return {
        **machines,
        **versions,
        **recipe,
        **data,
        "sweep file's sha256": _render_hash(analysis.spec_sha256),
        "hypotheses' sha256": _render_hash(analysis.hypotheses_sha256),
    }


def _format_samples_seen(analysis: Analysis) -> str:
    if "samples_seen" not in analysis.trials.columns or analysis.trials.is_empty():
        return "–"
    seen = sorted(analysis.trials.get_column("samples_seen").drop_nulls().unique())
    return " to ".join(f"{count:,}" for count in dict.fromkeys([seen[0], seen[-1]])) if seen else "–"


def _format_counts(counted: Mapping[str, int]) -> list[str]:
    """List what trainings have; where they differ, each with its number of trainings."""
    if len(counted) == 1:
        return list(counted)
    return [f"{what} ({count} trainings)" for what, count in counted.items()]


def _render_commands(analysis: Analysis, record: RunRecord) -> Html:
    commands, sweep = record.commands, "Train what is missing, and judge again"
    if commands is None:
        done = {sweep: guess_sweep_command(analysis.sweep, analysis.scale)}
    else:
        done = {
            sweep: commands.sweep,
            "Judge again, train nothing": commands.analyze,
            "Train one trial alone (put its id)": commands.train,
            "Look at the runs in MLflow": commands.ui,
        }
    listed = join_html(
        build_element(
            "div", join_html([build_element("dt", what), build_element("dd", build_element("code", command))], "")
        )
        for what, command in done.items()
    )
    return fill_template("again", commands=listed)


def _render_hash(text: str) -> Html:
    return build_element("span", text, class_="hash")


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
    return [
        Fact(
            "trainings",
            f"{done} of {planned} done; {format_count(spec.seeds, 'seed')}; {varied}",
        ),
        *_report_missing(judged, command),
        Fact("time", _format_training_time(analysis.trials)),
        *_collect_provenance(analysis.provenance),
        Fact("sweep file's sha256", analysis.spec_sha256, code=True),
        Fact("hypotheses' sha256", analysis.hypotheses_sha256, code=True),
        Fact("run it again", command, code=True),
    ]


def _report_missing(judged: SweepAnalysis, command: str) -> list[Fact]:
    if not judged.missing:
        return []
    which = describe_arms(judged.missing, judged.plan.trials)
    return [Fact("missing", f"{format_count(len(judged.missing), 'training')}: {which}; `{command}` finishes them")]


def _format_training_time(trials: pl.DataFrame) -> str:
    seconds = float(trials["seconds"].sum())
    each = f"{format_number(seconds / len(trials))} s each on average" if len(trials) else "none done"
    return f"{format_duration(seconds)} of training in all, {each}"


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
