"""Samples per second of a training step on one core: a trial of ours, and a plain open_clip loop as the peer.

    python benchmarks/training_step.py [--rounds 5] [--steps 20]

Both train the same model, batch and loss on the same samples. The peer is what one writes first: float32, torch's
default attention, AdamW without options. The two take turns in one process, so that a drifting clock hits both.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from open_clip.loss import ClipLoss

from gapctl.data.feed import Batch, MadFeed, TrialData, load_trial_data
from gapctl.models.build import build_model
from gapctl.spec.trial import Evaluate, Train, TrialConfig
from gapctl.training.run import VOCABULARY, TrialRun

CONFIG = TrialConfig(train=Train(samples=10**9), evaluate=Evaluate(every=10**9, gallery=2))


class Nowhere:
    """A store that keeps nothing: the benchmark measures steps."""

    def checkpoints(self) -> list[tuple[str, bytes]]:
        return []

    def save_checkpoint(self, samples_seen: int, content: bytes) -> None:
        pass

    def save_history(self, rows: object) -> None:
        pass

    def beat(self, samples_seen: int) -> None:
        pass


def ours(data: TrialData) -> Callable[[], object]:
    """One step of a trial, exactly as a sweep takes it."""
    run = TrialRun(CONFIG, 0, data, Nowhere(), torch.device("cpu"))
    run.advance(0.0)  # the evaluation before the first step
    return lambda: run.advance(0.0)


def plain_open_clip(data: TrialData) -> Callable[[], object]:
    """One step of the loop that one writes first."""
    model, loss = build_model(CONFIG, VOCABULARY, seed=0), ClipLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG.train.lr, weight_decay=CONFIG.train.weight_decay)
    batches: Iterator[tuple[Batch, int]] = iter(MadFeed(data, CONFIG, seed=0))

    def step() -> None:
        batch, _ = next(batches)
        optimizer.zero_grad()
        loss(*model(batch.images(torch.device("cpu")), torch.from_numpy(batch.tokens_BL))).backward()
        optimizer.step()

    return step


def rate(step: Callable[[], object], steps: int) -> float:
    """Samples per second over some steps."""
    started = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * CONFIG.train.batch_size / (time.perf_counter() - started)


def main() -> None:
    """Prints both rates and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_trial_data(CONFIG.data)
    step_of = {"gapctl": ours(data), "plain open_clip": plain_open_clip(data)}
    rounds = []
    for step in step_of.values():
        rate(step, 3)
    for _ in range(arguments.rounds):
        rounds.append([rate(step, arguments.steps) for step in step_of.values()])
        print("  ".join(f"{name} {value:,.0f}/s" for name, value in zip(step_of, rounds[-1], strict=True)))
    print(f"median ratio {median(mine / theirs for mine, theirs in rounds):.2f}")


if __name__ == "__main__":
    main()
