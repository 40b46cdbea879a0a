"""What was run and how to run it again, at the end of a page."""

from collections.abc import Mapping

from gapctl.analysis.results import Analysis
from gapctl.report.commands import default_sweep_command
from gapctl.report.markup import Html, element, facts, fill, joined
from gapctl.report.run_record import RunRecord
from gapctl.report.words import factor_words, number

MINUTE, HOUR = 60.0, 3600.0


def what_was_run(analysis: Analysis, record: RunRecord) -> Html:
    """Facts, then commands as far as they are known."""
    known = {**_counted(analysis), **_recorded(analysis, record)}
    return fill("record", facts=facts(known), again=_again(analysis, record))


def _counted(analysis: Analysis) -> dict[str, str | Html]:
    trials = analysis.trials
    seconds = float(trials.get_column("seconds").sum()) if "seconds" in trials.columns else 0.0
    seeds = trials.get_column("seed").n_unique() if "seed" in trials.columns else 0
    return {
        "trainings": f"{len(trials)} done of {analysis.planned} planned",
        "scale": analysis.scale or "none",
        "seeds": str(seeds),
        "varied": ", ".join(f"{factor_words(path)} ({path})" for path in analysis.factors),
        "samples seen by each": _samples(analysis),
        "time in training": _duration(seconds),
        "alpha": f"{analysis.alpha:g}, Holm over {len(analysis.verdicts)} hypotheses",
    }


def _recorded(analysis: Analysis, record: RunRecord) -> dict[str, str | Html]:
    recipe = {} if record.recipe is None else {"recipe version": str(record.recipe)}
    machines = {"hardware": "; ".join(_counts(record.machines))} if record.machines else {}
    versions = {"versions": ", ".join(_versions(record.versions))} if record.versions else {}
    data = {"fingerprint of the data": _hash(", ".join(record.data))} if record.data else {}
    return {
        **machines,
        **versions,
        **recipe,
        **data,
        "sweep file's sha256": _hash(analysis.spec_sha256),
        "hypotheses' sha256": _hash(analysis.hypotheses_sha256),
    }


def _samples(analysis: Analysis) -> str:
    if "samples_seen" not in analysis.trials.columns or analysis.trials.is_empty():
        return "–"
    seen = sorted(analysis.trials.get_column("samples_seen").drop_nulls().unique())
    return " to ".join(f"{count:,}" for count in dict.fromkeys([seen[0], seen[-1]])) if seen else "–"


def _duration(seconds: float) -> str:
    if seconds < HOUR:
        return f"{number(seconds / MINUTE)} minutes in all"
    return f"{number(seconds / HOUR)} hours in all"


def _counts(counted: Mapping[str, int]) -> list[str]:
    """What all trainings share, as it is; otherwise each with how many trainings it is of."""
    if len(counted) == 1:
        return list(counted)
    return [f"{what} ({count} trainings)" for what, count in counted.items()]


def _versions(versions: Mapping[str, Mapping[str, int]]) -> list[str]:
    return [f"{name} {' and '.join(_counts(found))}" for name, found in versions.items()]


def _again(analysis: Analysis, record: RunRecord) -> Html:
    commands, sweep = record.commands, "Train what is missing, and judge again"
    if commands is None:
        done = {sweep: default_sweep_command(analysis.sweep, analysis.scale)}
    else:
        done = {
            sweep: commands.sweep,
            "Judge again, train nothing": commands.analyze,
            "Train one trial alone (put its id)": commands.train,
            "Look at the runs in MLflow": commands.ui,
        }
    listed = joined(
        element("div", joined([element("dt", what), element("dd", element("code", command))], ""))
        for what, command in done.items()
    )
    return fill("again", commands=listed)


def _hash(text: str) -> Html:
    return element("span", text, class_="hash")
