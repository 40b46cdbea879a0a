"""Time and memory of `gapctl analyze` on a ledger of 10,000 trials with 200 evaluations each, as a whole process.

python benchmarks/analysis.py [--rounds 3] [--json FILE] [--keep FOLDER]

The ledger is what the ledger's own calls write, byte for byte, without waiting for the disk after each file: every
metric that a trial of MAD has, in its result and in all 200 rows of its history. The peer is the loop that one would
write in a notebook: each trial's files read one after another, its configuration as YAML, then the same verdicts.
Files come from the system's cache for both; a page that opens a cold disk waits for the disk as well.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from gapctl.cli.context import plan_for
from gapctl.ledger import Ledger, Result
from gapctl.ledger.result import to_json
from gapctl.ledger.trial_folder import describe
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.vocabulary import METRICS

TRIALS, EVALUATIONS, HISTORIES = 10_000, 200, 16
SECONDS, MEGABYTES, REPORT_SECONDS = 5.0, 600.0, 60.0
ATTRIBUTES = "data.captions.attributes"
SWEEP = """\
name: ten-thousand
question: How long do the verdicts of 10,000 trials take?
base: {train: {samples: 51_200}}
vary:
  data.captions.attributes: [0, 1, 2, 3, 4]
  temperature.init: [0.02, 0.05, 0.07, 0.1]
  model.embed_dim: [8, 16, 32, 64, 128]
seeds: 100
hypotheses:
  - {id: gap, claim: It closes., test: trend, response: gap/rmg, factor: data.captions.attributes,
     direction: decreasing, smallest_effect: 0.02}
  - {id: bias, claim: It vanishes., test: contrast, response: bias/moad_image, factor: data.captions.attributes,
     between: [0, 4], direction: decreasing, smallest_effect: 0.05}
"""


class Cost(NamedTuple):
    """What one process took."""

    seconds: float
    megabytes: float


def fill(runs: Path, plan: Plan) -> None:
    """A finished ledger; a few histories are shared by all trials, as drawing each anew would take minutes."""
    rng = np.random.default_rng(0)
    histories = [_history(rng) for _ in range(HISTORIES)]
    Ledger(str(runs)).declare(plan)
    for index, trial in enumerate(plan.trials):
        folder = runs / trial.id
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "trial.yaml").write_text(yaml.dump(describe(trial), sort_keys=False, Dumper=yaml.CSafeDumper))
        (folder / "history.parquet").write_bytes(histories[index % HISTORIES])
        (folder / "checkpoints" / "final.pt").write_bytes(b"")
        (folder / "result.json").write_bytes(to_json(_result(trial, rng)))


def _result(trial: Trial, rng: np.random.Generator) -> Result:
    level = float(trial.config.data.captions.attributes)
    drawn = rng.normal(0.0, 0.02, len(METRICS))
    metrics = {name: 0.5 - 0.05 * level + float(noise) for name, noise in zip(METRICS, drawn, strict=True)}
    hardware: dict[str, str | int] = {"device": "cpu", "name": "made up", "threads": 1, "precision": "float32"}
    return Result(trial.id, metrics, 51_200, 20.0, {"python": "3.11.7", "torch": "2.8.0"}, hardware)


def _history(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    samples = np.linspace(0, 51_200, EVALUATIONS).astype(int)
    columns: dict[str, npt.NDArray[np.float64]] = {name: rng.normal(0.4, 0.05, EVALUATIONS) for name in METRICS}
    pl.DataFrame({"samples_seen": samples, "seconds": samples / 2_500.0, **columns}).write_parquet(buffer)
    return buffer.getvalue()


def analyze_once(file: Path, runs: Path, *options: str) -> Cost:
    """Runs the command and checks that it judged every trial."""
    command = [sys.executable, "-m", "gapctl", "analyze", str(file), "--runs", str(runs), "--json", *options]
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        output.seek(0)
        found = json.loads(output.read() or "{}")
    if process.returncode or found.get("trials_done") != TRIALS:
        raise SystemExit(f"gapctl analyze ended with {process.returncode} after {found.get('trials_done')} trials")
    return Cost(seconds, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    f = Path("/tmp/verb/bench")
    f.mkdir(exist_ok=True)
    (f / "sweep.yaml").write_text(SWEEP)
    t = time.time()
    fill(f / "runs", plan_for(f / "sweep.yaml", None, None))
    print("filled", time.time() - t)
    print(analyze_once(f / "sweep.yaml", f / "runs"))
