"""How long `make demo` and `make test` take to install, beside `uv pip sync` of the same lock alone, in turns.

    python benchmarks/installation.py [--rounds 2] [--json FILE]

Both begin without an environment, and with all packages in uv's cache: a sync before the first round brings them
there. What the network takes is so in no figure. The peer does not compile Python's files, which its user waits for
later, in the first command.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from row import Row, report

REPOSITORY = Path(__file__).parents[1]
TARGET = 1.1


def time_command(*words: str, where: Path) -> float:
    """Seconds of a command in a folder; raises CalledProcessError where it fails."""
    began = time.perf_counter()
    subprocess.run(words, cwd=where, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def time_make(folder: Path) -> float:
    """`make` in a new clone, which stops before the demo itself."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    return time_command("make", f"PYTHON={sys.executable}", ".venv/.installed", where=folder)


def time_sync(folder: Path, *options: str) -> float:
    """`uv pip sync` into a new environment."""
    folder.mkdir()
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    lock = str(REPOSITORY / "requirements.lock")
    sync = [str(uv), "pip", "sync", "--quiet", "--python", str(folder / "env/bin/python"), *options, lock]
    return time_command(*sync, where=folder)


def main() -> None:
    """Prints the medians, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    ours, alone, compiled = list[float](), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        time_sync(Path(name) / "first")
        for number in range(arguments.rounds):
            ours.append(time_make(Path(name) / f"clone-{number}"))
            alone.append(time_sync(Path(name) / f"alone-{number}"))
            compiled.append(time_sync(Path(name) / f"compiled-{number}", "--compile-bytecode"))
    why = "Python's files are compiled, so that Ray's processes start in time; then pip, uv and gapctl itself"
    what = "installation by `make`, from uv's cache"
    rows = [
        Row(f"{what}, over", "times as long", median(ours) / median(alone), why, target=TARGET, better="lower"),
        Row(what, "s", median(ours), why, "uv pip sync", median(alone)),
        Row("the same", "s", median(ours), why, "uv pip sync --compile-bytecode", median(compiled)),
    ]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
