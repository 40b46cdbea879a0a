"""What was run and how to run it again, at the end of a page."""

from collections.abc import Mapping

from gapctl.analysis.results import Analysis
from gapctl.report.commands import default_sweep_command
from gapctl.report.markup import Html, element, facts, fill, joined
from gapctl.report.run_record import RunRecord
from gapctl.report.words import duration, factor_words

_DATA_SETS = {
    "mad": "MAD: MNIST digits with thickness, swelling, fracture, scale and colour drawn; captions name the digit and "
    "some of these",
}
_TOLD = {
    "data.dataset", "data.source", "model.preset", "model.embed_dim", "temperature.mode", "temperature.init",
    "temperature.lr", "loss.kind", "train.batch_size", "train.lr", "evaluate.gallery", "evaluate.every",
}  # fmt: skip


def what_was_run(analysis: Analysis, record: RunRecord) -> Html:
    """Facts, then commands as far as they are known."""
    known = {**_trained(analysis, record), **_counted(analysis), **_treatments(record), **_recorded(analysis, record)}
    return fill("record", facts=facts(known), again=_again(analysis, record))


def _trained(analysis: Analysis, record: RunRecord) -> dict[str, str | Html]:
    """What one training is: data, model, recipe; what the sweep varies is marked as varied."""
    if not record.settings:
        return {}
    told = {path: "varied" if path in analysis.factors else value for path, value in record.settings.items()}
    data = _DATA_SETS.get(told["data.dataset"], told["data.dataset"])
    rest = ", ".join(f"{path} {value}" for path, value in told.items() if path not in _TOLD)
    return {
        "data": f"{data}; source {told['data.source']}",
        "model": f"preset {told['model.preset']}, embeddings {told['model.embed_dim']} wide",
        "temperature and loss": (
            f"{told['temperature.mode']}, from {told['temperature.init']}{_own_rate(told)}; {told['loss.kind']} loss"
        ),
        "training": f"batches of {told['train.batch_size']}, learning rate {told['train.lr']}",
        "evaluation": f"{told['evaluate.gallery']} held-out pairs, every {told['evaluate.every']} samples",
        "all other settings": rest,
    }


def _own_rate(told: Mapping[str, str]) -> str:
    rate = told.get("temperature.lr", "None")
    return "" if rate == "None" else f", at a learning rate of its own ({rate})"


def _treatments(record: RunRecord) -> dict[str, str | Html]:
    """What each level of a named treatment changes."""
    return {
        factor_words(name): "; ".join(f"{level} changes {changes}" for level, changes in levels.items())
        for name, levels in record.treatments.items()
    }


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
        "time in training": f"{duration(seconds)} in all",
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
