"""Every benchmark, one table: peer, ours, their ratio, the target, and what limits it now (`make bench`).

    python benchmarks/bench.py [--official CHECKOUT] [--loader PYTHON] [--only NAME ...] [--out benchmarks/results]

Each runs as a process of its own, one after another: leave the machine alone meanwhile. The rows go to `bench.json`
and `bench.md` in the results folder. A benchmark that was left out keeps the rows of its last run there, with the day
and the machine of that run.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gapctl.training.hardware import read_processor_name
from row import Row, read_rows

HERE = Path(__file__).parent
NAMES = (
    "mad_generation",
    "training_step",
    "evaluation",
    "packing",
    "tables",
    "installation",
    "starting",
    "sweep_overhead",
    "planning",
    "tracking",
    "analysis",
    "metrics",
    "indexing",
    "shard_fuzz",
    "feed",
)
OPTIONS = {"mad_generation": "--official", "feed": "--peer"}
"""Benchmarks whose peer must be named, and the option that does."""


@dataclass(frozen=True)
class Ran:
    """One benchmark's rows, and where and when they were measured."""

    name: str
    day: str
    machine: str
    rows: tuple[Row, ...]


def run(name: str, peer: Path | None) -> Ran:
    """Runs a benchmark to its end; raises CalledProcessError where it fails."""
    more = [OPTIONS[name], str(peer)] if peer else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        subprocess.run([sys.executable, str(HERE / f"{name}.py"), "--json", str(out), *more], check=True)
        rows = read_rows(out)
    day = datetime.now(tz=UTC).strftime("%Y-%m-%d")
    return Ran(name, day, f"{read_processor_name()}, {_formats()}, Python {platform.python_version()}", tuple(rows))


def _formats() -> str:
    """Which bfloat16 products the processor has, which decide the training step's ratios, and the GPU's name."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16, no AMX" if torch.cpu._is_avx512_bf16_supported() else "no bfloat16 units"


def read(path: Path) -> dict[str, Ran]:
    """The last runs by name; none where there is no file."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {ran["name"]: Ran(**{**ran, "rows": tuple(Row(**row) for row in ran["rows"])}) for ran in found}


def cells(row: Row) -> tuple[str, ...]:
    """A row as text: what, peer, ours, ratio, target, whether it is met, and what limits it."""
    figure = _number(row.ours) + f" {row.unit}"
    peer = f"{_number(row.peer)} {row.unit} ({row.peer_name})" if row.peer is not None else "none"
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    sign = "" if row.ratio is not None or row.better == "higher" else "at most "
    target = f"{sign}{row.target:g}" if row.target is not None else "none"
    wanted = f", wanted {row.wanted:g}" if row.wanted is not None else ""
    verdict = {True: "met", False: "missed", None: ""}[row.met]
    return row.what, peer, figure, ratio, target + wanted, verdict, row.limited_by


HEADINGS = ("what", "peer", "ours", "ratio", "target", "", "limited by")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def markdown(runs: Sequence[Ran]) -> str:
    """The table for a repository's page."""
    lines = ["# Benchmarks", "", "Written by `make bench`; a ratio says how many times better gapctl is.", ""]
    for ran in runs:
        lines += [f"## {ran.name}", "", f"{ran.day}, {ran.machine}", ""]
        lines += ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
        lines += ["| " + " | ".join(cells(row)) + " |" for row in ran.rows] + [""]
    return "\n".join(lines)


def show(runs: Sequence[Ran]) -> None:
    """The same in the terminal."""
    table = Table(*HEADINGS)
    for ran in runs:
        for row in ran.rows:
            table.add_row(*cells(row))
        table.add_section()
    Console(width=max(140, Console().width)).print(table)


def main() -> None:
    """Runs what was asked for, keeps the rest, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--official", type=Path, help="a checkout of the paper's code, the generator's peer")
    parser.add_argument("--loader", type=Path, help="the Python of an environment with open_clip's loader (feed.py)")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    peers = {"mad_generation": arguments.official, "feed": arguments.loader}
    runs = read(arguments.out / "bench.json")
    failed: list[str] = []
    for name in arguments.only:
        print(f"\n{name}", flush=True)
        if name in OPTIONS and peers[name] is None and name in runs:
            print("left out: no peer was named, and the last ratio is kept", flush=True)
            continue
        try:
            runs[name] = run(name, peers.get(name))
        except subprocess.CalledProcessError as error:
            failed.append(f"{name} ended with {error.returncode}; its last rows are kept")
        write(_ordered(runs), arguments.out)
    show(_ordered(runs))
    if failed:
        raise SystemExit("\n".join(failed))


def _ordered(runs: Mapping[str, Ran]) -> list[Ran]:
    return [runs[name] for name in NAMES if name in runs]


def write(runs: Sequence[Ran], folder: Path) -> None:
    """Both files, after each benchmark, so that one that fails takes nothing with it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps([asdict(ran) for ran in runs], indent=1) + "\n", encoding="utf-8")
    (folder / "bench.md").write_text(markdown(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
