"""Trials of a shipped sweep's smoke scale, and one trained in this process without Ray."""

from pathlib import Path

from gapctl.cli.options import compute_data_source_fingerprint
from gapctl.config.load import load_sweep
from gapctl.data.mad.feed import load_mad_arrays
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Trial, make_plan
from gapctl.sweep.pack_work import PackWork
from sweeping import SMOKE


def plan_trials(*changes: str, file: Path = SMOKE, scale: str = "smoke") -> tuple[Trial, ...]:
    """The trials of a scale, with changes such as `seeds=2`."""
    return make_plan(load_sweep(file, scale, changes), compute_data_source_fingerprint).trials


def trained_alone(trial: Trial, runs: Path, threads: int = 1) -> Result:
    """The result of a trial that nothing disturbed."""
    work = PackWork([trial], load_mad_arrays(trial.config.data), str(runs), threads=threads, gpu=False)
    while work.unfinished:
        work.train_for(60.0)
    result = Ledger(str(runs)).result(trial.id)
    assert result is not None
    return result
