"""A sweep that is interrupted, its trials packed, keeps what it has and says so."""

import json
import signal
from pathlib import Path

import pytest

from sweeping import start_sweep, wait_until

pytestmark = pytest.mark.timeout(900)


def files(folder: Path, pattern: str) -> list[Path]:
    return list((folder / "runs").glob(pattern))


def test_an_interrupted_sweep_saves_where_it_stands_and_says_how_to_go_on(tmp_path: Path) -> None:
    longer = ["--set", "base.train.samples=40_960", "--set", "base.evaluate.every=40_960", "--set", "resources.pack=2"]
    process = start_sweep(tmp_path, *longer)
    wait_until(lambda: any(_samples(path) > 0 for path in files(tmp_path, "*/lease.json")), process)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]

    assert process.returncode == 130, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    newest = [int(path.stem) for path in files(tmp_path, "*/checkpoints/0*.pt")]
    assert max(newest) > 0
    assert len({path.parent.parent for path in files(tmp_path, "*/checkpoints/0*.pt")}) == 2
    assert not files(tmp_path, "*/lease.json")


def _samples(path: Path) -> int:
    try:
        return int(json.loads(path.read_text())["samples_seen"])
    except (OSError, ValueError):
        return 0
