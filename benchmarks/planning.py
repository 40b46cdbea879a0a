"""Time and memory of `gapctl plan` for a sweep of 10,000 trials, as a whole process.

python benchmarks/planning.py [--rounds 3] [--json FILE]
"""

import argparse
import sys
import tempfile
from pathlib import Path

from process_cost import Cost, measured, middle
from row import Row, write_rows

TRIALS = 10_000
SECONDS, MEGABYTES = 3.0, 300.0
SWEEP = """\
name: ten-thousand
question: How long does a plan of 10,000 trials take?
base: {train: {samples: 51_200}}
vary:
  data.captions.attributes: [0, 1, 2, 3, 4]
  temperature.init: [0.02, 0.05, 0.07, 0.1]
  model.embed_dim: [8, 16, 32, 64, 128]
seeds: 100
"""


def plan_once(file: Path) -> Cost:
    """Runs the command and checks that it lists every trial."""
    cost, output = measured([sys.executable, "-m", "gapctl", "plan", str(file), "--json"])
    if (found := output.count(b'"id"')) != TRIALS:
        raise SystemExit(f"gapctl plan listed {found} trials")
    return cost


def main() -> None:
    """Prints the medians, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sweep.yaml"
        file.write_text(SWEEP, encoding="utf-8")
        seconds, megabytes, _ = middle([plan_once(file) for _ in range(arguments.rounds)])
    why = "a configuration is resolved and hashed per trial"
    rows = [
        Row("plan of 10,000 trials, time", "s", seconds, why, target=SECONDS, better="lower"),
        Row("plan of 10,000 trials, memory", "MB", megabytes, why, target=MEGABYTES, better="lower"),
    ]
    print(
        f"{TRIALS:,} trials planned in {seconds:.2f} s and {megabytes:.0f} MB (limits {SECONDS} s, {MEGABYTES:.0f} MB)"
    )
    write_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
