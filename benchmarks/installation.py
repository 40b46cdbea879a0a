"""How long `make demo` and `make test` take to install, beside `uv pip sync` of the same lock alone, in turns.

    python benchmarks/installation.py [--rounds 2] [--json FILE]

Both begin without an environment: first with an empty cache of uv's, as a new user has it, so that all packages are
downloaded (about 3 GB), then with all packages in the cache. The peer does not compile Python's files, which its user
waits for later, in the first command.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median

from row import Row, report

REPOSITORY = Path(__file__).parents[1]
TARGET = 1.1


class Installer:
    """Times installations in new folders below `root`, with a cache of uv's there."""

    def __init__(self, root: Path) -> None:
        self._root, self._made = root, 0
        self._cache = root / "cache"

    def empty_cache(self) -> None:
        """Delete what uv has downloaded."""
        shutil.rmtree(self._cache, ignore_errors=True)

    def time_make(self) -> float:
        """Return the seconds of `make` in a new clone, which stops before the demo itself."""
        folder = self._next_folder()
        subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
        return self._time_command("make", f"PYTHON={sys.executable}", ".venv/.installed", folder=folder)

    def time_sync(self, *options: str) -> float:
        """Return the seconds of `uv pip sync` into a new environment."""
        folder = self._next_folder()
        folder.mkdir()
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
        sync = [str(uv), "pip", "sync", "--quiet", "--python", str(folder / "env/bin/python"), *options]
        return self._time_command(*sync, str(REPOSITORY / "requirements.lock"), folder=folder)

    def _next_folder(self) -> Path:
        self._made += 1
        return self._root / f"{self._made}"

    def _time_command(self, *words: str, folder: Path) -> float:
        """Return the seconds of a command in a folder, and delete that; raise CalledProcessError where it fails."""
        began = time.perf_counter()
        environment = {**os.environ, "UV_CACHE_DIR": str(self._cache), "PIP_NO_CACHE_DIR": "1"}
        subprocess.run(words, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        shutil.rmtree(folder)
        return seconds


def main() -> None:
    """Prints the medians, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seconds = defaultdict[str, list[float]](list)
    with tempfile.TemporaryDirectory() as name:
        installer = Installer(Path(name))
        kinds = {"sync": installer.time_sync, "make": installer.time_make}
        for _ in range(arguments.rounds):
            for kind, measure in kinds.items():
                installer.empty_cache()
                seconds[f"new {kind}"].append(measure())
        kinds["compiled"] = partial(installer.time_sync, "--compile-bytecode")
        for _ in range(arguments.rounds):
            for kind, measure in kinds.items():
                seconds[f"cached {kind}"].append(measure())
    medians = {kind: median(found) for kind, found in seconds.items()}
    limited_by = "Python's files are compiled, so that Ray's processes start in time; then pip, uv and gapctl itself"
    new, cached = "installation by `make`, all downloaded", "installation by `make`, all in uv's cache"
    rows = [
        Row(
            f"{new}, over `uv pip sync`",
            "times as long",
            medians["new make"] / medians["new sync"],
            limited_by,
            target=TARGET,
            better="lower",
        ),
        Row(new, "s", medians["new make"], limited_by, "uv pip sync", medians["new sync"]),
        Row(cached, "s", medians["cached make"], limited_by, "uv pip sync", medians["cached sync"]),
        Row(
            "the same",
            "s",
            medians["cached make"],
            limited_by,
            "uv pip sync --compile-bytecode",
            medians["cached compiled"],
        ),
    ]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
