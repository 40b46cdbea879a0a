"""Requests and bytes of one small training of MAD whose ledger lies in a bucket: moto's, beside this process.

    python benchmarks/bucket_requests.py [--verb train] [--trials 2] [--samples 5120] [--json FILE]

`train` trains by itself; `sweep` also has the driver, MLflow's thread, the verdicts and the report, which belong to all
trials together. Longer trainings have more: a lease is renewed every ten seconds, a checkpoint written every 30 s.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from row import Row, write_rows
from s3_server import BUCKET, serve_bucket

SWEEP = """\
name: in-a-bucket
question: How many requests does a training make?
base:
  train: {{samples: {samples}, batch_size: 128}}
  evaluate: {{every: {every}, gallery: 512}}
vary: {{data.captions.attributes: [0, 5]}}
seeds: {seeds}
resources: {{cpus: 1}}
"""
EVALUATIONS = 5
WHY = "each evaluation writes history, steps and use of the machine, and is read again for MLflow"


def list_commands(verb: str, file: Path, tracking: str) -> list[list[str]]:
    """Return the commands that train every trial of the file."""
    if verb == "sweep":
        return [["sweep", str(file), "--set", f"tracking.uri={tracking}"]]
    plan = [sys.executable, "-m", "gapctl", "plan", str(file), "--json"]
    trials = json.loads(subprocess.run(plan, check=True, capture_output=True).stdout)["trials"]
    return [["train", str(file), "--trial", trial["id"]] for trial in trials]


def main() -> None:
    """Prints the figures per trial, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--verb", choices=["train", "sweep"], default="sweep")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--samples", type=int, default=5_120)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, serve_bucket() as server:
        file, tracking = Path(name) / "sweep.yaml", f"sqlite:///{Path(name) / 'mlflow.db'}"
        every, seeds = arguments.samples // EVALUATIONS, max(1, arguments.trials // 2)
        file.write_text(SWEEP.format(samples=arguments.samples, every=every, seeds=seeds), encoding="utf-8")
        commands = list_commands(arguments.verb, file, tracking)[: arguments.trials]
        before = server.count_requests()
        for words in commands:
            command = [sys.executable, "-m", "gapctl", *words, "--runs", f"s3://{BUCKET}/runs"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        counted = server.count_requests() - before
    each = counted.total / arguments.trials
    print(f"{arguments.trials} trials by {arguments.verb}, {each:.0f} requests each{counted.describe()}")
    what = f"a training in a bucket by {arguments.verb}"
    megabytes = counted.bytes_up / 1e6 / arguments.trials
    rows = [
        Row(f"{what}, requests", "", each, WHY, better="lower"),
        Row(f"{what}, up", "MB", megabytes, "weights and checkpoints", better="lower"),
    ]
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
