"""What the driver exports of a sweep: every trial in one state, and every process that was lost."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Plan, make_plan
from gapctl.sweep.gauges import SweepGauges
from gapctl.sweep.tuner import TuneEvents
from sweep_texts import TINY


class Exported(SweepGauges):
    """Keeps what it would hand to Ray, which does not run here."""

    def __init__(self, plan: Plan, done_before: int) -> None:
        super().__init__(plan.sweep.spec.name, plan.trials, done_before)
        self.values: dict[tuple[str, str], float] = {}

    def _set_gauge(self, name: str, value: float, tags: Mapping[str, str]) -> None:
        self.values[name, tags.get("state", "")] = value

    def _count_nodes(self) -> None:
        """There are none."""

    def states(self) -> dict[str, float]:
        return {state: value for (name, state), value in self.values.items() if name == "gapctl_trials"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    file = tmp_path / "small.yaml"
    file.write_text(TINY)
    return make_plan(load_sweep(file, overrides=["seeds=2"]), lambda data: "f" * 64)


def test_trials_are_done_running_failed_or_waiting(plan: Plan) -> None:
    gauges, (done, failed, running, *waiting) = Exported(plan, done_before=2), plan.trials

    for trial in (done, failed, running):
        gauges.note_start(trial)
    gauges.note_result(done, Result(done.id, {}, 0, 0.0, {}, {}))
    gauges.note_failure(failed, "ValueError: no")

    assert gauges.states() == {"done": 3, "running": 1, "failed": 1, "waiting": len(waiting)}
    gauges.note_start(failed)
    assert gauges.states()["failed"] == 0


def test_a_pack_that_lost_its_process_counts_the_trials_that_begin_anew(plan: Plan, tmp_path: Path) -> None:
    gauges, pack = Exported(plan, done_before=0), plan.trials[:2]
    events = TuneEvents({trial.id: trial for trial in plan.trials}, Ledger(str(tmp_path)), [gauges])
    tune_trial = SimpleNamespace(
        trial_id="0", config={"pack": [trial.id for trial in pack]}, num_failures=1, get_error=lambda: None
    )

    events.on_trial_recover(0, [], tune_trial)

    assert gauges.values["gapctl_lost_processes", ""] == 2
