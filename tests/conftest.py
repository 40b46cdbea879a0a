"""What holds for all tests: none asserts a timing, and those that wait for Ray and MLflow begin first."""

import gc
import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray reads it so; its 15 lets trials starve beside the tests
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # processes of tests share the cores; numpy's threads would wait for each other there
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # and a trial's two threads would wait there by keeping the cores busy
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each of hundreds of processes compiles what it imports
sys.dont_write_bytecode = False
if "PYTEST_XDIST_WORKER" in os.environ:
    gc.disable()  # until all is imported
ON_RAY = "tests/data/on_ray/"
MEMORY, ENOUGH_BYTES = Path("/dev/shm"), 4_000_000_000
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # where waiting for a disk to be sure takes no time
settings.register_profile("gapctl", deadline=None, max_examples=50)
settings.load_profile("gapctl")

SLOW_FIRST = (
    *("sweep", "tracking", "data/on_ray", "data", "cli", "training", "api", "extensions", "report", ".", "cluster"),
    "analysis",
)
"""Folders with files of many seconds, `.` for this one: two processes share the suite, and neither should end with one
of these alone.

Those that start Ray or MLflow begin. They wait a third of their time; a third process gains half a minute of eight and
has others run into their patience.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(item.path))


def _rank(path: Path) -> int:
    folder = str(path.parent.relative_to(Path(__file__).parent))
    return SLOW_FIRST.index(folder) if folder in SLOW_FIRST else len(SLOW_FIRST)


class OneProcessPerRay(LoadFileScheduling):
    """Gives a process the tests of one file at a time, or of the whole folder whose files share one Ray."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return ON_RAY if file.startswith(ON_RAY) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneProcessPerRay:
    return OneProcessPerRay(config, log)


def pytest_collection_finish() -> None:
    """Garbage is looked for among what tests make, no more among all that was imported for them."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000)  # not 700: hypothesis calls a function at each collection


def pytest_unconfigure() -> None:
    """What ends with the process is looked through again, which some libraries wait for."""
    gc.unfreeze()
