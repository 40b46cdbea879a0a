"""Two sweeps in one ledger that ask the same and share trials, for tests of what is said of both."""

from dataclasses import dataclass
from pathlib import Path

from analysis_ledgers import ATTRIBUTES, CONTRAST, TREND, falling, fill, finish, sweep_file

from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan

LR = "train.lr"


@dataclass(frozen=True)
class TwoSweeps:
    """`levels` has six levels at one learning rate; `rates` the outer two at two rates, and lacks its last trial."""

    folder: Path
    levels: Plan
    rates: Plan

    @property
    def runs(self) -> str:
        return str(self.folder / "runs")

    @property
    def files(self) -> tuple[str, str]:
        return str(self.levels.sweep.path), str(self.rates.sweep.path)


def two_sweeps(folder: Path) -> TwoSweeps:
    """Writes the files and the ledger; the shared trials are those of `levels`."""
    levels = load_plan(sweep_file(folder, TREND, CONTRAST, name="levels"), None, None)
    vary = {LR: [1e-3, 2e-3], ATTRIBUTES: [0, 5]}
    rates = load_plan(sweep_file(folder, {**CONTRAST, "id": "ends"}, vary=vary, name="rates", alpha=0.01), None, None)
    ledger = Ledger(str(folder / "runs"))
    ledger.declare_plan(rates)
    fill(ledger, levels, falling(0.05, noise=0.005))
    done = {trial.id for trial in levels.trials}
    for trial in rates.trials[:-1]:
        if trial.id not in done:
            finish(ledger, trial, falling(0.05, noise=0.005)(trial))
    return TwoSweeps(folder, levels, rates)
