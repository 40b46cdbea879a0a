"""A sweep among accidents ends as one in peace: the short form of benchmarks/fault_drill.py, which has more of them."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from drill.outcome import Happened, Outcome
from drill.schedule import LONG, schedule

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
