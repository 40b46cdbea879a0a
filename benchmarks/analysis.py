"""Time and memory of `gapctl analyze` on a ledger of 10,000 trials with 200 evaluations each, as a whole process.

python benchmarks/analysis.py [--rounds 3] [--json FILE]

The ledger is what the ledger's own calls write, without their wait for the disk after each file: every metric that a
trial of MAD has, in its result and in each row of its history. The peer is the loop of a notebook, with pandas: for
each folder it opens `trial.yaml`, `result.json` and `history.parquet`, one trial after another, and holds all of it in
tables; it judges nothing. Both read from the system's cache.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from gapctl.cli.options import load_plan
from many_trials import fill_folder
from process_cost import Cost, measured, middle
from row import Row, write_rows

TRIALS, EVALUATIONS = 10_000, 200
SECONDS, MEGABYTES, VERDICTS = 2.5, 600.0, 2
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
        fill_folder(runs, load_plan(file, None, None), EVALUATIONS, means=False)
        verdicts = middle([analyze_once(file, runs) for _ in range(arguments.rounds)])
        histories = analyze_once(file, runs, "--export-history", str(Path(name) / "history.parquet"))
        rows = rows_of(verdicts, histories, notebook_once(runs))
    for row in rows:
        beside = f"limit {row.target:g}" if row.peer is None else f"{row.peer_name}: {row.peer:,.1f} {row.unit}"
        print(f"{row.what}: {row.ours:,.1f} {row.unit} ({beside})")
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
