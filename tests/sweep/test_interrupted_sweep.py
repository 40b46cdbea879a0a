"""A sweep that is interrupted, its trials packed, keeps what it has and says so."""

import signal
import time
from pathlib import Path

import pytest

from sweeping import start_sweep, wait_until

pytestmark = pytest.mark.timeout(900)


def files(folder: Path, pattern: str) -> list[Path]:
    return list((folder / "runs").glob(pattern))


def test_an_interrupted_sweep_saves_where_it_stands_and_says_how_to_go_on(tmp_path: Path) -> None:
    longer = ["--set", "base.train.samples=102_400", "--set", "base.evaluate.every=2_560", "--set", "resources.pack=2"]
    process = start_sweep(tmp_path, *longer)
    wait_until(lambda: sum(saved > 0 for saved in _saved(tmp_path)) == 2, process)
    time.sleep(1.0)  # for steps that no evaluation has saved yet
    before = max(_saved(tmp_path))
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]

    assert process.returncode == 130, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    assert max(_saved(tmp_path)) > before, "it saved where it stood, beyond what its last evaluation had left"
    assert len({path.parent.parent for path in files(tmp_path, "*/checkpoints/0*.pt")}) == 2
    assert not files(tmp_path, "*/lease.json")


def _saved(folder: Path) -> list[int]:
    """How many samples had been trained on, by checkpoint."""
    return [int(path.stem) for path in files(folder, "*/checkpoints/0*.pt")]
