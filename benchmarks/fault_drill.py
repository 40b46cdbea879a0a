"""A sweep of 40 short trials among 52 accidents, beside the same sweep in peace: what is lost, and what it costs.

    python benchmarks/fault_drill.py [--short] [--ledger disk|bucket] [--seed 1] [--markdown FILE] [--keep FOLDER]
    python benchmarks/fault_drill.py --workers 2|4 [--short] ...

With `--workers` it is four trials on so many workers among 100 accidents, each at a moment of the training that the
schedule names: in the first or last step, in another one, in an evaluation, or within the writing of a checkpoint.
That takes about 50 minutes with two workers and 70 with four, where the cores have nothing else to do.

It needs Linux, and two cores for half an hour; the development dependencies bring the object store. Nothing but its
own processes is touched. The exit code is 1 where a promise was broken, and each is named.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from drill.outcome import Outcome
from drill.run import Size, drill
from drill.schedule import LONG, SHORT, schedule
from drill.worker_schedule import WORKERS_LONG, WORKERS_SHORT, worker_schedule
from drill.workers_run import WorkersSize, drill_workers

SAMPLES: Final = 81_920
NUMBERS: Final = {2: (1, 4, 2), 4: (2, 1, 4)}
"""The numbers of workers between which a trial's changes, by the number that it begins with."""


def main() -> None:
    """Prints each accident as it is over, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="4 trials and one fault of each of 7 kinds")
    parser.add_argument("--ledger", choices=["disk", "bucket"], default="disk", help="where the ledger lies")
    parser.add_argument("--workers", type=int, choices=[2, 4], help="drill trials that so many workers train")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule")
    parser.add_argument("--markdown", type=Path, help="a file for the table")
    parser.add_argument("--keep", type=Path, help="a folder, of a short path, for all logs")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    with tempfile.TemporaryDirectory(prefix="gd-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        place = arguments.keep or Path(folder)
        place.mkdir(exist_ok=True)
        outcome = _drill(place, arguments) if arguments.workers is None else _drill_workers(place, arguments)
    print(outcome.markdown())
    for problem in outcome.problems:
        print(f"broken: {problem}")
    if arguments.markdown is not None:
        arguments.markdown.write_text(outcome.markdown() + "\n", encoding="utf-8")
    sys.exit(1 if outcome.problems else 0)


def _drill(folder: Path, arguments: argparse.Namespace) -> Outcome:
    faults = schedule(SHORT if arguments.short else LONG, arguments.seed)
    size = Size(
        trials=4 if arguments.short else 40,
        samples=SAMPLES,
        in_bucket=arguments.ledger == "bucket",
        patience=300.0,
        longest=1800.0 if arguments.short else 7200.0,
    )
    return drill(folder, faults, size, tell=_tell)


def _drill_workers(folder: Path, arguments: argparse.Namespace) -> Outcome:
    numbers = NUMBERS[arguments.workers]
    trials, steps = (2, 40) if arguments.short else (4, 400)
    counts = WORKERS_SHORT if arguments.short else WORKERS_LONG
    faults = worker_schedule(counts, trials, steps, len(numbers), arguments.seed)
    longest = 3600.0 if arguments.short else 10_800.0
    return drill_workers(folder, faults, WorkersSize(trials, steps, arguments.workers, numbers, 600.0, longest), _tell)


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
