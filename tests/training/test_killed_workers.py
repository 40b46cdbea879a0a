"""Workers that train one model and are killed again and again, at times to go on as fewer or more of them.

They meet by gloo, as under Ray Train, and write to a ledger; each notes which pairs its steps saw.
"""

import random
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from forked import PROCESSES
from gapctl.data.load import load_dataset
from gapctl.ledger import Ledger
from gapctl.ledger.trial import WEIGHTS
from gapctl.plan.plan import Trial
from pair_trials import pair_config

BATCH, SAMPLES = 16, 960
KILLS = 10
LONGEST_SECONDS = 900.0

Order = dict[int, list[int]]


class Place(NamedTuple):
    """Where some workers train: a ledger and notes below `folder`, and a file to meet by."""

    folder: Path
    meeting: Path


def the_trial() -> Trial:
    config = pair_config(
        data={"captions": {"keep": "words"}},
        train={"samples": SAMPLES, "batch_size": BATCH},
        evaluate={"every": 2 * BATCH, "gallery": 20},
    )
    return Trial("0123456789ab", "killed seed=0", 0, {}, config, "f" * 64)


def work(rank: int, world: int, place: Place) -> None:
    """One worker until the training is done; each step appends a line: its end, and what this worker saw in it."""
    import gapctl.data.image_text.feed as feed
    from gapctl.sweep.pack_work import PackWork
    from gapctl.training.workers import get_worker_group

    torch.set_num_threads(1)
    if world > 1:
        meeting = f"file://{place.meeting}"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    trial, notes = the_trial(), place.folder / f"{place.meeting.name}-{rank}.txt"
    read = feed.PairFeed.__iter__

    def noted(self: feed.PairFeed):  # type: ignore[no-untyped-def]
        for batch, position in read(self):
            with notes.open("a") as file:
                file.write(" ".join(map(str, [position, rank, world, *batch.sample_B])) + "\n")
            yield batch, position

    feed.PairFeed.__iter__ = noted  # type: ignore[method-assign]
    material = load_dataset(trial.config.data)
    runs = str(place.folder / "runs")
    training = PackWork([trial], material, runs, threads=1, gpu=False, group=get_worker_group())
    while training.unfinished:
        training.train_for(0.0, steps=2)


def started(world: int, folder: Path) -> list[BaseProcess]:
    """So many workers that go on from where the ledger is."""
    folder.mkdir(exist_ok=True)
    place = Place(folder, folder / f"meeting-{time.monotonic_ns()}")
    processes = [PROCESSES.Process(target=work, args=(rank, world, place)) for rank in range(world)]
    for process in processes:
        process.start()
    return list(processes)


def finish(world: int, folder: Path) -> None:
    for process in started(world, folder):
        process.join(LONGEST_SECONDS)
        assert process.exitcode == 0


def newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("runs/*/checkpoints/0*.pt")), default="")


def kill_again_and_again(worlds: Sequence[int], folder: Path) -> int:
    """Starts so many workers, one number after another, and kills all at a random moment after a new checkpoint.

    How often they were still at work is what comes back.
    """
    draws, killed = random.Random(0), 0
    for world in worlds:
        before, processes = newest(folder), started(world, folder)
        deadline = time.monotonic() + LONGEST_SECONDS
        while newest(folder) == before and processes[0].is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(draws.random() / 2)
        killed += processes[0].is_alive()
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
    return killed


def seen(folder: Path) -> Order:
    """Which samples each step took, by the position that it ended at; however often it was taken, they agree."""
    found: dict[int, np.ndarray] = {}
    for path in folder.glob("meeting-*.txt"):
        for line in path.read_text().splitlines():
            end, rank, world, *samples = map(int, line.split())
            if len(samples) != BATCH // world:
                continue  # the worker was killed while it wrote
            own = slice(rank * len(samples), (rank + 1) * len(samples))
            batch = found.setdefault(end, np.full(BATCH, -1))
            assert np.all((batch[own] == -1) | (batch[own] == samples)), f"{path.name}: other samples before {end}"
            batch[own] = samples
    return {end: batch.tolist() for end, batch in sorted(found.items())}


def outcome(folder: Path) -> tuple[dict[str, float], bytes]:
    trial = Ledger(str(folder / "runs")).trial(the_trial().id)
    result, weights = trial.result(), trial.read(WEIGHTS)
    assert result is not None
    assert weights is not None
    return dict(result.metrics), weights


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training on two workers that nothing happened to."""
    folder = tmp_path_factory.mktemp("quiet")
    finish(2, folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_kills_of_two_workers_change_no_bit(quiet: Path, tmp_path: Path) -> None:
    killed = kill_again_and_again([2] * KILLS, tmp_path / "killed")
    finish(2, tmp_path / "killed")

    assert killed >= KILLS // 2
    assert seen(tmp_path / "killed") == seen(quiet)
    assert outcome(tmp_path / "killed") == outcome(quiet)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_kills_after_which_others_go_on_change_no_sample(quiet: Path, tmp_path: Path) -> None:
    killed = kill_again_and_again([1, 4, 2, 1, 2, 4, 1, 2, 4, 1], tmp_path / "killed")
    finish(1, tmp_path / "killed")

    assert killed >= KILLS // 2
    assert seen(tmp_path / "killed") == seen(quiet)
    found, expected = (outcome(folder)[0] for folder in (tmp_path / "killed", quiet))
    assert found.keys() == expected.keys()
    assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-2)
