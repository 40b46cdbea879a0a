"""Do work on many shards: lock the folder of unfinished work, and map a function over processes or Ray tasks."""

import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from gapctl.errors import GapctlError, InputError, WorkError
from gapctl.io.atomic import TEMPORARY
from gapctl.io.locks import lock_file

Task = TypeVar("Task")
TaskResult = TypeVar("TaskResult")
OpenRay = Callable[[], AbstractContextManager[None]]
StartRay = Callable[[int], AbstractContextManager[None]]
"""Starts Ray for so many worker processes."""
OnProgress = Callable[[int, int], None]
"""Called with what is done, and how much there is in all."""

TASKS_PER_PROCESS: Final = 3
"""Tasks queued for each process, so that none idles; more would hold results in memory."""
_THREAD_COUNTS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def ignore_progress(done: int, total: int) -> None:
    """Show nothing."""


def count_available_cores() -> int:
    """Return the number of cores available to this process."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


@contextmanager
def lock_unfinished_folder(making: Path, out: Path | str, expected: str) -> Iterator[None]:
    """Make a folder for the unfinished work on `out` and lock it for this process; delete it once the work is done.

    After an error its files stay, for the run that continues. Raise InputError, which says what is `expected`, if it
    cannot be written, and if another process holds the lock.
    """
    with ExitStack() as stack:
        try:
            making.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_file(making / "lock", wait=False))
            for left_over in making.glob(f"*{TEMPORARY}"):
                left_over.unlink(missing_ok=True)
        except BlockingIOError as error:
            raise InputError(f"--out {out}: another gapctl is making it now. Wait for it, or stop it.") from error
        except OSError as error:
            raise InputError(f"--out {out}: cannot be written ({error.strerror}); expected {expected}") from error
        yield
        shutil.rmtree(making)


@dataclass(frozen=True)
class Workers:
    """Workers of a task: a Ray cluster if `open_ray` is given, else `processes` of this machine.

    One process is this one. On Ray at most `ray_tasks` run at once, if given.
    """

    processes: int
    open_ray: OpenRay | None = None
    ray_tasks: int | None = None

    def each(
        self,
        work: Callable[[Task], TaskResult],
        tasks: Sequence[Task],
        explain: Callable[[str], str] | None = None,
    ) -> Iterator[tuple[int, TaskResult]]:
        """Yield each task's place in the list and its result, in the order of completion.

        `work` is a function of a module with a picklable result. Raise what it raises, and WorkError if a process dies
        or Ray gives up; `explain` turns the reason, empty for a process, into its message.
        """
        if self.open_ray is not None:
            return _run_on_ray(work, tasks, self.open_ray, self.ray_tasks, explain)
        processes = min(self.processes, len(tasks))
        if processes > 1:
            return _run_in_pool(work, tasks, processes, explain)
        return ((place, work(task)) for place, task in enumerate(tasks))


def _run_in_pool(
    work: Callable[[Task], TaskResult],
    tasks: Sequence[Task],
    processes: int,
    explain: Callable[[str], str] | None,
) -> Iterator[tuple[int, TaskResult]]:
    # Not fork: the caller may hold threads (torch, polars, Ray) that a forked child would find frozen.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    running: dict[Future[TaskResult], int] = {}
    try:
        with _limit_child_threads():
            for place, task in enumerate(tasks):
                running[pool.submit(work, task)] = place
                if len(running) >= TASKS_PER_PROCESS * processes:
                    yield from _collect_finished(running)
            while running:
                yield from _collect_finished(running)
    except BrokenProcessPool as error:
        names = ", ".join(str(getattr(tasks[place], "address", place)) for place in sorted(running.values())[:3])
        text = (
            explain("")
            if explain
            else (
                f"a process died over one of these shards: {names}. Something may be writing there now, or memory ran "
                "out. What is finished is kept: run the same command again, with fewer --workers"
            )
        )
        raise WorkError(text) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _limit_child_threads() -> Iterator[None]:
    # With one process per core, threaded matrix products would cost a third of the speed. A child reads these
    # variables only when it starts.
    before = {name: os.environ.get(name) for name in _THREAD_COUNTS}
    os.environ.update(dict.fromkeys(_THREAD_COUNTS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _collect_finished(running: dict[Future[TaskResult], int]) -> Iterator[tuple[int, TaskResult]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        result = future.result()
        yield running.pop(future), result


def _run_on_ray(
    work: Callable[[Task], TaskResult],
    tasks: Sequence[Task],
    open_ray: OpenRay,
    at_once: int | None,
    explain: Callable[[str], str] | None,
) -> Iterator[tuple[int, TaskResult]]:
    with open_ray():
        import ray.data
        from ray.exceptions import RayError

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure is reported as one message
        ray.data.DataContext.get_current().enable_progress_bars = False
        items = [{"place": place, "task": _RayBox(task)} for place, task in enumerate(tasks)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
            _RowTask(work), num_cpus=1, compute=ray.data.TaskPoolStrategy(size=at_once)
        )
        try:
            for row in dataset.iter_rows():
                if row["failed"]:
                    raise row["done"].content
                yield row["place"], row["done"].content
        except RayError as error:
            reason = str(error).strip().splitlines()[-1]
            text = (
                explain(reason)
                if explain
                else (f"a shard could not be worked on: {reason}. What is finished is kept: run the same command again")
            )
            raise WorkError(text) from error


@dataclass(frozen=True)
class _RayBox(Generic[Task]):
    """Holds a task or a result so that Ray Data does not split it into columns."""

    content: Task


@dataclass(frozen=True)
class _RowTask(Generic[Task, TaskResult]):
    work: Callable[[Task], TaskResult]

    def __call__(self, row: dict[str, _RayBox[Task]]) -> dict[str, object]:
        try:
            return {"place": row["place"], "failed": False, "done": _RayBox(self.work(row["task"].content))}
        except GapctlError as error:
            return {"place": row["place"], "failed": True, "done": _RayBox(error)}
