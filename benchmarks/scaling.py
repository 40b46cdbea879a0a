"""How each cost grows with the work: charts of trials, rows and workers, with their slopes (docs/performance.md).

    python benchmarks/scaling.py [--most 100000] [--only trials rows workers] [--out docs/images/performance]

1. `measure_trials`: plan, status, verdicts, the HTML page, MLflow and sweeps of trials that cost next to nothing.
2. `measure_rows`: gap and object bias of embeddings in files, and the index of shards.
3. `measure_workers`: pairs decoded and pairs trained in a second, by several processes side by side.
4. `draw_charts` draws them over two logarithmic axes; a straight line of slope 1 is a cost in proportion to the work.

Every point is a process of its own, run to its end. `scaling.json` beside the charts keeps the points, so that
`--only` measures a part anew. Leave the machine alone meanwhile.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import altair as alt
import numpy as np
import polars as pl

from feed import make_shards as make_photographs
from feed import measure_rates
from feed import ours as decode_pictures
from gapctl.cli.options import load_plan
from gapctl.data.mad.feed import load_mad_arrays, require_mad_data
from gapctl.report.html import render_svg
from gapctl_charts.axes import series_colours
from gapctl_charts.data import Datasets, Drawing
from gapctl_charts.figure import figure
from gapctl_charts.look import FILE_LOOK, Look
from indexing import make_shards
from many_trials import ARMS, SWEEP, fill_folder
from process_cost import Cost, measured
from training_step import Case
from training_step import ours as train_trial

HERE: Final = Path(__file__).parent
GAPCTL: Final = (sys.executable, "-m", "gapctl")
SECONDS: Final = "seconds"
MEMORY: Final = "memory of the command, MB"
RATE: Final = "pairs a second, all workers"
Part = Literal["trials", "rows", "workers"]
WIDTH: Final = 512
SHARD_MEGABYTES: Final = (120, 1_200, 4_800)
"""Of about 4,600 samples in 100 MB."""
WORKERS: Final = (1, 2, 4)
DECODED: Final = "pictures decoded to 64 pixels"
TRAINED: Final = "mad-tiny trained, batch 128"
NO_WORK: Final = """\
name: no-work
question: What does a trial cost that trains one batch?
base:
  train: {{samples: 128, batch_size: 128}}
  evaluate: {{every: 128, gallery: 64}}
vary:
  data.captions.attributes: [0, 5]
seeds: {seeds}
resources: {{cpus: 1}}
"""
STEPS: Final = 200


@dataclass(frozen=True)
class Point:
    """One measurement: `series` names what was measured, `size` how much work, `quantity` what `value` is in."""

    part: Part
    series: str
    size: int
    quantity: str
    value: float


def cost_points(part: Part, series: str, size: int, cost: Cost) -> list[Point]:
    """Return a process's seconds and memory, and say them."""
    print(f"{series}, {size:,}: {cost.seconds:.1f} s, {cost.megabytes:,.0f} MB", flush=True)
    return [
        Point(part, series, size, SECONDS, cost.seconds),
        Point(part, series, size, MEMORY, cost.megabytes),
    ]


def measure_trials(most: int) -> Iterator[Point]:
    """Yield the cost of each command by how many finished trials it is about."""
    for size in (size for size in (100, 1_000, 10_000, 100_000) if size <= most):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            file, runs = folder / "sweep.yaml", folder / "runs"
            file.write_text(SWEEP.format(seeds=size // ARMS), encoding="utf-8")
            commands: dict[str, Sequence[str]] = {"plan": ("plan", str(file))}
            if size <= 10_000:
                fill_folder(runs, load_plan(file, None, None))
                commands |= {
                    "status": ("status", str(file), "--json"),
                    "verdicts": ("analyze", str(file), "--json"),
                    "verdicts and page": ("analyze", str(file), "--json", "--out", str(folder / "page.html")),
                }
            if size <= 1_000:
                store = f"sqlite:///{folder / 'mlflow.db'}"
                commands["shown in MLflow"] = ("track", "sync", str(file), "--uri", store)
            for series, words in commands.items():
                cost, _ = measured([*GAPCTL, *words, "--runs", str(runs)])
                yield from cost_points("trials", series, size, cost)
    for size in (size for size in (10, 100, 1_000) if size <= most):
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "sweep.yaml"
            file.write_text(NO_WORK.format(seeds=size // 2), encoding="utf-8")
            store = f"tracking.uri=sqlite:///{Path(name) / 'mlflow.db'}"
            words = ("sweep", str(file), "--runs", str(Path(name) / "runs"), "--set", store)
            cost, _ = measured([*GAPCTL, *words])
            yield from cost_points("trials", "sweep of trials of one batch", size, cost)


def measure_rows(most: int) -> Iterator[Point]:
    """Yield the cost of measuring and indexing by rows."""
    with tempfile.TemporaryDirectory() as name:
        for size in (size for size in (10_000, 100_000, 1_000_000) if size <= most * 10):
            folder = Path(name) / str(size)
            write_embeddings(folder, size)
            words = ("measure", "--embeddings", f"{folder / 'image.npy'},{folder / 'text.npy'}", "--json")
            cost, _ = measured([*GAPCTL, *words])
            yield from cost_points("rows", f"measure {WIDTH}-wide embeddings", size, cost)
    for megabytes in SHARD_MEGABYTES:
        with tempfile.TemporaryDirectory() as name:
            shards = Path(name) / "shards"
            shards.mkdir()
            make_shards(shards, megabytes)
            manifest = Path(name) / "manifest.parquet"
            cost, _ = measured([*GAPCTL, "data", "index", str(shards), "--out", str(manifest)])
            rows = pl.scan_parquet(manifest).select(pl.len()).collect().item()
            yield from cost_points("rows", "index of shards", rows, cost)


def write_embeddings(folder: Path, rows: int) -> None:
    """Write pairs of normal embeddings, in blocks."""
    folder.mkdir()
    for seed, name in enumerate(("image", "text")):
        rng = np.random.Generator(np.random.Philox(seed))
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (rows, WIDTH))
        for start in range(0, rows, 10_000):
            block = array[start : start + 10_000]
            block[:] = rng.standard_normal(block.shape, dtype=np.float32) + np.float32(0.1)
        array.flush()


def measure_workers(_most: int) -> Iterator[Point]:
    """Yield how many pairs processes handle in a second, all together, that begin at once."""
    with tempfile.TemporaryDirectory() as name:
        make_photographs(Path(name))
        decode = [sys.executable, str(Path(__file__)), "--decode", name]
        train = [sys.executable, str(Path(__file__)), "--train"]
        for series, command in ((DECODED, decode), (TRAINED, train)):
            for workers in WORKERS:
                rate = sum(measure_rates(command, workers))
                print(f"{series}, {workers} at once: {rate:,.0f} pairs/s", flush=True)
                yield Point("workers", series, workers, RATE, rate)


def time_training() -> float:
    """Return the pairs that one process trains in a second, after a few steps of warming up."""
    import torch

    torch.set_num_threads(1)
    config = Case(batch=128).config()
    step = train_trial(config, load_mad_arrays(require_mad_data(config)))
    for _ in range(4):
        step()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * config.train.batch_size / (time.perf_counter() - began)


def fit_slope(points: Sequence[Point]) -> float:
    """Return the slope between the two largest sizes over logarithmic axes: 1 is a cost in proportion."""
    last, before = sorted(points, key=lambda point: -point.size)[:2]
    return float(np.log(last.value / before.value) / np.log(last.size / before.size))


TITLES: Final[Mapping[tuple[Part, str], tuple[str, str]]] = {
    ("trials", SECONDS): ("Trials against seconds", "finished trials"),
    ("trials", MEMORY): ("Trials against memory", "finished trials"),
    ("rows", SECONDS): ("Rows against seconds", "rows"),
    ("rows", MEMORY): ("Rows against memory", "rows"),
    ("workers", RATE): ("Workers against pairs a second", "processes side by side"),
}


LOGARITHMIC: Final = alt.Scale(type="log", nice=False, padding=12)


def make_axis(values: Sequence[float]) -> alt.Axis:
    """Return an axis for positive values, with a line at each power of ten and at the ends of short ranges."""
    powers = [10.0**power for power in range(-3, 8)]
    return alt.Axis(values=powers if max(values) > 50 * min(values) else [*powers, *set(values)], format=".2~s")


def draw_chart(points: Sequence[Point], quantity: str, unit: str, look: Look) -> Drawing:
    """Draw a line for each series over two logarithmic axes."""
    data = Datasets()
    names = list(dict.fromkeys(point.series for point in points))
    frame = pl.DataFrame([asdict(point) for point in points])
    base = data.chart(frame, "points").encode(
        x=alt.X("size:Q", title=unit, scale=LOGARITHMIC, axis=make_axis([point.size for point in points])),
        y=alt.Y("value:Q", title=quantity, scale=LOGARITHMIC, axis=make_axis([point.value for point in points])),
        color=series_colours(names, look.categories(len(names)), None),
    )
    layers = [base.mark_line(strokeWidth=2), base.mark_point(size=50, filled=True)]
    return data.drawing(alt.LayerChart(layer=layers, width=look.width, height=280))


def draw_charts(points: Sequence[Point], folder: Path) -> None:
    """Write a picture for each part and quantity, with the slopes below its title."""
    for (part, quantity), (title, unit) in TITLES.items():
        shown = [point for point in points if (point.part, point.quantity) == (part, quantity)]
        if not shown:
            continue
        by_series = {point.series: [each for each in shown if each.series == point.series] for point in shown}
        slopes = [f"{series} {fit_slope(each):.2f}" for series, each in by_series.items() if len(each) > 1]
        caption = f"Slope between the two largest sizes, 1 being in proportion: {', '.join(slopes)}."
        name = f"{part}-{quantity.split(',')[0].replace(' ', '-')}"
        drawn = figure(name, title, caption, draw_chart(shown, quantity, unit, FILE_LOOK), FILE_LOOK)
        (folder / f"{name}.svg").write_text(render_svg(drawn), encoding="utf-8")


def main() -> None:
    """Measure what was asked for, keep the rest, and draw all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=100_000, help="trials, and a tenth of the rows")
    parser.add_argument("--only", nargs="+", choices=("trials", "rows", "workers"), default=())
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "images" / "performance")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--decode", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decode:
        print(decode_pictures(arguments.decode, 64, time.perf_counter))
        return
    if arguments.train:
        print(time_training())
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    kept = arguments.out / "scaling.json"
    points = [Point(**fields) for fields in json.loads(kept.read_text(encoding="utf-8"))] if kept.exists() else []
    measures = {"trials": measure_trials, "rows": measure_rows, "workers": measure_workers}
    began = time.monotonic()
    for part, measure in measures.items():
        if not arguments.only or part in arguments.only:
            points = [point for point in points if point.part != part] + list(measure(arguments.most))
            kept.write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n", encoding="utf-8")
    draw_charts(points, arguments.out)
    print(f"{len(points)} points in {time.monotonic() - began:.0f} s; charts in {arguments.out}")


if __name__ == "__main__":
    main()
