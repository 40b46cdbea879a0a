"""Makes all variants of many digits on several processes; the result does not depend on how many.

Index letters: N digits, V the 24 variants, H and W 28 rows and columns.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.mad.factors import VARIANTS
from gapctl.errors import WorkError

_CHUNK: Final = 64
_THREAD_COUNTS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Progress = Callable[[int, int], None]


class _Chunk(NamedTuple):
    first: int
    images_NVHW: NDArray[np.uint8]


def generate_variants(
    digits_NHW: NDArray[np.uint8],
    seed: int,
    workers: int = 1,
    on_progress: Progress | None = None,
    out_NVHW: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return uint8 (N, 24, 28, 28): every variant of every digit, in the order of `factors.VARIANTS`.

    The random choices of a variant depend on `seed` and the digit's position alone. `on_progress` is told how
    many digits are done, and of how many. The result is written to `out_NVHW` if given. Raises WorkError if a
    worker process dies.
    """
    total = len(digits_NHW)
    images = np.empty((total, len(VARIANTS), 28, 28), np.uint8) if out_NVHW is None else out_NVHW
    done = 0
    for chunk in _in_process(digits_NHW, seed) if workers <= 1 else _in_pool(digits_NHW, seed, workers):
        images[chunk.first : chunk.first + len(chunk.images_NVHW)] = chunk.images_NVHW
        done += len(chunk.images_NVHW)
        if on_progress is not None:
            on_progress(done, total)
    return images


def _make_chunk(digits_NHW: NDArray[np.uint8], first: int, seed: int) -> _Chunk:
    from gapctl.data.mad.shapes import draw_shapes

    return _Chunk(first, draw_shapes(digits_NHW, first, seed))


def _in_process(digits_NHW: NDArray[np.uint8], seed: int) -> Iterator[_Chunk]:
    for first in range(0, len(digits_NHW), _CHUNK):
        yield _make_chunk(digits_NHW[first : first + _CHUNK], first, seed)


def _in_pool(digits_NHW: NDArray[np.uint8], seed: int, workers: int) -> Iterator[_Chunk]:
    # Not fork: the caller may hold threads (torch, Ray) that a forked child would find frozen.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        with _one_thread_per_child():
            yield from _as_they_finish(pool, digits_NHW, seed, 3 * workers)
    except BrokenProcessPool as error:
        raise WorkError(
            f"one of {workers} processes that make MAD's images died, perhaps for lack of memory. Nothing "
            "was kept of them; run again, with fewer workers if it happens again."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_per_child() -> Iterator[None]:
    # With one process per core already, threaded matrix products cost a third of the speed; a child reads
    # these only when it starts.
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


def _as_they_finish(
    pool: ProcessPoolExecutor, digits_NHW: NDArray[np.uint8], seed: int, at_once: int
) -> Iterator[_Chunk]:
    running: set[Future[_Chunk]] = set()
    for first in range(0, len(digits_NHW), _CHUNK):
        running.add(pool.submit(_make_chunk, digits_NHW[first : first + _CHUNK], first, seed))
        if len(running) >= at_once:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    for future in running:
        yield future.result()
