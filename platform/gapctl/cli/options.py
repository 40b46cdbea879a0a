"""Arguments and loaders that several verbs share, so that they read and behave the same everywhere.

`load_plan` is how verbs turn a sweep file into a plan: it fingerprints the data and checks that galleries fit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.config.load import Sweep, is_shipped, load_sweep
from gapctl.config.trial import Data, MadData, PairData
from gapctl.errors import InputError
from gapctl.plan.plan import Plan, Trial, locate_error, make_plan

if TYPE_CHECKING:
    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord


DEFAULT_RUNS = "runs"

SweepFileArgument = Annotated[
    Path,
    typer.Argument(
        help="The sweep: a file, or a name such as imbalance, which is looked for in sweeps/ and in gapctl.",
        show_default=False,
        metavar="FILE",
    ),
]
ScaleOption = Annotated[
    str | None, typer.Option("--scale", help="A named recipe of the file; its default_scale if left out.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a value, e.g. --set base.train.samples=20_000.", metavar="PATH=VALUE"),
]
RunsOption = Annotated[
    str,
    typer.Option("--runs", help="The ledger: a folder, s3://... or gs://...", metavar="DIR", envvar="GAPCTL_RUNS"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]


def load_plan(file: Path, scale: str | None, overrides: Sequence[str] | None) -> Plan:
    """Load a sweep file and list its trials; raise InputError on wrong input, damaged data files included."""
    plan = make_plan(open_sweep(file, scale, overrides), compute_fingerprint)
    _check_data_folders(plan)
    _check_held_out_pairs(plan)
    return plan


def open_sweep(file: Path, scale: str | None, overrides: Sequence[str] | None) -> Sweep:
    """Load a sweep by its path or name; announce it where it is one that comes with gapctl."""
    sweep = load_sweep(file, scale, tuple(overrides or ()))
    announce_shipped_sweep(file, sweep.source.path)
    return sweep


def announce_shipped_sweep(typed: Path, read: Path) -> None:
    """Print to standard error which file was read, where a name meant a sweep that comes with gapctl."""
    if read != typed and is_shipped(read):
        typer.echo(f"{typed}: the sweep that comes with gapctl, {read}", err=True)


def compute_fingerprint(data: Data) -> str:
    """Return the fingerprint of a trial's data, quickly enough for `gapctl plan`."""
    if isinstance(data, PairData):
        from gapctl.data.image_text.source import hash_pair_data

        return hash_pair_data(data)
    from gapctl.data.mad.source import compute_dataset_fingerprint

    return compute_dataset_fingerprint(data.source)


def _check_data_folders(plan: Plan) -> None:
    """Read the user's own digits, to find a damaged file before a trial begins; the bundled ones were tested."""
    from gapctl.data.mad.source import BUNDLED

    by_source: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        if isinstance(trial.config.data, MadData):
            by_source.setdefault(trial.config.data.source, []).append(trial)
    for source, trials in by_source.items():
        if source != BUNDLED:
            _check_galleries(plan, trials, _count_test_digits(plan, trials[0]))


def _check_held_out_pairs(plan: Plan) -> None:
    """Refuse a gallery larger than the held-out set: entropies and recalls depend on its size."""
    from gapctl.data.image_text.source import find_held_out_shortage

    first_of = {(trial.config.data.address, trial.config.evaluate.gallery): trial for trial in reversed(plan.trials)}
    for (_, asked), trial in first_of.items():
        data = trial.config.data
        if isinstance(data, PairData) and (most := find_held_out_shortage(data, asked)) is not None:
            text = f"evaluate.gallery is {asked:,}, but {most:,} pairs are held out; expected at most so many"
            raise locate_error(plan.sweep, trial.factors, "evaluate.gallery", text)


def _count_test_digits(plan: Plan, trial: Trial) -> int:
    from gapctl.data.mad.images import count_digits

    try:
        return count_digits(trial.config.data.source)["test"]
    except InputError as error:
        raise locate_error(plan.sweep, trial.factors, "data.source", str(error)) from error


def _check_galleries(plan: Plan, trials: Sequence[Trial], test_digits: int) -> None:
    from gapctl.data.mad.sampler import check_gallery

    for trial in trials:
        try:
            check_gallery(trial.config.evaluate.gallery, test_digits)
        except InputError as error:
            raise locate_error(plan.sweep, trial.factors, "evaluate.gallery", str(error)) from error


def load_ledger_plan(file: Path, scale: str | None, overrides: Sequence[str] | None, ledger: "Ledger") -> "Plan":
    """Load a plan as `load_plan` does; for a search, its drawn points are the trials.

    Raise InputError where no point was drawn yet.
    """
    plan = load_plan(file, scale, overrides)
    return plan if plan.sweep.spec.search is None else load_search_plan(plan, ledger)


def load_search_plan(plan: "Plan", ledger: "Ledger") -> "Plan":
    """Return the drawn points of a search that `load_plan` checked, as a plan."""
    from gapctl.plan.plan import make_search_plan

    record = read_search_record(plan, ledger)
    if record is None or not record.drawn:
        raise InputError(
            f"{ledger.root}: no point of the search {plan.sweep.spec.name} was drawn; expected the runs folder of "
            f"one, with the same --scale and --set. Run `gapctl sweep {plan.sweep.path}` first, or name the ledger "
            "with --runs"
        )
    return make_search_plan(plan.sweep, [drawn.point for drawn in record.drawn], compute_fingerprint)


def read_search_record(plan: "Plan", ledger: "Ledger") -> "SearchRecord | None":
    """Read the ledger's record of a search as it is defined now; None where it has none, or another study's."""
    from gapctl.plan.plan import name_study

    spec = plan.sweep.spec
    study = name_study(plan.sweep, compute_fingerprint(spec.base.data))
    return ledger.read_study_search(f"{spec.name}.{plan.sweep.scale_name}", study)
