"""Work on many shards at once: in this process, in a pool of them, or by Ray Data on a cluster.

A pool starts in half a second and Ray in five, in which a machine indexes ten gigabytes; so Ray Data serves where there
are more machines than one.
"""

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gapctl.errors import GapctlError, WorkError

Task = TypeVar("Task")
Done = TypeVar("Done")
OpenRay = Callable[[], AbstractContextManager[None]]

AT_ONCE: Final = 3
"""Tasks that wait for each process, so that none idles; more would hold results in memory."""


@dataclass(frozen=True)
class Workers:
    """Who works: Ray where `open_ray` joins a cluster, else `processes` of this machine, itself if one."""

    processes: int
    open_ray: OpenRay | None = None

    def each(self, work: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[tuple[int, Done]]:
        """Each task's place in the list and its result, in the order in which they finish.

        `work` is a function of a module, and its result can be pickled. Raises what it raises, and WorkError where a
        process dies.
        """
        if self.open_ray is not None:
            return _on_ray(work, tasks, self.open_ray)
        processes = min(self.processes, len(tasks))
        return _in_pool(work, tasks, processes) if processes > 1 else _here(work, tasks)


def _here(work: Callable[[Task], Done], tasks: Sequence[Task]) -> Iterator[tuple[int, Done]]:
    yield from ((place, work(task)) for place, task in enumerate(tasks))


def _in_pool(work: Callable[[Task], Done], tasks: Sequence[Task], processes: int) -> Iterator[tuple[int, Done]]:
    # Not fork: the caller may hold threads (polars) that a forked child would find frozen.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    running: dict[Future[Done], int] = {}
    try:
        for place, task in enumerate(tasks):
            running[pool.submit(work, task)] = place
            if len(running) >= AT_ONCE * processes:
                yield from _finished(running)
        while running:
            yield from _finished(running)
    except BrokenProcessPool as error:
        names = ", ".join(str(getattr(tasks[place], "address", place)) for place in sorted(running.values())[:3])
        raise WorkError(
            f"a process died over one of these shards: {names}. Something may be writing there now, or memory ran "
            "out. What is finished is kept: run the same command again, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(running: dict[Future[Done], int]) -> Iterator[tuple[int, Done]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        result = future.result()
        yield running.pop(future), result


def _on_ray(work: Callable[[Task], Done], tasks: Sequence[Task], open_ray: OpenRay) -> Iterator[tuple[int, Done]]:
    with open_ray():
        import ray.data
        from ray.exceptions import RayError

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure reaches the user as one message
        ray.data.DataContext.get_current().enable_progress_bars = False
        items = [{"place": place, "task": _Boxed(task)} for place, task in enumerate(tasks)]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(_Row(work), num_cpus=1)
        try:
            for row in dataset.iter_rows():
                if row["failed"]:
                    raise row["done"].content
                yield row["place"], row["done"].content
        except RayError as error:
            raise WorkError(
                f"a shard could not be worked on: {str(error).strip().splitlines()[-1]}. What is finished is kept: "
                "run the same command again"
            ) from error


@dataclass(frozen=True)
class _Boxed:
    """Keeps Ray Data from taking a result apart into columns."""

    content: Any


@dataclass(frozen=True)
class _Row:
    work: Callable[[Any], Any]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"place": row["place"], "failed": False, "done": _Boxed(self.work(row["task"].content))}
        except GapctlError as error:
            return {"place": row["place"], "failed": True, "done": _Boxed(error)}
