"""A sweep whose money is spent stops with its checkpoints written, judges what is there and says how to go on."""

from pathlib import Path

import pytest

from gapctl.ledger import Ledger
from sweeping import run_sweep

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

LONG = ("--set", "base.train.samples=4_096_000", "--set", "base.evaluate.every=4_096_000")
A_UNIT_A_SECOND = ("--set", "limits.price_per_hour=3600")


def test_a_sweep_stops_when_its_machine_has_cost_enough_and_goes_on_only_with_more(tmp_path: Path) -> None:
    stopped = run_sweep(tmp_path, *LONG, *A_UNIT_A_SECOND, "--set", "limits.cost=45")

    assert stopped.exit_code == 1, stopped.out + stopped.err
    assert "gapctl: limits.cost: " in stopped.err
    assert "2 of 2 trainings are left" in stopped.err
    assert "--set limits.cost=90" in stopped.err
    assert "Traceback" not in stopped.err
    checkpoints = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/checkpoints/0*.pt")}
    assert checkpoints
    spent = Ledger(str(tmp_path / "runs")).spent("imbalance", "smoke")
    assert 45 <= spent.cost <= 3600 * spent.hours

    again = run_sweep(tmp_path, *LONG, *A_UNIT_A_SECOND, "--set", "limits.cost=45")

    assert again.exit_code == 1
    assert "were spent by this sweep; 2 of 2 trainings are left" in again.err
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints


def test_money_is_not_limited_on_a_machine_whose_price_nobody_knows(tmp_path: Path) -> None:
    refused = run_sweep(tmp_path, "--set", "limits.cost=45")

    assert refused.exit_code == 2
    assert "--set limits.cost=45: limits.cost: found 45, but of this machine no price is known" in refused.err
    assert not list((tmp_path / "runs").glob("*/trial.yaml"))
