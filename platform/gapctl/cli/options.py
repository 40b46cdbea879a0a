"""Arguments and loaders that several verbs share, so that they read and behave the same everywhere.

`load_plan` is how verbs turn a sweep file into a plan: it fingerprints the data and checks that galleries fit.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated

import typer

from gapctl.cli.completion import complete_scales, complete_settings, complete_sweeps
from gapctl.config.base import Problem
from gapctl.config.evaluation_sets import NamedSet
from gapctl.config.load import LoadedSweep, is_shipped_sweep, load_sweep
from gapctl.config.trial import OpenClipModel, PairData
from gapctl.data.image_text.source import find_held_out_shortage, hash_pair_data
from gapctl.data.mad.source import BUNDLED, compute_dataset_fingerprint
from gapctl.errors import InputError
from gapctl.ledger import Ledger
from gapctl.ledger.search_record import SearchRecord
from gapctl.plan.plan import DataSource, Plan, build_located_error, make_plan, make_search_plan, name_study
from gapctl.plan.trial_id import PROVISIONAL

DEFAULT_RUNS = "runs"

SweepFileArgument = Annotated[
    Path,
    typer.Argument(
        help="The sweep: a file, or a name such as imbalance, which is looked for in sweeps/ and in gapctl.",
        show_default=False,
        metavar="FILE",
        autocompletion=complete_sweeps,
    ),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        "--scale",
        help="A named recipe of the file; its default_scale if left out.",
        autocompletion=complete_scales,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override a value, e.g. --set base.train.samples=20_000, or --set samples=20_000 where one path ends so.",
        metavar="PATH=VALUE",
        autocompletion=complete_settings,
    ),
]
RunsOption = Annotated[
    str,
    typer.Option("--runs", help="The ledger: a folder, s3://... or gs://...", metavar="DIR", envvar="GAPCTL_RUNS"),
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="A running Ray cluster (`auto` on its head); else this machine.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]


def load_plan(file: Path, scale: str | None, overrides: Sequence[str] | None, *, provisional: bool = False) -> Plan:
    """Load a sweep file and list its trials; raise InputError on wrong input, damaged data files included.

    With `provisional`, models whose weights are not known are listed too (`make_plan`).
    """
    plan = make_plan(
        load_and_announce_sweep(file, scale, overrides), compute_data_source_fingerprint, provisional=provisional
    )
    _check_held_out_data(plan)
    return plan


def load_and_announce_sweep(file: Path, scale: str | None, overrides: Sequence[str] | None) -> LoadedSweep:
    """Load a sweep by its path or name; announce it where it is one that comes with gapctl."""
    sweep = load_sweep(file, scale, tuple(overrides or ()))
    announce_shipped_sweep(file, sweep.source.path)
    return sweep


def refuse_future_first_question(sweep: LoadedSweep) -> None:
    """Raise InputError where `asks_again` names a day that has not begun anywhere on earth."""
    _, _, when = (sweep.spec.asks_again or "").partition("@")
    latest = datetime.now(timezone(timedelta(hours=14))).date()  # UTC+14, where each day begins first
    if "-" in when and date.fromisoformat(when) > latest:
        text = f"found the day {when}, and today is {date.today()}; expected the day on which the question was asked"
        raise InputError(sweep.locate_problem(Problem(("asks_again",), text)))


def announce_shipped_sweep(typed: Path, read: Path) -> None:
    """Print to standard error which file was read, where a name meant a sweep that comes with gapctl."""
    if read != typed and is_shipped_sweep(read):
        typer.echo(f"{typed}: the sweep that comes with gapctl, {read}", err=True)


def compute_data_source_fingerprint(data: DataSource) -> str:
    """Return the fingerprint of a trial's data, public model or evaluation set, quickly enough for `gapctl plan`.

    The images of an evaluation set are decoded once, when it is first seen, with a progress bar.
    """
    if isinstance(data, NamedSet):
        from gapctl.cli.console import show_progress
        from gapctl.data.image_text.evaluation_sets import open_set

        with show_progress(in_bytes=True) as show:
            return open_set(data, lambda done, total: show(f"checking {data.name}", done, total)).fingerprint
    if isinstance(data, OpenClipModel):
        from gapctl.models.public import fingerprint_model

        return fingerprint_model(data)
    if isinstance(data, PairData):
        return hash_pair_data(data)

    return compute_dataset_fingerprint(data.source)


def _check_held_out_data(plan: Plan) -> None:
    """Find damaged files of the user's own digits, and galleries larger than the held-out set, before a trial begins.

    Entropies and recalls depend on the size of the gallery.
    """
    checked: set[tuple[str, int]] = set()
    for trial in plan.trials:
        data, gallery = trial.config.data, trial.config.evaluate.gallery
        if (data.address, gallery) in checked or trial.data_fingerprint.endswith(PROVISIONAL):
            continue
        checked.add((data.address, gallery))
        if isinstance(data, PairData):
            if (most := find_held_out_shortage(data, gallery)) is not None:
                text = f"evaluate.gallery is {gallery:,}, but {most:,} pairs are held out; expected at most so many"
                raise build_located_error(plan.sweep, trial.factors, "evaluate.gallery", text, trial.model)
        elif data.source != BUNDLED:
            from gapctl.data.mad.images import count_digits
            from gapctl.data.mad.sampler import check_gallery_size

            key = "data.source"
            try:
                digits = count_digits(data.source)["test"]
                key = "evaluate.gallery"
                check_gallery_size(gallery, digits)
            except InputError as error:
                raise build_located_error(plan.sweep, trial.factors, key, str(error), trial.model) from error


def load_plan_or_drawn_points(file: Path, scale: str | None, overrides: Sequence[str] | None, ledger: Ledger) -> Plan:
    """Load a plan as `load_plan` does; for a search, its drawn points are the trials.

    Raise InputError where no point was drawn yet.
    """
    plan = load_plan(file, scale, overrides)
    return plan if plan.sweep.spec.search is None else plan_drawn_search_points(plan, ledger)


def plan_drawn_search_points(plan: Plan, ledger: Ledger) -> Plan:
    """Return the drawn points of a search that `load_plan` checked, as a plan."""
    record = read_search_record(plan, ledger)
    if record is None or not record.drawn:
        raise InputError(
            f"{ledger.root}: no point of the search {plan.sweep.spec.name} was drawn; expected the runs folder of "
            f"one, with the same --scale and --set. Run `gapctl sweep {plan.sweep.path}` first, or name the ledger "
            "with --runs"
        )
    return make_search_plan(plan.sweep, [drawn.point for drawn in record.drawn], compute_data_source_fingerprint)


def read_search_record(plan: Plan, ledger: Ledger) -> SearchRecord | None:
    """Read the ledger's record of a search as it is defined now; None where it has none, or another study's."""
    spec = plan.sweep.spec
    study = name_study(plan.sweep, compute_data_source_fingerprint(spec.base.data))
    return ledger.read_study_search(f"{spec.name}.{plan.sweep.scale_name_or_base}", study)
