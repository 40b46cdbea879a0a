"""The drill's own questions: each broken promise is noticed, and a ledger that keeps them all passes."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from drill.drilled_sweep import DrilledSweep
from drill.processes import came_true
from drill.promises import in_the_ledger, in_the_ledger_of_workers, in_the_tracking_server
from drill.watch import Watch
from gapctl.ledger import LeaseOwner, Ledger, Result
from gapctl.ledger.trial import RESULT_FILE

ROWS = ({"samples_seen": 0, "gap/rmg": 0.75, "seconds": 0.5}, {"samples_seen": 128, "gap/rmg": 0.5, "seconds": 1.5})


def finish(
    sweep: DrilledSweep, seconds: float, metrics: Mapping[str, float] | None = None, stretches: str = "2 workers to 128"
) -> None:
    """Every trial of it, with the same numbers but for times."""
    for trial in sweep.plan.trials:
        folder = Ledger(sweep.runs).trial(trial.id)
        folder.begin(trial)
        folder.save_history([{**row, "seconds": seconds * row["seconds"]} for row in ROWS])
        final = dict(metrics or {"gap/rmg": 0.5, "bias/moad_image": math.nan})
        folder.finish(Result(trial.id, final, 128, seconds, {}, {"stretches": stretches}), weights=b"")


@pytest.fixture
def sweeps(tmp_path: Path) -> tuple[DrilledSweep, DrilledSweep]:
    """One drilled and one in peace, both finished."""
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"
    drilled, quiet = (
        DrilledSweep(tmp_path, name, str(tmp_path / name), tracking, trials=2, samples=256)
        for name in ("drill", "quiet")
    )
    finish(drilled, 3.0)
    finish(quiet, 1.0)
    return drilled, quiet


def test_equal_numbers_pass_whatever_time_they_took(sweeps: tuple[DrilledSweep, DrilledSweep]) -> None:
    assert in_the_ledger(*sweeps) == []


CHANGED = "2 workers to 64, 1 worker to 128"


@pytest.mark.parametrize(("value", "broken"), [(0.5, False), (0.5009, False), (0.5011, True), (math.nan, True)])
def test_numbers_may_be_a_little_off_where_the_number_of_workers_changed(
    sweeps: tuple[DrilledSweep, DrilledSweep], value: float, broken: bool
) -> None:
    assert in_the_ledger_of_workers(*sweeps) == ([], 2)

    finish(sweeps[0], 1.0, {"gap/rmg": value, "bias/moad_image": math.nan}, CHANGED)
    found, exact = in_the_ledger_of_workers(*sweeps)

    assert exact == 0
    assert [line.split(":")[0] for line in found] == (sweeps[0].ids if broken else [])


def test_where_it_did_not_change_no_bit_may_be_off(sweeps: tuple[DrilledSweep, DrilledSweep]) -> None:
    finish(sweeps[0], 1.0, {"gap/rmg": math.nextafter(0.5, 1.0), "bias/moad_image": math.nan})

    assert len(in_the_ledger_of_workers(*sweeps)[0]) == 2


def with_other_numbers(drilled: DrilledSweep) -> None:
    finish(drilled, 1.0, {"gap/rmg": math.nextafter(0.5, 1.0), "bias/moad_image": math.nan})


def without_a_result(drilled: DrilledSweep) -> None:
    (Path(drilled.runs) / drilled.ids[0] / RESULT_FILE).unlink()


def with_another_history(drilled: DrilledSweep) -> None:
    Ledger(drilled.runs).trial(drilled.ids[0]).save_history(ROWS[1:])


def with_a_lease(drilled: DrilledSweep) -> None:
    Ledger(drilled.runs).trial(drilled.ids[0]).acquire(LeaseOwner.for_sweep("drill"))


def with_a_failure(drilled: DrilledSweep) -> None:
    Ledger(drilled.runs).trial(drilled.ids[0]).fail("ValueError: it broke")


@pytest.mark.parametrize(
    "spoil", [with_other_numbers, without_a_result, with_another_history, with_a_lease, with_a_failure]
)
def test_each_broken_promise_is_named(
    spoil: Callable[[DrilledSweep], None], sweeps: tuple[DrilledSweep, DrilledSweep]
) -> None:
    spoil(sweeps[0])

    assert any(sweeps[0].ids[0] in line for line in in_the_ledger(*sweeps))


@pytest.mark.slow
def test_mlflow_is_held_against_the_ledger_after_a_sync(
    sweeps: tuple[DrilledSweep, DrilledSweep], tmp_path: Path
) -> None:
    assert in_the_tracking_server(sweeps[0], f"sqlite:///{tmp_path / 'mlflow.db'}") == []


def test_the_watch_tells_holders_results_and_what_is_finished_a_second_time(
    sweeps: tuple[DrilledSweep, DrilledSweep],
) -> None:
    drilled, _ = sweeps
    without_a_result(drilled)
    first, second = drilled.plan.trials
    folder = Ledger(drilled.runs).trial(first.id)
    watch = Watch(drilled.runs, drilled.ids)
    assert came_true(lambda: watch.finished == 1, 30)
    folder.acquire(LeaseOwner.for_sweep("drill"))
    assert came_true(lambda: list(watch.in_training()) == [first.id], 30)
    assert watch.unsaved_seconds(first.id) < 60

    folder.finish(Result(first.id, {"gap/rmg": 0.5}, 128, 1.0, {}, {}), weights=b"")
    assert came_true(lambda: watch.finished == 2, 30)
    assert not watch.trials[first.id].finished_twice
    Ledger(drilled.runs).trial(second.id).finish(Result(second.id, {"gap/rmg": 0.25}, 128, 1.0, {}, {}), weights=b"")
    watch.end()

    assert [len(watch.trials[each.id].holders) for each in (first, second)] == [1, 0]
    assert watch.trials[second.id].finished_twice
    assert not watch.trials[first.id].finished_twice
