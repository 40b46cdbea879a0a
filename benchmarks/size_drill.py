"""Every verb on a manifest of CC12M's size, over shards that take no disk: seconds, and the memory of every process.

    python benchmarks/size_drill.py [--rows 12000000] [--shards 1200] [--folder DIR] [--markdown FILE] [--train]
    python benchmarks/size_drill.py --only rn50 --megabytes 8000

1. `write_simulated_manifest` (simulated_shards.py) writes the manifest of `--shards` shards, which lie in a local S3.
2. `list_steps` has the commands, each of which runs as its user would run it: index, verify, stats, plan, two epochs of
   a training's batches by sampled chunks, and a resumption in the middle of epoch 17 by two workers at once. `--train`
   adds a short training, most of whose memory is torch's, its model's and the evaluation's. `--only rn50` is the first
   200 steps of the paper's sweep of CC12M, whose ResNet-50 sees 32 pixels and small batches here.
3. `measure_step` watches each command and its children, and `Outcome.markdown` is the table.

Bytes of 12 million samples cannot be read in minutes. So `index` first finds all shards unchanged, then reads
`--new` further ones; `verify` decodes the new ones and compares the sizes of the others; `stats` reads all columns, and
the words of about 20,000 captions. The drill fails where a process takes more than `--megabytes`, or all take more than
15 minutes both on the clock and of processors' time: the clock also has what else the machine does.
"""

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import yaml

from simulated_shards import BUCKET, SimulatedShards, serve_shards, write_simulated_manifest

WATCHED_EVERY: Final = 0.2
"""Seconds between two looks at a command's processes."""
LIMIT_SECONDS: Final = 15 * 60.0
LIMIT_MEGABYTES: Final = 1_500.0
RESUMED_EPOCH: Final = 16.5
"""Epochs before the resumption: the middle of the seventeenth."""
BATCH: Final = 512
WORDS_OF: Final = 20_000
TRIAL: Final = "(the first of the plan)"
SWEEP: Final = """\
name: size-drill
question: Does everything run at CC12M's size?
base:
  data: {{dataset: image_text, source: {manifest}, held_out_share: {share}}}
  model: {{preset: pairs-small}}
  train: {{samples: 64, batch_size: 16}}
  evaluate: {{every: 64, gallery: 16}}
vary: {{data.captions.keep: [quarter, full]}}
seeds: 3
resources: {{cpus: 1}}
"""
CAPTIONS: Final = Path(__file__).parents[1] / "sweeps" / "cc12m_captions.yaml"
RN50_STEPS: Final = 200
RN50_BATCH: Final = 16
RN50: Final = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 32, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}
"""The paper's model of CC12M at 32 pixels, in open_clip's form."""
LEFT_OUT: Final = frozenset({"train", "rn50"})
"""Steps that run where they are asked for."""
MEANING: Final = {
    "index": "{shards} shards, all unchanged",
    "index, new": "{shards} unchanged shards, {new} new ones read",
    "verify": "the new shards decoded, the others compared by size",
    "stats": "all rows, and the words of about 20,000 captions",
    "plan": "6 trials",
    "train": "64 samples of the first trial, and an evaluation",
    "rn50": f"{RN50_STEPS} steps of {RN50_BATCH} samples by the first trial of cc12m_captions at 32 pixels",
    "feed": "two epochs by sampled chunks",
    "resume": "two workers at once, in the middle of epoch 17",
}


class Step(NamedTuple):
    """Commands that run at once."""

    name: str
    commands: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Measured:
    """What a step took: wall seconds, seconds that its processes computed, and the most memory of each process."""

    name: str
    seconds: float
    computed: float
    megabytes: tuple[float, ...]
    said: str = ""


@dataclass
class Outcome:
    """All steps of a drill, and what failed."""

    rows: int
    shards: int
    new: int
    limit: float
    steps: list[Measured] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What does not hold: commands that failed, processes that took too much memory, and too long a drill."""
        large = {step.name: max(step.megabytes) for step in self.steps if max(step.megabytes) > self.limit}
        found = [
            *self.failed,
            *(f"{name}: a process took {most:,.0f} MB, more than {self.limit:,.0f}" for name, most in large.items()),
        ]
        seconds = min(sum(step.seconds for step in self.steps), sum(step.computed for step in self.steps))
        if seconds > LIMIT_SECONDS:
            found.append(f"all steps took {seconds:,.0f} s, more than {LIMIT_SECONDS:,.0f}")
        return found

    def markdown(self) -> str:
        """Return the table and a sentence."""
        lines = [
            "| step | seconds | computed | largest process | processes |",
            "|---|---:|---:|---:|---:|",
        ]
        for step in self.steps:
            what = MEANING[step.name].format(shards=f"{self.shards:,}", new=self.new)
            peak, processes = max(step.megabytes), len(step.megabytes)
            lines.append(
                f"| {step.name}: {what} | {step.seconds:.1f} | {step.computed:.1f} | {peak:,.0f} MB | {processes} |"
            )
        total, computed = (sum(getattr(step, name) for step in self.steps) for name in ("seconds", "computed"))
        summary = (
            f"{self.rows:,} rows in {self.shards:,} shards: {total:,.0f} s in all, of which processes computed "
            f"{computed:,.0f} s; {len(self.problems)} limits or commands failed."
        )
        lines += ["", summary, ""]
        lines += [f"* {step.name}: {step.said}" for step in self.steps if step.said]
        return "\n".join([*lines, *(f"* failed: {problem}" for problem in self.problems)])


def list_steps(manifest: Path, stored: SimulatedShards, new: SimulatedShards, sweep: Path) -> list[Step]:
    """Return the commands of the drill in their order."""
    gapctl, here = [sys.executable, "-m", "gapctl"], [sys.executable, __file__]
    places = [f"s3://{BUCKET}/{each.name}" for each in (stored, new)]
    runs = str(manifest.parent / "runs")
    resumed = [*here, "--feed", str(sweep), "--from", str(RESUMED_EPOCH), "--world", "2"]
    return [
        Step("index", [[*gapctl, "data", "index", places[0], "--out", str(manifest)]]),
        Step("index, new", [[*gapctl, "data", "index", *places, "--out", str(manifest)]]),
        Step("verify", [[*gapctl, "data", "verify", str(manifest), "--only", places[1]]]),
        Step("stats", [[*gapctl, "data", "stats", str(manifest), "--words-of", str(WORDS_OF)]]),
        Step("plan", [[*gapctl, "plan", str(sweep), "--json"]]),
        Step("feed", [[*here, "--feed", str(sweep), "--chunks", "2"]]),
        Step("train", [[*gapctl, "train", str(sweep), "--trial", TRIAL, "--runs", runs]]),
        Step("rn50", [[*gapctl, "train", *choose_rn50(manifest), "--trial", TRIAL, "--runs", runs]]),
        Step("resume", [[*resumed, "--rank", str(rank)] for rank in range(2)]),
    ]


def choose_rn50(manifest: Path) -> list[str]:
    """Write the paper's sweep of CC12M with RN50, and return it with options that make its trials small enough."""
    architecture, sweep = manifest.parent / "rn50-32.json", manifest.parent / CAPTIONS.name
    architecture.write_text(json.dumps(RN50), encoding="utf-8")
    document = yaml.safe_load(CAPTIONS.read_text(encoding="utf-8"))
    document["base"]["model"] = {"architecture": str(architecture)}
    kept = document["scales"]["paper"].items()
    paper = {path: value for path, value in kept if not path.startswith(("base.model.", "base.data.held_out"))}
    document["scales"] = {"paper": paper}
    document["default_scale"] = "paper"
    sweep.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    samples = RN50_STEPS * RN50_BATCH
    changed = {
        "base.data.source": manifest,
        "base.data.held_out_share": 0.01,
        "base.train.samples": samples,
        "base.train.batch_size": RN50_BATCH,
        "base.evaluate.every": samples,
        "base.evaluate.gallery": 64,
        "resources.cpus": 2,
        "resources.gpus": 0,
        "resources.workers": 1,
        "resources.readers": 0,
    }
    return [str(sweep), *(f"--set={path}={value}" for path, value in changed.items())]


def name_first_trial(command: Sequence[str]) -> list[str]:
    """Put the id of its sweep's first trial into a command of `gapctl train`."""
    verb, options_end = command.index("train"), command.index("--trial")
    plan = [*command[:verb], "plan", *command[verb + 1 : options_end], "--json"]
    planned = subprocess.run(plan, check=True, stdout=subprocess.PIPE).stdout
    trial = json.loads(planned)["trials"][0]["id"]
    return [trial if word == TRIAL else word for word in command]


def measure_step(step: Step) -> tuple[Measured, list[str], list[str]]:
    """Run a step's commands; return what they took, what they printed, and what failed."""
    began, peaks, ended = time.monotonic(), dict[int, float](), threading.Event()
    with ExitStack() as stack:
        files = [[stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)] for _ in step.commands]
        processes = [
            subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
            for command, (out, err) in zip(step.commands, files, strict=True)
        ]
        watch = threading.Thread(target=_watch_memory, args=({each.pid for each in processes}, peaks, ended))
        watch.start()
        computed, failed, printed = 0.0, list[str](), list[str]()
        try:
            for process, (out, err) in zip(processes, files, strict=True):
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                computed += usage.ru_utime + usage.ru_stime
                peaks[process.pid] = max(peaks.get(process.pid, 0.0), usage.ru_maxrss / 1024)
                out.seek(0)
                err.seek(0)
                printed.append(out.read().decode())
                if process.returncode:
                    failed.append(
                        f"{step.name}: ended with {process.returncode}: {err.read().decode().strip()[-2000:]}"
                    )
        finally:
            ended.set()
            watch.join()
            for process in processes:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
    seconds = time.monotonic() - began
    return Measured(step.name, seconds, computed, tuple(sorted(peaks.values()))), printed, failed


def _watch_memory(sessions: set[int], peaks: dict[int, float], ended: threading.Event) -> None:
    """Note the most memory that each process of these sessions has held, in MB."""
    while not ended.wait(WATCHED_EVERY):
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                if os.getsid(int(entry.name)) in sessions:
                    status = Path(entry.path, "status").read_text()
                    held = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0")
                    peaks[int(entry.name)] = max(peaks.get(int(entry.name), 0.0), int(held.split()[1]) / 1024)
            except OSError:
                continue  # it has ended


def read_batches(sweep: Path, epoch: float | None, chunks: int, rank: int, world: int) -> None:
    """Read batches as a training's worker does, and print how long it took to know where to go on, and to read there.

    From `epoch` on, that is the first batch alone; without it `chunks` chunks of each of two epochs.
    """
    began = time.perf_counter()
    import torch  # noqa: F401 - a training's worker has it too

    from gapctl.config.load import load_sweep
    from gapctl.data.image_text import image, manifest  # noqa: F401 - imported late by what follows
    from gapctl.data.image_text.feed import PairFeed
    from gapctl.data.image_text.order import CHUNK_SAMPLES
    from gapctl.data.image_text.read import ReadOptions, require_pair_data
    from gapctl.data.image_text.source import load_pair_manifests, resolve_pair_paths

    data = require_pair_data(load_sweep(sweep, None, ()).spec.base)
    imported = time.perf_counter()
    pairs = load_pair_manifests(resolve_pair_paths(data))
    loaded = time.perf_counter()
    samples = len(pairs.train_rows)
    each = min(CHUNK_SAMPLES, samples) // BATCH * BATCH
    if epoch is None:
        places = [of * samples + samples * number // chunks for of in range(2) for number in range(chunks)]
    else:
        places, each = [round(epoch * samples) // BATCH * BATCH], BATCH
    read, found, first = 0, 0.0, 0.0
    for position in places:
        rule, stop = ReadOptions(64), position + each
        feed = PairFeed(pairs.train, pairs.train_rows, rule, 0, BATCH, position, rank, world, stop=stop)
        feed.order.find_chunk(position)
        found = found or time.perf_counter()
        for batch, _ in feed:
            first = first or time.perf_counter()
            read += len(batch.sample_B)
    timed = {
        "imports": imported - began,
        "manifest and shards compared": loaded - imported,
        "place of the position": found - loaded,
        "first batch": first - found,
    }
    about = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in timed.items())
    print(f"{about}; {read:,} samples read in {time.perf_counter() - loaded:.1f} s")


def run_drill(rows: int, shards: int, new: int, folder: Path, limit: float, only: Sequence[str]) -> Outcome:
    """Make the manifest, and run the steps of these names."""
    stored = SimulatedShards("first", shards, rows // shards)
    further = SimulatedShards("further", new, rows // shards, stored.shards * stored.per_shard)
    manifest, sweep = folder / "manifest.parquet", folder / "sweep.yaml"
    os.environ["GAPCTL_CACHE"] = str(folder / "cache")
    share = 0.01 if rows > 100_000 else 0.1
    sweep.write_text(SWEEP.format(manifest=manifest, share=share), encoding="utf-8")
    began = time.monotonic()
    if not manifest.exists():
        # In a process of its own: a command's peak includes what this one holds as it starts the command.
        maker = multiprocessing.get_context("spawn").Process(target=write_simulated_manifest, args=(manifest, stored))
        maker.start()
        maker.join()
    print(f"made a manifest of {manifest.stat().st_size / 1e6:,.0f} MB in {time.monotonic() - began:.1f} s", flush=True)
    outcome = Outcome(stored.shards * stored.per_shard, shards, new, limit)
    with serve_shards(stored, further):
        for step in list_steps(manifest, stored, further, sweep):
            if step.name not in only:
                continue
            commands = [name_first_trial(each) if TRIAL in each else each for each in step.commands]
            measured, printed, failed = measure_step(step._replace(commands=commands))
            if step.name in ("feed", "resume"):
                measured = Measured(**{**vars(measured), "said": " / ".join(text.strip() for text in printed)})
            outcome.steps.append(measured)
            outcome.failed += failed
            print(
                f"{step.name}: {measured.seconds:.1f} s, computed {measured.computed:.1f} s, "
                f"{max(measured.megabytes):,.0f} MB {measured.said}",
                *failed,
                flush=True,
            )
    return outcome


def main() -> int:
    """Runs the drill, or reads batches as one of its commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12_000_000)
    parser.add_argument("--shards", type=int, default=1_200)
    parser.add_argument("--new", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="Keep the manifest and the cache there.")
    parser.add_argument("--megabytes", type=float, default=LIMIT_MEGABYTES)
    parser.add_argument("--quick", action="store_true", help="4,000 rows in 4 shards.")
    parser.add_argument("--train", action="store_true", help="Train 64 samples as well.")
    parser.add_argument("--only", default="", help="Some of the steps, with `;` between.")
    parser.add_argument("--markdown", type=Path)
    for name, kind in (
        ("feed", Path),
        ("sweep", Path),
        ("from", float),
        ("chunks", int),
        ("rank", int),
        ("world", int),
    ):
        default = {"rank": 0, "world": 1, "chunks": 1}.get(name)
        parser.add_argument(f"--{name}", type=kind, dest=f"{name}_", default=default, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.feed_:
        read_batches(asked.feed_, asked.from_, asked.chunks_, asked.rank_, asked.world_)
        return 0
    rows, shards, new = (4_000, 4, 1) if asked.quick else (asked.rows, asked.shards, asked.new)
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        only = [name.strip() for name in asked.only.split(";") if name]
        only = only or [name for name in MEANING if name not in LEFT_OUT or (asked.train and name == "train")]
        outcome = run_drill(rows, shards, new, folder.absolute(), asked.megabytes, only)
    print(outcome.markdown())
    if asked.markdown:
        asked.markdown.write_text(outcome.markdown() + "\n", encoding="utf-8")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
