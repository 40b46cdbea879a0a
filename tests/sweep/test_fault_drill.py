"""A sweep among accidents ends as one in peace: the short forms of benchmarks/fault_drill.py, which has longer ones."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from drill.outcome import Happened, Outcome
from drill.processes import came_true
from drill.schedule import LONG, schedule
from drill.worker_schedule import SLOWING, WORKERS_LONG, WorkerFault, worker_schedule
from drill.workers_run import Attended

REPOSITORY = Path(__file__).parents[2]
LONGEST_SECONDS = 3_600


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_SECONDS)
def test_a_sweep_among_accidents_ends_as_in_peace(tmp_path: Path) -> None:
    """In a process of its own, which adopts whatever is orphaned."""
    command = [sys.executable, "benchmarks/fault_drill.py", "--short"]
    done = subprocess.run(
        [*command, "--markdown", str(tmp_path / "table.md")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "over 4 trials" in (tmp_path / "table.md").read_text()
    assert "| driver killed | 1 | 1 |" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(2 * LONGEST_SECONDS)
def test_trials_on_two_workers_end_among_accidents_as_in_peace(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/fault_drill.py", "--workers", "2", "--short"]
    done = subprocess.run(
        [*command, "--markdown", str(tmp_path / "table.md")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=2 * LONGEST_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    table = (tmp_path / "table.md").read_text()
    assert "8 faults over 2 trials" in table
    assert "| worker frozen | 1 | 1 |" in table


def test_faults_of_workers_come_in_a_trial_s_first_and_last_step_and_in_every_kind_of_moment() -> None:
    dealt, again = (worker_schedule(WORKERS_LONG, 4, 400, 3, seed=1) for _ in range(2))
    faults = [fault for each in dealt for fault in each]

    assert dealt == again != worker_schedule(WORKERS_LONG, 4, 400, 3, seed=2)
    assert len(faults) == 100
    assert Counter(fault.kind for fault in faults) == Counter(WORKERS_LONG)
    assert {fault.moment for fault in faults} == {"step", "evaluation", "checkpoint"}
    for each in dealt:
        steps = [fault.step for fault in each]
        assert steps == sorted(set(steps))
        assert (steps[0], steps[-1], each[0].moment, each[-1].moment) == (0, 399, "step", "step")


def test_the_number_of_workers_changes_in_whole_rounds_and_leaves_trials_whose_number_never_did() -> None:
    dealt = worker_schedule(WORKERS_LONG, 4, 400, 3, seed=1)
    changes = [sum(fault.kind == "number changed" for fault in each) for each in dealt]

    assert changes[0] == changes[2] == 0
    assert all(number and number % 3 == 0 for number in (changes[1], changes[3]))


@pytest.mark.parametrize("seed", range(20))
def test_no_checkpoint_is_awaited_of_a_process_that_was_slow_in_one(seed: int) -> None:
    dealt = worker_schedule(WORKERS_LONG, 4, 400, 3, seed)
    in_order = [fault for faults in dealt for fault in faults]

    assert any(fault.kind == "worker slow" and fault.moment == "checkpoint" for fault in in_order)
    for faults in dealt:
        was_slow = False
        for fault in faults:
            assert not (was_slow and fault.moment == "checkpoint")
            was_slow = fault.kind in SLOWING and (was_slow or fault.moment == "checkpoint")


@pytest.fixture
def gates() -> ModuleType:
    """The file that drilled processes begin with; here it patches nothing."""
    path = REPOSITORY / "tests" / "drill" / "gate" / "sitecustomize.py"
    spec = importlib.util.spec_from_file_location("gates_of_the_drill", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "order",
    [
        {"moment": "evaluation", "step": 0, "rank": 0},
        {"moment": "step", "step": 5, "rank": 0},
        {"moment": "step", "step": 4, "rank": 1},
    ],
)
def test_a_gate_is_open_for_all_but_the_one_that_an_order_names(
    gates: Any, order: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    gate = gates.Gate(str(tmp_path))
    gate._trial, gate._step = "a", 4
    (tmp_path / "order-a.json").write_text(json.dumps(order))

    gate.enter("step")

    assert not (tmp_path / "reached.json").exists()
    assert json.loads((tmp_path / "worker-0.json").read_text())["pid"] == os.getpid()


def test_the_one_that_an_order_names_waits_until_it_is_gone(gates: Any, tmp_path: Path) -> None:
    gate = gates.Gate(str(tmp_path))
    gate._trial, gate._step = "a", 4
    order = tmp_path / "order-a.json"
    order.write_text(json.dumps({"moment": "step", "step": 3, "rank": 0}))
    standing = threading.Thread(target=gate.enter, args=("step",), daemon=True)

    standing.start()
    assert came_true((tmp_path / "reached.json").exists, 60.0)
    assert standing.is_alive()
    order.unlink()
    standing.join(timeout=60.0)
    assert not standing.is_alive()


def test_a_trial_that_was_lost_twice_at_one_checkpoint_waits_for_another_before_the_next_fault(tmp_path: Path) -> None:
    """Three losses at one place are forgiven, and the drill's own load may cause one."""
    gate, checkpoints = tmp_path / "gate", tmp_path / "runs" / "a" / "checkpoints"
    gate.mkdir()
    checkpoints.mkdir(parents=True)
    order, fault = gate / "order-a.json", WorkerFault("worker killed", "evaluation", 8, 3, 2.0)
    sweep: Any = SimpleNamespace(runs=str(tmp_path / "runs"))
    attended = Attended(None, sweep, None, Outcome(1, 0.0), gate, print)  # type: ignore[arg-type]

    attended._give_orders({"a": [fault], "b": []})
    assert json.loads(order.read_text()) == {"moment": "evaluation", "step": 8, "rank": 0}
    assert not (gate / "order-b.json").exists()
    order.unlink()
    attended._losses["a"] = 2
    attended._give_orders({"a": [fault]})
    assert not order.exists()
    (checkpoints / "000000000128.pt").touch()
    attended._give_orders({"a": [fault]})
    assert order.exists()


def test_a_schedule_is_its_seed_s() -> None:
    first, again, other = schedule(LONG, 1), schedule(LONG, 1), schedule(LONG, 2)

    assert first == again != other
    assert Counter(fault.kind for fault in first) == Counter(LONG)
    assert len(first) >= 50


def test_the_table_sums_what_happened_and_says_what_was_broken() -> None:
    happened = [
        Happened("driver killed", 10.0, 20.0, 1.5),
        Happened("driver killed", 50.0, None, 0.0),
        Happened("disk full", 90.0, 8.0, 0.25),
    ]
    outcome = Outcome(4, 60.0, 200.0, commands=3, attempts=6, happened=happened, problems=["nothing went on"])

    lines = outcome.markdown().splitlines()

    assert "| driver killed | 2 | 1 | 20 | 20 | 1.5 |" in lines
    assert "| all | 3 | 2 | 20 | 20 | 1.8 |" in lines
    assert "3 faults over 4 trials in 200 s" in lines[-1]
    assert "cost 140 s" in lines[-1]
    assert "1 promise was broken" in lines[-1]
