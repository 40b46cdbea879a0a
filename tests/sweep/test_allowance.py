"""Limits are counted over all runs of a sweep whenever it is asked whether to go on, and end it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gapctl.errors import WorkError
from gapctl.ledger import Ledger
from gapctl.ledger.ledger import SPENDING, RunSpending
from gapctl.plan.plan import Plan, make_plan
from gapctl.sweep import budget as allowance
from gapctl.sweep import budget as price_watch
from gapctl.sweep.budget import Budget
from sweep_texts import TINY, loaded

SECOND = 1 / 3600
LONGEST_SECONDS = 20.0


@dataclass(frozen=True)
class Price:
    per_hour: float
    priced: int = 1
    unpriced: int = 0
    unanswered: int = 0


@pytest.fixture(autouse=True)
def _ticking_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(price_watch, "FIRST_PRICE_CHECK_SECONDS", 0.01)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "runs"))


def plan(folder: Path, **limits: float) -> Plan:
    settings = [f"limits.{name}={value}" for name, value in limits.items()]
    return make_plan(loaded(folder, TINY, None, *settings), lambda data: "d")


def trained_until_stopped(counting: Budget) -> None:
    with counting:
        assert asks_for(LONGEST_SECONDS, counting)


def asks_for(seconds: float, counting: Budget) -> bool:
    """Asks as Tune's loop does, so many seconds at most; whether the sweep was to end."""
    deadline = time.monotonic() + seconds
    while not counting.check_limits() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(counting.reached)


def test_hours_that_are_up_end_the_sweep_and_are_kept(tmp_path: Path, ledger: Ledger) -> None:
    counting = Budget(plan(tmp_path, hours=0.1 * SECOND), ledger, lambda: None)
    assert not counting.reached

    trained_until_stopped(counting)

    assert counting.reached.startswith("limits.hours: ")
    assert "limits.hours=" in counting.resume_hint
    spent = ledger.spent("tiny", "base")
    assert spent.hours >= 0.1 * SECOND
    assert spent.runs == 1


def test_a_second_run_begins_where_the_first_ended(tmp_path: Path, ledger: Ledger) -> None:
    trained_until_stopped(Budget(plan(tmp_path, hours=0.1 * SECOND), ledger, lambda: None))

    assert Budget(plan(tmp_path, hours=0.1 * SECOND), ledger, lambda: None).reached
    higher = Budget(plan(tmp_path, hours=0.4 * SECOND), ledger, lambda: None)
    assert not higher.reached
    trained_until_stopped(higher)

    assert "by 2 runs of this sweep" in higher.reached
    assert ledger.spent("tiny", "base").runs == 2
    assert ledger.spent("tiny", "quick").runs == 0, "another scale has its own"


def test_money_is_hours_times_what_the_machines_cost(tmp_path: Path, ledger: Ledger) -> None:
    counting = Budget(plan(tmp_path, cost=1.0), ledger, lambda: Price(per_hour=3600 * 10))

    trained_until_stopped(counting)

    spent = ledger.spent("tiny", "base")
    assert spent.cost >= 1.0
    assert spent.cost == pytest.approx(spent.hours * 3600 * 10)
    assert counting.reached.startswith("limits.cost: ")


def test_machines_of_unknown_price_stop_a_sweep_that_limits_money(tmp_path: Path, ledger: Ledger) -> None:
    counting = Budget(plan(tmp_path, cost=1.0), ledger, lambda: Price(0.0, priced=0, unpriced=3))

    trained_until_stopped(counting)

    assert counting.reached == "limits.cost: of none of the 3 machines a price is known"
    assert "limits.price_per_hour" in counting.resume_hint


def test_a_cluster_that_does_not_answer_yet_stops_nothing(tmp_path: Path, ledger: Ledger) -> None:
    def starting() -> Price:
        raise RuntimeError("Ray is starting")

    with Budget(plan(tmp_path, cost=1.0), ledger, starting) as counting:
        assert not asks_for(0.1, counting)


def not_asked() -> Price:
    raise RuntimeError("the head is busy")


@pytest.mark.parametrize(
    ("rate", "whose"),
    [(lambda: Price(0.0, 0, unpriced=2, unanswered=2), "none of the 2 machines"), (not_asked, "no machine")],
)
def test_machines_that_do_not_say_what_they_are_stop_a_sweep_that_limits_money_in_the_end(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, rate: Callable[[], Price], whose: str
) -> None:
    with Budget(plan(tmp_path, cost=1.0), ledger, rate) as patient:
        assert not asks_for(0.1, patient)

    monkeypatch.setattr(price_watch, "NO_PRICE_SECONDS", 0.2)
    counting = Budget(plan(tmp_path, cost=1.0), ledger, rate)
    trained_until_stopped(counting)

    assert counting.reached == f"limits.cost: of {whose} a price is known"
    assert "limits.price_per_hour" in counting.resume_hint


def test_a_machine_that_does_not_answer_leaves_the_prices_of_the_others(tmp_path: Path, ledger: Ledger) -> None:
    counting = Budget(plan(tmp_path, cost=1.0), ledger, lambda: Price(3600 * 10, 1, unpriced=1, unanswered=1))

    trained_until_stopped(counting)

    assert counting.reached.startswith("limits.cost: 1")
    assert counting.unpriced == 1


def test_a_sweep_without_limits_counts_nothing(tmp_path: Path, ledger: Ledger) -> None:
    with Budget(plan(tmp_path), ledger, lambda: None) as counting:
        assert not asks_for(0.05, counting)

    assert not (tmp_path / "runs" / "tiny.spent").exists()


def test_two_runs_at_once_keep_each_others_count(ledger: Ledger) -> None:
    one, other = RunSpending("a", "base", 0.0, 1.0, 2.0), RunSpending("b", "base", 0.0, 3.0, 4.0)
    for run in (one, other, RunSpending("a", "base", 0.0, 5.0, 6.0)):
        ledger.save_spending("tiny", run)

    assert ledger.spent("tiny", "base") == (8.0, 10.0, 2)


def test_what_a_run_noted_in_one_file_with_others_still_counts(ledger: Ledger) -> None:
    ledger.keep("tiny.spent.json", SPENDING.serialize([RunSpending("a", "base", 0.0, 1.0, 2.0)]))
    ledger.save_spending("tiny", RunSpending("b", "base", 0.0, 3.0, 4.0))

    assert ledger.spent("tiny", "base") == (4.0, 6.0, 2)


def test_what_another_run_spends_meanwhile_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ledger: Ledger
) -> None:
    monkeypatch.setattr(allowance, "SPENDING_NOTE_SECONDS", 0.02)
    counting = Budget(plan(tmp_path, hours=2.0), ledger, lambda: None)
    ledger.save_spending("tiny", RunSpending("other", "base", 0.0, 50.0, 0.0))

    trained_until_stopped(counting)

    assert counting.reached == "limits.hours: 50 of 2 hours were spent by 2 runs of this sweep"
    assert "--set limits.hours=76, " in counting.resume_hint


def test_counting_goes_on_until_the_sweep_has_ended(tmp_path: Path, ledger: Ledger) -> None:
    with Budget(plan(tmp_path, hours=0.05 * SECOND), ledger, lambda: None) as counting:
        assert asks_for(LONGEST_SECONDS, counting)
        time.sleep(0.4)  # checkpoints are written

    assert ledger.spent("tiny", "base").hours > 0.4 * SECOND


def test_a_damaged_count_is_named(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "runs" / "tiny.spent").mkdir(parents=True)
    (tmp_path / "runs" / "tiny.spent" / "a.json").write_text('[{"run": 1}]')

    with pytest.raises(WorkError, match=r"tiny\.spent/a\.json: damaged"):
        ledger.spent("tiny", "base")
