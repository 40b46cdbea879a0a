"""What `plan`, `status`, verdicts and the HTML report cost with 10,000 finished trials, each as a process of its own.

    python benchmarks/many_trials.py [--trials 10000] [--planned 100000] [--bucket] [--runs DIR] [--json FILE]

Trials have eight evaluations of every metric that a trial of MAD has, and their mean embeddings; numbers are drawn.
Beside wall time stands what the process computed, which other work on the machine changes less. With `--bucket` the
ledger lies in moto's S3 server, a process beside this one, and each command's requests are counted there. `--runs`
keeps the ledger in a folder, or takes one that is there already.
"""

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import yaml

from gapctl.cli.options import load_plan
from gapctl.config.metrics import METRICS, is_analysis_metric, is_cross_trial_metric
from gapctl.ledger import Ledger, LedgerSnapshot, Result
from gapctl.ledger.json_files import serialize_result
from gapctl.ledger.trial import DIMENSIONS, describe_trial
from gapctl.plan.plan import Plan, Trial
from process_cost import measured
from row import Row, write_rows
from s3_server import BUCKET, RequestCount, serve_bucket

ARMS, EVALUATIONS, SHARED = 100, 8, 16
LOGGED = [name for name in METRICS if not (is_analysis_metric(name) or is_cross_trial_metric(name))]
SWEEP = """\
name: many-trials
question: How long does it take to judge and show this many trials?
base: {{train: {{samples: 51_200}}}}
vary:
  data.captions.attributes: [0, 1, 2, 3, 4]
  temperature.init: [0.02, 0.05, 0.07, 0.1]
  model.embed_dim: [8, 16, 32, 64, 128]
seeds: {seeds}
hypotheses:
  - {{id: gap, claim: It closes., test: trend, response: gap/rmg, factor: data.captions.attributes,
     direction: decreasing, smallest_effect: 0.02}}
  - {{id: bias, claim: It vanishes., test: contrast, response: bias/moad_image, factor: data.captions.attributes,
     between: [0, 4], direction: decreasing, smallest_effect: 0.05}}
"""
LIMITS = {"plan": 3.0, "status": 10.0, "analyze": 10.0, "report": 15.0}
"""Seconds on an idle machine."""
WHY = {
    "plan": "a configuration is written for each trial",
    "status": "a result is parsed for each trial",
    "analyze": "a result is parsed for each trial",
    "report": "some forty charts are laid out, after what `analyze` does",
}


def list_files(plan: Plan, evaluations: int = EVALUATIONS, *, means: bool = True) -> Iterator[tuple[str, bytes]]:
    """Yield the files of finished trials below the ledger's root; a few tables are shared, as drawing takes minutes."""
    rng = np.random.default_rng(0)
    histories = [_history(rng, evaluations) for _ in range(SHARED)]
    dimensions = [_means(rng) for _ in range(SHARED)] if means else []
    for index, trial in enumerate(plan.trials):
        configured = yaml.dump(describe_trial(trial), sort_keys=False, Dumper=yaml.CSafeDumper)
        yield f"{trial.id}/trial.yaml", configured.encode()
        yield f"{trial.id}/history.parquet", histories[index % SHARED]
        if means:
            yield f"{trial.id}/{DIMENSIONS}", dimensions[index % SHARED]
        yield f"{trial.id}/result.json", serialize_result(make_result(trial, rng))


def make_result(trial: Trial, rng: np.random.Generator) -> Result:
    """Make a trial's result with random metrics that fall with the attributes in captions."""
    level = float(trial.factors["data.captions.attributes"])
    drawn = rng.normal(0.0, 0.02, len(LOGGED))
    metrics = {name: 0.5 - 0.05 * level + float(noise) for name, noise in zip(LOGGED, drawn, strict=True)}
    hardware: dict[str, str | int] = {"device": "cpu", "name": "made up", "threads": 1, "precision": "float32"}
    return Result(trial.id, metrics, 51_200, 20.0, {"python": "3.11", "torch": "2.8"}, hardware)


def _history(rng: np.random.Generator, evaluations: int) -> bytes:
    samples = np.linspace(0, 51_200, evaluations).astype(int)
    columns = {name: rng.normal(0.4, 0.05, evaluations) for name in LOGGED}
    return _parquet(pl.DataFrame({"samples_seen": samples, "seconds": samples / 2_500.0, **columns}))


def _means(rng: np.random.Generator, width: int = 64) -> bytes:
    columns = {name: rng.normal(0.0, 0.1, width) for name in ("image_mean", "text_mean")}
    return _parquet(pl.DataFrame(columns).with_row_index("dimension"))


def _parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def fill_folder(runs: Path, plan: Plan, evaluations: int = EVALUATIONS, *, means: bool = True) -> None:
    """Write a finished ledger into a folder, without the ledger's wait for the disk after each file."""
    Ledger(str(runs)).declare_plan(plan)
    for name, content in list_files(plan, evaluations, means=means):
        path = runs / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


class Measurement(NamedTuple):
    """One command: wall and computed seconds, memory, and the bucket's requests by kind."""

    command: str
    seconds: float
    computed: float
    megabytes: float
    requests: RequestCount


Counter = Callable[[], RequestCount]


def count_trials(command: str, said: dict[str, Any]) -> int:
    """Return how many trials a command's JSON is about."""
    if command == "plan":
        return len(said["trials"])
    return int(said["totals"]["done"] if command == "status" else said["trials_done"])


def measure_commands(folder: Path, runs: str, trials: int, count: Counter) -> list[Measurement]:
    """Run each command on the ledger, check what it says, and return what it cost."""
    file, page = folder / "sweep.yaml", folder / "report.html"
    commands = {
        "plan": ["plan", str(file), "--json"],
        "status": ["status", str(file), "--json"],
        "analyze": ["analyze", str(file), "--json"],
        "report": ["analyze", str(file), "--json", "--out", str(page)],
    }
    found = []
    for name, words in commands.items():
        before = count()
        cost, output = measured([sys.executable, "-m", "gapctl", *words, "--runs", runs])
        if (listed := count_trials(name, json.loads(output))) != trials:
            raise SystemExit(f"gapctl {' '.join(words)} found {listed} trials")
        one = Measurement(name, cost.seconds, cost.computed, cost.megabytes, count() - before)
        beside = f", page {page.stat().st_size / 1e6:.1f} MB" if name == "report" else ""
        costs = f"{one.seconds:.1f} s, {one.computed:.1f} s computed, {one.megabytes:,.0f} MB"
        print(f"{name}: {costs}{beside}{one.requests.describe()}", flush=True)
        found.append(one)
    return found


def build_row(one: Measurement, what: str) -> Row:
    """Return a command's line of the table."""
    target = LIMITS[one.command]
    return Row(f"{one.command} of {what}", "s", one.seconds, WHY[one.command], target=target, better="lower")


def measure_large_plan(folder: Path, trials: int) -> Row:
    """Plan many more trials than were trained."""
    file = folder / "planned.yaml"
    file.write_text(SWEEP.format(seeds=trials // ARMS), encoding="utf-8")
    cost, output = measured([sys.executable, "-m", "gapctl", "plan", str(file), "--runs", str(folder / "none")])
    if f"{trials} trials".encode() not in output:
        raise SystemExit(f"gapctl plan did not count {trials} trials: {output[-300:].decode()}")
    what = f"{trials:,} trials planned"
    print(f"{what}: {cost.seconds:.1f} s, {cost.computed:.1f} s computed, {cost.megabytes:,.0f} MB", flush=True)
    return Row(
        what, "s", cost.seconds, "each trial is dealt to each machine of the price table", target=15.0, better="lower"
    )


@contextmanager
def open_ledger(folder: Path, kept: Path | None, plan: Plan, *, in_bucket: bool) -> Iterator[tuple[str, Counter]]:
    """Yield the address of a finished ledger, and what counts its bucket's requests so far."""
    if not in_bucket:
        path = kept or folder / "runs"
        if not path.exists():
            fill_folder(path, plan)
        yield str(path), RequestCount
        return
    with serve_bucket() as server:
        runs = f"s3://{BUCKET}/runs"
        Ledger(runs).declare_plan(plan)
        server.put_files("runs", list_files(plan))
        before = server.count_requests()
        LedgerSnapshot(runs).pack_results([trial.id for trial in plan.trials])  # as a sweep does at its end
        print(f"results packed{(server.count_requests() - before).describe()}", flush=True)
        yield runs, server.count_requests


def main() -> None:
    """Prints the rows, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--planned", type=int, default=100_000, help="0 for none")
    parser.add_argument("--bucket", action="store_true")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, trials = Path(name), arguments.trials // ARMS * ARMS
        file = folder / "sweep.yaml"
        file.write_text(SWEEP.format(seeds=trials // ARMS), encoding="utf-8")
        plan = load_plan(file, None, None)
        with open_ledger(folder, arguments.runs, plan, in_bucket=arguments.bucket) as (runs, count):
            found = measure_commands(folder, runs, trials, count)
        what = f"{trials:,} trials in a bucket" if arguments.bucket else f"{trials:,} trials"
        rows = [build_row(one, what) for one in found]
        rows += [measure_large_plan(folder, arguments.planned)] if arguments.planned else []
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
