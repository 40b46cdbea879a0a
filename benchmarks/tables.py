"""Points of a grid of embedding tables per minute: packed into one training, beside one after another.

    python benchmarks/tables.py [--points 24] [--steps 200] [--batch 128] [--width 64] [--device cpu] [--json FILE]

Needs neither Ray nor a network. Points differ in captions, seed, start and temperature, as those of sweeps/optimum.yaml
do, and each is measured before its first step and after its last, as there. Both sides must end with the same numbers,
to the last bit on one thread of a CPU; else it stops. Time is the process's own on a CPU, wall time on a GPU.
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from gapctl.config.trial import Evaluate, Loss, MadCaptions, MadData, Model, Start, Temperature, Train, TrialConfig
from gapctl.data.mad.feed import TrialData, load_mad_arrays, require_mad_data
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from row import Row, write_rows
from training_step import Nowhere

MINUTE = 60.0
ATTRIBUTES, GAPS, TEMPERATURES = range(6), (0.0, 1.0), (0.07, 0.03)
GALLERY = 512
TARGET, WANTED = 100.0, 300.0
"""Points a minute."""

Point = tuple[TrialConfig, int]


def list_points(points: int, steps: int, batch: int, width: int) -> list[Point]:
    """The first `points` of a grid over captions, start and temperature, once for each seed."""
    grid = list(product(ATTRIBUTES, GAPS, TEMPERATURES))
    return [
        (
            TrialConfig(
                data=MadData(captions=MadCaptions(attributes=attributes)),
                model=Model(preset="table", embed_dim=width),
                init=Start(gap=gap),
                temperature=Temperature(init=temperature),
                loss=Loss(targets="posterior"),
                train=Train(samples=steps * batch, batch_size=batch, lr=0.1, weight_decay=0.0),
                evaluate=Evaluate(every=10**9, gallery=GALLERY),
            ),
            index // len(grid),
        )
        for index, (attributes, gap, temperature) in ((index, grid[index % len(grid)]) for index in range(points))
    ]


def train(points: Sequence[Point], data: TrialData, device: torch.device) -> list[Mapping[str, float]]:
    """The last numbers of each point, after all of them have trained together."""
    run = TrainingRun([TrialState(config, seed, data, Nowhere(), device) for config, seed in points], device)
    while not run.done:
        run.train_for(MINUTE)
    return [member.read_final_metrics() for member in run.members]


def read_clock(device: torch.device) -> float:
    """Seconds of the process on a CPU, of the wall clock on a GPU."""
    return time.process_time() if device.type == "cpu" else time.perf_counter()


def compare(points: Sequence[Point], device: torch.device) -> list[Row]:
    """Both sides, and their rate beside the target of two cores, after a look whether they agree."""
    data = load_mad_arrays(require_mad_data(points[0][0]))
    train(points[:1], data, device)
    began = read_clock(device)
    together = train(points, data, device)
    between = read_clock(device)
    alone = [train([point], data, device)[0] for point in points]
    ended = read_clock(device)
    require_equal(together, alone, exactly=device.type == "cpu")
    ours, peer = (MINUTE * len(points) / seconds for seconds in (between - began, ended - between))
    config = points[0][0]
    what = f"{len(points)} tables of width {config.model.embed_dim}, {config.train.steps} steps, one {device.type}"
    why = "the two evaluations of each point, and per step its softmax and products, as small as they are"
    beside_peer = Row(what, "points/min", ours, why, "one after another", peer, ours / peer)
    if device.type != "cpu":
        return [beside_peer]
    asked = "the same, beside what is asked of two cores"
    return [beside_peer, Row(asked, "points/min", ours, why, target=TARGET, wanted=WANTED)]


def require_equal(
    together: Sequence[Mapping[str, float]], alone: Sequence[Mapping[str, float]], *, exactly: bool
) -> None:
    """Ends the benchmark where a point's numbers depend on those that it was trained with."""
    for index, (one, other) in enumerate(zip(together, alone, strict=True)):
        for name, value in one.items():
            same = value == other[name] or (math.isnan(value) and math.isnan(other[name]))
            if not same and (exactly or not math.isclose(value, other[name], rel_tol=0.05, abs_tol=0.05)):
                raise SystemExit(f"point {index}: {name} is {value} packed and {other[name]} alone")


def main() -> None:
    """Prints the two rates and their ratio, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=24)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    points = list_points(arguments.points, arguments.steps, arguments.batch, arguments.width)
    rows = compare(points, torch.device(arguments.device))
    row = rows[0]
    table = Table(row.peer_name, "packed", "ratio", title=row.what)
    table.add_row(f"{row.peer:,.0f} {row.unit}", f"{row.ours:,.0f}", f"{row.ratio:.2f}")
    Console().print(table)
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
