"""From a verb's arguments to a plan."""

from collections.abc import Sequence
from pathlib import Path

import typer

from gapctl.errors import InputError
from gapctl.plan.make import located, make_plan
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.data import Data, MadData, PairData
from gapctl.spec.load import Sweep, load_sweep
from gapctl.spec.sweep_files import is_shipped


def plan_for(file: Path, scale: str | None, overrides: Sequence[str] | None) -> Plan:
    """Loads a sweep file and lists its trials; raises InputError on wrong input, damaged data files included."""
    plan = make_plan(open_sweep(file, scale, overrides), fingerprint_of)
    _check_folders(plan)
    _check_held_out(plan)
    return plan


def open_sweep(file: Path, scale: str | None, overrides: Sequence[str] | None) -> Sweep:
    """Load a sweep by its path or name, and say so where it is one that comes with gapctl."""
    sweep = load_sweep(file, scale, tuple(overrides or ()))
    tell_shipped(file, sweep.source.path)
    return sweep


def tell_shipped(typed: Path, read: Path) -> None:
    """Say on standard error which file was read where a name meant one that comes with gapctl."""
    if read != typed and is_shipped(read):
        typer.echo(f"{typed}: the sweep that comes with gapctl, {read}", err=True)


def fingerprint_of(data: Data) -> str:
    """The fingerprint of a trial's data, quick enough for `gapctl plan`."""
    if isinstance(data, PairData):
        from gapctl.data.pairs.source import pairs_fingerprint

        return pairs_fingerprint(data)
    from gapctl.data.mad.fingerprint import dataset_fingerprint

    return dataset_fingerprint(data.source)


def _check_folders(plan: Plan) -> None:
    """Reads the user's own digits, so that a damaged file is found before a trial begins; ours were tested."""
    from gapctl.data.mad.source import BUNDLED

    by_source: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        if isinstance(trial.config.data, MadData):
            by_source.setdefault(trial.config.data.source, []).append(trial)
    for source, trials in by_source.items():
        if source != BUNDLED:
            _check_galleries(plan, trials, _test_digits(plan, trials[0]))


def _check_held_out(plan: Plan) -> None:
    """Refuses a gallery larger than what is held out: entropies and recalls depend on its size."""
    from gapctl.data.pairs.source import held_out_at_most

    first_of = {(trial.config.data.address, trial.config.evaluate.gallery): trial for trial in reversed(plan.trials)}
    for (_, asked), trial in first_of.items():
        data = trial.config.data
        if isinstance(data, PairData) and (most := held_out_at_most(data, asked)) is not None:
            text = f"evaluate.gallery is {asked:,}, but {most:,} pairs are held out; expected at most so many"
            raise located(plan.sweep, trial.factors, "evaluate.gallery", text)


def _test_digits(plan: Plan, trial: Trial) -> int:
    from gapctl.data.mad.counts import count_digits

    try:
        return count_digits(trial.config.data.source)["test"]
    except InputError as error:
        raise located(plan.sweep, trial.factors, "data.source", str(error)) from error


def _check_galleries(plan: Plan, trials: Sequence[Trial], test_digits: int) -> None:
    from gapctl.data.mad.gallery import check_gallery

    for trial in trials:
        try:
            check_gallery(trial.config.evaluate.gallery, test_digits)
        except InputError as error:
            raise located(plan.sweep, trial.factors, "evaluate.gallery", str(error)) from error
