"""How often verdicts are wrong, intervals hold the truth, and true effects are found, on ledgers made up for it.

    python benchmarks/simulated_truth.py [--rounds 1000] [--seeds 2 3 5 10] [--only TEXT ...] [--out benchmarks/results]
    python benchmarks/simulated_truth.py --tables [--merge FOLDER ...]      # only writes the tables of what is there

Each round draws the trials of a sweep whose true effects are known and takes the whole way from the table of trials
to the verdicts. Writes `simulated_truth.json` and `simulated_truth.md`, and the tables in docs/simulations.md. Cases
that were not simulated keep their last figures, and `--merge` takes those of other folders, so that a part can be run
anew, or several parts at once. A figure depends on its case, its number of seeds and the rounds alone: the random
numbers are seeded by the case's name. Runs in one process, some hours for everything, an hour without 150 arms.
"""

import argparse
import json
import math
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gapctl.analysis.results import Verdict
from simulated_cases import Case, cases
from simulated_ledgers import World
from simulated_tables import Found, tables, write_between

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs" / "simulations.md"
BEGIN, END = "<!-- simulated truth: begin -->", "<!-- simulated truth: end -->"
SEEDS = (2, 3, 5, 10)
FIGURES = "simulated_truth.json"


def simulate(case: Case, seeds: int, rounds: int) -> Found:
    """All rounds of a case at a number of seeds; the same whatever ran before."""
    world = World(case.vary, case.hypotheses, seeds)
    rng = np.random.default_rng([seeds, zlib.crc32(f"{case.kind} {case.test} {case.world}".encode())])
    family = case.kind == "family"
    judged = [world.judged(case.draw(rng, seeds)) for _ in range(rounds)]
    return Found(
        case.kind,
        case.test,
        case.world,
        seeds,
        rounds,
        _share(any(one.verdict == "supported" for one in found) for found in judged),
        _share(any(one.p_direction < world.alpha for one in found) for found in judged),
        _share(any(_by_p_alone(one, world.alpha) for one in found) for found in judged) if family else None,
        None if case.truth is None else _share(_holds(found[0], case.truth) for found in judged),
    )


def _by_p_alone(one: Verdict, alpha: float) -> bool:
    low, high = one.ci
    inside = -one.smallest_effect < low and high < one.smallest_effect
    return (inside if one.direction == "neither" else low > one.smallest_effect) and one.p_direction < alpha


def _holds(one: Verdict, truth: float) -> bool:
    slack = 1e-9
    return one.ci.low - slack <= truth <= one.ci.high + slack


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / len(values)


def run(rounds: int, seeds: Sequence[int], only: Sequence[str]) -> Iterator[list[Found]]:
    """Case by case at every number of seeds, telling how far it is."""
    for case in cases():
        name = f"{case.kind}: {case.test}, {case.world}"
        if only and not any(text in name for text in only):
            continue
        start = time.perf_counter()
        found = [simulate(case, count, rounds) for count in seeds]
        shares = "  ".join(
            f"{item.seeds}: {100 * item.supported:.1f}/{100 * item.p_below_alpha:.1f}"
            f"/{math.nan if item.covered is None else 100 * item.covered:.1f}"
            for item in found
        )
        print(f"{name:70s} {shares}  {time.perf_counter() - start:.0f} s", flush=True)
        yield found


def write(found: Sequence[Found], out: Path) -> None:
    """The figures as JSON, in the order of the cases; those that were not simulated now keep their last figures."""
    out.mkdir(parents=True, exist_ok=True)
    newest = {item.key: item for item in (*read(out), *found)}
    place: dict[tuple[str, str, str], int] = {
        (case.kind, case.test, case.world): index for index, case in enumerate(cases())
    }
    kept = [item for item in newest.values() if item.key[:3] in place]
    kept.sort(key=lambda item: (place[item.key[:3]], item.seeds))
    (out / FIGURES).write_text(json.dumps([asdict(item) for item in kept], indent=1) + "\n")


def read(folder: Path) -> list[Found]:
    """The figures of a folder; none where there are none yet."""
    path = folder / FIGURES
    return [Found(**row) for row in json.loads(path.read_text())] if path.exists() else []


def write_tables(out: Path, docs: Path) -> None:
    """The tables beside the figures, and in the documentation where these are the figures that are kept."""
    text = tables(read(out))
    (out / "simulated_truth.md").write_text(f"# Verdicts against simulated truth\n\n{text}", encoding="utf-8")
    if out.resolve() == RESULTS:
        write_between(docs, BEGIN, END, text)


def main() -> None:
    """Simulates what is asked for and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--only", nargs="+", default=[], help="cases whose name holds one of these; others keep theirs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], help="folders whose figures replace those of --out"
    )
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    write([item for folder in options.merge for item in read(folder)], options.out)
    for found in [] if options.tables else run(options.rounds, options.seeds, options.only):
        write(found, options.out)  # after each case, so that what is interrupted keeps what is done
    write_tables(options.out, DOCS)


if __name__ == "__main__":
    main()
