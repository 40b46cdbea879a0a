"""Hours and money of one training on machines that are lost: `gapctl cluster cost`'s formula beside a simulation.

    python benchmarks/spot_losses.py [--markdown FILE]

500 hours of RN50's work, on one machine or on eight, any of which stops all. The simulation goes event by event
(`spot_simulation.py`) and is seeded, so that the table is the same each time. It takes seconds.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Final

from gapctl.cluster.cost import load_shipped_prices
from gapctl.cluster.trial_hours import choose_checkpoint_hours, compute_slowdown
from spot_simulation import Group, simulate_training

SEEDS: Final = 20
WORK_HOURS: Final = 500.0
MACHINES: Final = (1, 8)
RATES: Final = (0.01, 0.05, 0.2, 0.5)
MACHINE: Final = "g6.2xlarge"
CHECKPOINT_MB: Final = 1640.0
"""RN50's: 102 million weights of 16 bytes."""
HEADINGS: Final = (
    "workers",
    "lost an hour, each",
    "a machine's start",
    "hours: formula",
    "simulated",
    "apart",
    "losses",
)


def compare_cases() -> Iterator[tuple[str, ...]]:
    """Yield a row for each number of machines, rate of losses, and way to set up a machine."""
    prices = load_shipped_prices()
    assumed, price = prices.assumptions, prices.instances[MACHINE].spot
    writing = CHECKPOINT_MB / assumed.checkpoint_mb_per_second / 3600
    apart = choose_checkpoint_hours(assumed.checkpoint_seconds / 3600, writing)
    ways = {"installation": assumed.start_minutes, "image": assumed.image_start_minutes or assumed.start_minutes}
    for machines, rate, (way, minutes) in itertools.product(MACHINES, RATES, ways.items()):
        restart = minutes / 60 + assumed.notice_seconds / 3600
        formula = WORK_HOURS * compute_slowdown(machines * rate, restart, apart, writing)
        group = Group(machines, rate, restart, apart, writing)
        runs = [simulate_training(group, WORK_HOURS, seed) for seed in range(SEEDS)]
        hours = mean(run.hours for run in runs)
        yield (
            str(machines),
            f"{rate:g}",
            f"{minutes:g} min, {way}",
            f"{formula:.0f}",
            f"{hours:.0f}",
            f"{formula / hours - 1:+.1%}",
            f"{mean(run.losses for run in runs):.0f}",
            f"{machines * formula * price:,.0f}",
        )


def main() -> None:
    """Print the table, and write it where a file is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", type=Path, help="a file for the table")
    arguments = parser.parse_args()
    headings = (*HEADINGS, f"{load_shipped_prices().currency} for {MACHINE}")
    rows = [headings, ("---:",) * len(headings), *compare_cases()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    print(table, end="")
    if arguments.markdown is not None:
        title = "# Lost machines: `python benchmarks/spot_losses.py`\n\n"
        arguments.markdown.write_text(
            f"{title}{WORK_HOURS:g} hours of work; the mean of {SEEDS} simulated trainings.\n\n{table}",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
