"""What a sweep of short trials costs beyond their own training: 48 trials that train for about a second each.

    python benchmarks/sweep_overhead.py [--json FILE]

The sweep is `gapctl sweep` as a user starts it, MLflow included. A trial's own time is what its result says it spent
on training and evaluation; what the driver, Ray and MLflow take from a trial's core meanwhile lengthens it, and so is
no part of the figure. The rest, from the moment the second trial of each slot could begin, is overhead: handing
out the trial, building its model and gallery, writing its files, and Tune's loop.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from row import Row, write_rows

TRIALS, SLOTS, LIMIT_MS = 48, 2, 50.0
SWEEP = """\
name: short-trials
question: What does a trial cost beyond its training?
base:
  train: {samples: 3_200, batch_size: 128}
  evaluate: {every: 3_200, gallery: 512}
vary:
  data.captions.attributes: [0, 1, 2, 3, 4, 5]
seeds: 8
resources: {cpus: 1}
"""


class Span(NamedTuple):
    """One trial: when it began and ended by its files, and the seconds that were its own."""

    began: float
    ended: float
    own: float


def run(folder: Path) -> float:
    """A sweep to its end in `folder`; seconds of wall time, start and analysis included."""
    file = folder / "sweep.yaml"
    file.write_text(SWEEP, encoding="utf-8")
    tracking = f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "gapctl", "sweep", str(file), "--runs", str(folder / "runs"), "--set", tracking]
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=900)
    return time.monotonic() - began


def spans(folder: Path) -> list[Span]:
    """Every finished trial, in the order of their beginnings."""
    found = []
    for path in (folder / "runs").glob("*/result.json"):
        own = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        found.append(Span((path.parent / "trial.yaml").stat().st_mtime, path.stat().st_mtime, own))
    return sorted(found)


def overhead(found: list[Span], slots: int) -> float:
    """Seconds per trial that were nobody's own, over all slots, the first trial of each left out."""
    later = found[slots:]
    first_free = min(span.ended for span in found[:slots])
    elapsed = max(span.ended for span in later) - first_free
    own_before = sum(max(0.0, span.ended - first_free) for span in found[:slots])
    return (elapsed * slots - own_before - sum(span.own for span in later)) / len(later)


def main() -> None:
    """Prints the overhead per trial, and writes it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    slots = min(SLOTS, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as name:
        wall = run(Path(name))
        found = spans(Path(name))
    if len(found) != TRIALS:
        raise SystemExit(f"{len(found)} of {TRIALS} trials were finished")
    own, per_trial = sum(span.own for span in found) / TRIALS, overhead(found, slots)
    print(
        f"{TRIALS} trials of {own:.2f} s, {slots} at a time, in {wall:.0f} s with Ray's start and the verdicts: "
        f"{1e3 * per_trial:.0f} ms of overhead each (limit {LIMIT_MS:.0f})"
    )
    why = "building the model, drawing the gallery and writing the trial's files; Tune hands out the next trial"
    row = Row("sweep, overhead per trial", "ms", 1e3 * per_trial, why, target=LIMIT_MS, better="lower")
    write_rows([row], arguments.json)


if __name__ == "__main__":
    main()
