"""A training on image-text pairs that is killed ten times ends as if nothing had been."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

SWEEP = """\
name: killed
question: Do kills change anything?
base:
  data: {dataset: cc12m, captions: {keep: words}}
  model: {preset: pairs-small, embed_dim: 32}
  train: {samples: 960, batch_size: 16}
  evaluate: {every: 32, gallery: 20}
vary: {train.lr: [1.0e-3]}
"""
KILLS = 10
LONGEST_SECONDS = 300.0


def command(folder: Path, runs: str) -> list[str]:
    arguments = ["train", str(folder / "sweep.yaml"), "--trial", trial_in(folder), "--runs", str(folder / runs)]
    return [sys.executable, "-m", "gapctl", *arguments]


def trial_in(folder: Path) -> str:
    plan = [sys.executable, "-m", "gapctl", "plan", str(folder / "sweep.yaml"), "--json"]
    found = json.loads(subprocess.run(plan, capture_output=True, text=True, check=True).stdout)
    return str(found["trials"][0]["id"])


def newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("*/checkpoints/0*.pt")), default="")


def result(folder: Path) -> tuple[str, bytes]:
    """The metrics as they are written, and the weights."""
    (path,) = folder.glob("*/result.json")
    return json.dumps(json.loads(path.read_text())["metrics"]), (path.parent / "checkpoints/final.pt").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_kills_at_random_moments_change_no_bit(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    quiet = subprocess.run(command(tmp_path, "quiet"), check=True, capture_output=True, timeout=LONGEST_SECONDS)
    assert b"leaked" not in quiet.stderr

    draws, went_on = random.Random(0), 0
    for _ in range(KILLS):
        before = newest(tmp_path / "killed")
        process = subprocess.Popen(command(tmp_path, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + LONGEST_SECONDS
        while newest(tmp_path / "killed") == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(draws.random())
        went_on += process.poll() is None
        process.kill()
        process.wait()
    subprocess.run(command(tmp_path, "killed"), check=True, capture_output=True, timeout=LONGEST_SECONDS)

    assert went_on >= KILLS // 2
    assert result(tmp_path / "killed") == result(tmp_path / "quiet")
