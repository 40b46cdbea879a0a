"""Processes of their own that begin with everything imported, where a new Python would first need seven seconds."""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "gapctl.analysis.service",
        "gapctl.cli.sweep",
        "gapctl.cli.train",
        "gapctl.report.sweep_page",
        "gapctl.sweep.driver",
        "gapctl.sweep.pack_work",
        "gapctl.sweep.tuner",
        "gapctl.training.trainer",
        "gapctl.training.pair_evaluation",
        "gapctl.tracking.tracker",
        "gapctl.training.autograd_step",
        "sweep_without_ray",
    ]
)
"""One process imports these, and the others are forked from it; it is the same for all tests of a process."""


class ForkedProcess:
    """What tests use of `subprocess.Popen`: a function in a process of its own, and what it wrote into `folder`.

    Where both go `together`, its standard error follows in the text of its standard output, as on a terminal.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, folder: Path, together: bool = False) -> None:
        folder.mkdir(parents=True)
        self._files = (folder / "out", folder / ("out" if together else "err"))
        for file in self._files:
            file.touch()
        self._process = PROCESSES.Process(target=_run, args=(function, arguments, self._files, dict(os.environ)))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def written(self) -> tuple[str, str]:
        """Its standard output and error so far."""
        out, err = (file.read_text(encoding="utf-8") for file in self._files)
        return out, err

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"it did not end: {self.written()}"
        return self.written()


def _run(
    function: Callable[..., Any], arguments: tuple[Any, ...], files: tuple[Path, Path], environment: Mapping[str, str]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.environ.pop("RAY_AUTH_MODE", None)  # a Ray of the tests set it; Ray reads it at its import alone, which is over
    tempfile.tempdir = None
    for stream, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), stream)
    sys.exit(function(*arguments))
