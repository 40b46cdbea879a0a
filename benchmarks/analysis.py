"""Time and memory of `gapctl analyze` on a ledger of 10,000 trials with 200 evaluations each, as a whole process.

python benchmarks/analysis.py [--rounds 3] [--json FILE]

The ledger is what the ledger's own calls write, without their wait for the disk after each file: every metric that a
trial of MAD has, in its result and in each row of its history. The peer is the loop of a notebook, with pandas: for
each folder it opens `trial.yaml`, `result.json` and `history.parquet`, one trial after another, and holds all of it in
tables; it judges nothing. Both read from the system's cache.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import yaml

from gapctl.cli.options import load_plan
from gapctl.config.metrics import METRICS, is_analysis_metric, is_cross_trial_metric
from gapctl.ledger import Ledger, Result
from gapctl.ledger.json_files import serialize_result
from gapctl.ledger.trial import describe_trial
from gapctl.plan.plan import Plan, Trial
from process_cost import Cost, measured
from row import Row, write_rows

TRIALS, EVALUATIONS, HISTORIES = 10_000, 200, 16
SECONDS, MEGABYTES, VERDICTS = 5.0, 600.0, 2
LOGGED = [name for name in METRICS if not (is_analysis_metric(name) or is_cross_trial_metric(name))]
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
NOTEBOOK = """
import json, pathlib, sys
import pandas as pd
import yaml
rows, histories = [], []
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    if folder.is_dir():
        trial = yaml.safe_load((folder / "trial.yaml").read_text())
        result = json.loads((folder / "result.json").read_text())
        settings = pd.json_normalize(trial).iloc[0]
        rows.append({**settings, **result["metrics"], "seconds": result["seconds"]})
        histories.append(pd.read_parquet(folder / "history.parquet").assign(trial=trial["trial"]))
trials, history = pd.DataFrame(rows), pd.concat(histories, ignore_index=True)
print(len(trials), len(history))
"""


def fill(runs: Path, plan: Plan) -> None:
    """A finished ledger; a few histories are shared by all trials, as drawing each anew would take minutes."""
    rng = np.random.default_rng(0)
    histories = [_history(rng) for _ in range(HISTORIES)]
    Ledger(str(runs)).declare_plan(plan)
    for index, trial in enumerate(plan.trials):
        folder = runs / trial.id
        folder.mkdir()
        configured = yaml.dump(describe_trial(trial), sort_keys=False, Dumper=yaml.CSafeDumper)
        (folder / "trial.yaml").write_text(configured, encoding="utf-8")
        (folder / "history.parquet").write_bytes(histories[index % HISTORIES])
        (folder / "result.json").write_bytes(serialize_result(make_result(trial, rng)))


def make_result(trial: Trial, rng: np.random.Generator) -> Result:
    """Make a trial's result with random metrics that fall with the attributes in captions."""
    level = float(trial.config.data.captions.attributes)
    drawn = rng.normal(0.0, 0.02, len(LOGGED))
    metrics = {name: 0.5 - 0.05 * level + float(noise) for name, noise in zip(LOGGED, drawn, strict=True)}
    hardware: dict[str, str | int] = {"device": "cpu", "name": "made up", "threads": 1, "precision": "float32"}
    return Result(trial.id, metrics, 51_200, 20.0, {"python": "3.11", "torch": "2.8"}, hardware)


def _history(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    samples = np.linspace(0, 51_200, EVALUATIONS).astype(int)
    columns = {name: rng.normal(0.4, 0.05, EVALUATIONS) for name in LOGGED}
    pl.DataFrame({"samples_seen": samples, "seconds": samples / 2_500.0, **columns}).write_parquet(buffer)
    return buffer.getvalue()


def analyze_once(file: Path, runs: Path, *options: str) -> Cost:
    """Runs the command and checks that it judged every trial."""
    command = [sys.executable, "-m", "gapctl", "analyze", str(file), "--runs", str(runs), "--json", *options]
    cost, output = measured(command)
    found = json.loads(output)
    if found["trials_done"] != TRIALS or len(found["verdicts"]) != VERDICTS:
        raise SystemExit(f"gapctl analyze judged {found['trials_done']} trials by {len(found['verdicts'])} hypotheses")
    return cost


def notebook_once(runs: Path) -> Cost:
    """The peer, which says how many trials and rows it read."""
    cost, output = measured([sys.executable, "-c", NOTEBOOK, str(runs)])
    if output.split() != [str(TRIALS).encode(), str(TRIALS * EVALUATIONS).encode()]:
        raise SystemExit(f"the notebook's loop read {output.decode()}")
    return cost


def middle(costs: Sequence[Cost]) -> Cost:
    """The medians of rounds."""
    return Cost(median(cost.seconds for cost in costs), median(cost.megabytes for cost in costs))


def rows_of(verdicts: Cost, histories: Cost, notebook: Cost) -> list[Row]:
    """The lines of the table."""
    what = f"{TRIALS:,} trials with {EVALUATIONS} evaluations"
    packages = "importing scipy and polars takes much of the time"
    numbers = "every metric of every evaluation is unpacked: 1 GB of numbers"
    loop = "a notebook's loop with pandas, no verdicts"
    faster, leaner = notebook.seconds / histories.seconds, notebook.megabytes / histories.megabytes
    tables = f"{what} to verdicts and a table of all evaluations"
    return [
        Row(f"{what} to verdicts, time", "s", verdicts.seconds, packages, target=SECONDS, better="lower"),
        Row(f"{what} to verdicts, memory", "MB", verdicts.megabytes, packages, target=MEGABYTES, better="lower"),
        Row(f"{tables}, time", "s", histories.seconds, numbers, loop, notebook.seconds, faster, better="lower"),
        Row("the same, memory", "MB", histories.megabytes, numbers, loop, notebook.megabytes, leaner, better="lower"),
    ]


def main() -> None:
    """Prints the rows, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file, runs = Path(name) / "sweep.yaml", Path(name) / "runs"
        file.write_text(SWEEP, encoding="utf-8")
        fill(runs, load_plan(file, None, None))
        verdicts = middle([analyze_once(file, runs) for _ in range(arguments.rounds)])
        histories = analyze_once(file, runs, "--export-history", str(Path(name) / "history.parquet"))
        rows = rows_of(verdicts, histories, notebook_once(runs))
    for row in rows:
        beside = f"limit {row.target:g}" if row.peer is None else f"{row.peer_name}: {row.peer:,.1f} {row.unit}"
        print(f"{row.what}: {row.ours:,.1f} {row.unit} ({beside})")
    if arguments.json:
        write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
