"""Time to show a ledger of 500 finished trials in MLflow, as a whole process: `gapctl track sync` on a new database.

python benchmarks/tracking.py [--rounds 1] [--json FILE]

Trials have six evaluations of every metric that a trial of MAD has. The peer is a script that logs the same numbers,
parameters, tags and `trial.yaml` by MLflow's usual calls, one `log_metrics` an evaluation; it makes no models, no
report and no verdicts. Beside it stands how long the same command takes again, when nothing is left to write.

On two cores that other work shared (a load of 3 to 5): 97 s, of which the process computed 65; the script 107 s; the
command again 19 s. MLflow handles a number in some 0.1 ms, and there are 220,000.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from gapctl.cli.options import load_plan
from many_trials import fill_folder
from process_cost import measured
from row import Row, write_rows

TRIALS, EVALUATIONS = 500, 6
LIMIT = 60.0
SWEEP = """\
name: five-hundred
question: How long does it take to show 500 trials?
base: {train: {samples: 51_200}}
vary:
  data.captions.attributes: [0, 1, 2, 3, 4]
  temperature.init: [0.02, 0.05, 0.07, 0.1]
seeds: 25
hypotheses:
  - {id: gap, claim: It closes., test: trend, response: gap/rmg, factor: data.captions.attributes,
     direction: decreasing, smallest_effect: 0.02}
"""
SCRIPT = """
import json, pathlib, sys
import mlflow, pandas as pd, yaml
runs, store = sys.argv[1:]
mlflow.set_tracking_uri(store)
mlflow.set_experiment("five-hundred")
for folder in sorted(pathlib.Path(runs).iterdir()):
    if folder.is_dir():
        trial = yaml.safe_load((folder / "trial.yaml").read_text())
        history = pd.read_parquet(folder / "history.parquet")
        with mlflow.start_run(run_name=trial["label"]):
            mlflow.set_tags({"trial": trial["trial"], "seed": trial["seed"]})
            mlflow.log_params(pd.json_normalize(trial["config"]).iloc[0].to_dict())
            for row in history.to_dict("records"):
                mlflow.log_metrics(row, step=int(row["samples_seen"]))
            mlflow.log_artifact(str(folder / "trial.yaml"))
print(sum(1 for _ in pathlib.Path(runs).glob("*/trial.yaml")))
"""


def sync_once(file: Path, runs: Path, store: str, expected: str) -> float:
    """Runs the command and checks what it says; seconds."""
    sync = ("track", "sync", str(file), "--runs", str(runs), "--uri", store)
    cost, output = measured([sys.executable, "-m", "gapctl", *sync])
    if expected not in output.decode():
        raise SystemExit(f"expected {expected!r}, found {output.decode()!r}")
    return cost.seconds


def script_once(runs: Path, store: str) -> float:
    """The peer; seconds."""
    cost, output = measured([sys.executable, "-W", "ignore", "-c", SCRIPT, str(runs), store])
    if output.split()[-1:] != [str(TRIALS).encode()]:
        raise SystemExit(f"the script logged {output.decode()}")
    return cost.seconds


def main() -> None:
    """Prints the rows, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    first, again, script = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, runs = folder / "sweep.yaml", folder / "runs"
        file.write_text(SWEEP, encoding="utf-8")
        fill_folder(runs, load_plan(file, None, None), EVALUATIONS, means=False)
        for place in range(arguments.rounds):
            store = f"sqlite:///{folder / f'ours{place}.db'}"
            first.append(sync_once(file, runs, store, f"{TRIALS} created"))
            again.append(sync_once(file, runs, store, f"{TRIALS} unchanged"))
            script.append(script_once(runs, f"sqlite:///{folder / f'script{place}.db'}"))
            print(f"round {place}: {first[-1]:.1f} s, again {again[-1]:.1f} s, script {script[-1]:.1f} s", flush=True)
    ours, peer = median(first), median(script)
    print(json.dumps({"sync": ours, "again": median(again), "script": peer}))
    what, why = f"{TRIALS} trials shown in MLflow", "MLflow's own handling of each metric"
    rows = [
        Row(what, "s", ours, why, "a script's own MLflow calls", peer, peer / ours, better="lower"),
        Row(f"{what}, limit", "s", ours, why, target=LIMIT, better="lower"),
        Row("the same again, nothing to write", "s", median(again), why, better="lower"),
    ]
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
