"""Speed of a training step on one core, a trial of ours beside a plain open_clip loop, and both loss curves.

    python benchmarks/training_step.py [--rounds 5] [--steps 10] [--json FILE]
    python benchmarks/training_step.py --curves FILE.csv

Both train the same model, batch and loss on the same samples. The peer is what one writes first: open_clip's model in
float32, torch's default attention and AdamW. Each lives in a process of its own, as it does in use, and the two take
turns, so that a drifting clock hits both; time is the process's own, so that neighbours count less. `--curves` instead
trains both with one recipe over three seeds and says whether ours stays within what a seed changes in the peer.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean, median
from typing import Literal, NamedTuple

import torch
from open_clip.model import CLIP
from rich.console import Console
from rich.table import Table

from gapctl.config.trial import Evaluate, Loss, MadCaptions, MadData, Model, Train, TrialConfig
from gapctl.data.mad.feed import MadBatch, MadFeed, TrialData, load_mad_arrays, normalise_images, require_mad_data
from gapctl.models.build import build_model, clamp_temperature
from gapctl.models.losses import make_contrastive_loss
from gapctl.training.optimizer import compute_learning_rate
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import MAD_VOCABULARY as VOCABULARY
from gapctl.training.trial_state import TrialState
from row import Row, write_rows

TARGET, WANTED = 3.0, 4.0
LIMITS = {
    "auto": "in bfloat16: products at about two thirds of the peak; GELU, norms and softmax, a pass over memory each",
    "float32": "float32 products, which the peer has as well: only what lies between them can be saved",
}
SEEDS = (0, 1, 2)
CURVE_SAMPLES = 51_200
CURVE_POINTS = 16
CPU = torch.device("cpu")

Step = Callable[[], float]
Side = Literal["gapctl", "plain open_clip"]


class Case(NamedTuple):
    """What is measured: attributes in a caption, batch, loss, and the number format of our products."""

    attributes: int = 5
    batch: int = 256
    loss: Literal["clip", "siglip"] = "clip"
    precision: Literal["auto", "float32"] = "auto"

    def config(self, samples: int = 10**9) -> TrialConfig:
        """The trial that a step is taken from; it is evaluated at its start and end alone."""
        return TrialConfig(
            data=MadData(captions=MadCaptions(attributes=self.attributes)),
            loss=Loss(kind=self.loss),
            train=Train(samples=samples, batch_size=self.batch, precision=self.precision),
            evaluate=Evaluate(every=10**9, gallery=2),
        )


CASES = (
    Case(),
    Case(attributes=2),
    Case(attributes=0),
    Case(batch=128),
    Case(batch=128, attributes=2),
    Case(batch=128, attributes=0),
    Case(loss="siglip"),
    Case(precision="float32"),
)


class Nowhere:
    """A store that keeps nothing: the benchmark measures steps."""

    def checkpoints(self) -> list[tuple[str, bytes]]:
        return []

    def save_checkpoint(self, samples_seen: int, content: bytes) -> None:
        pass

    def write_in_parallel(self) -> AbstractContextManager[None]:
        return nullcontext()

    def save_history(self, rows: object) -> None:
        pass

    def save_dimensions(self, image_mean_D: object, text_mean_D: object) -> None:
        pass

    def save_axis(self, image_N: object, text_N: object, on_mean_N: object, label_N: object) -> None:
        pass

    def save_clouds(self, picture: bytes) -> None:
        pass

    def save_neighbors(self, picture: bytes) -> None:
        pass

    def save_steps(self, rows: object) -> None:
        pass

    def read_steps_or_empty(self) -> list[dict[str, float]]:
        return []

    def heartbeat(self, samples_seen: int) -> None:
        pass


def ours(config: TrialConfig, data: TrialData, seed: int = 0) -> Step:
    """One step of a trial, exactly as a sweep takes it; gives the loss."""
    run = TrainingRun([TrialState(config, seed, data, Nowhere(), CPU)], CPU)
    run.train_for(0.0)  # the evaluation before the first step
    return lambda: run.train_for(0.0)[0].loss


def make_adamw(
    model: CLIP, weight_decay: float, betas: tuple[float, float], eps: float, lr: float = 1e-3
) -> torch.optim.AdamW:
    """torch's AdamW, which decays matrices alone."""
    groups = [
        {"params": [value for value in model.parameters() if value.ndim >= 2], "weight_decay": weight_decay},
        {"params": [value for value in model.parameters() if value.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)


def plain_open_clip(config: TrialConfig, data: TrialData, seed: int = 0, device: torch.device = CPU) -> Step:
    """One step of the loop that one writes first, with the recipe of a trial; gives the loss."""
    model, loss_of = build_model(config, VOCABULARY, seed).to(device), make_contrastive_loss(config.loss.kind)
    assert isinstance(config.model, Model)
    preset = config.model.towers
    optimizer = make_adamw(model, config.train.weight_decay, preset.betas, preset.epsilon)
    batches: Iterator[tuple[MadBatch, int]] = iter(MadFeed(data, config, seed))

    def step() -> float:
        batch, seen = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = compute_learning_rate(config.train, seen // config.train.batch_size - 1)
        optimizer.zero_grad()
        loss = loss_of(
            *model(
                normalise_images(torch.from_numpy(batch.images_BCHW).to(device)),
                torch.from_numpy(batch.tokens_BL).to(device),
            )
        )
        torch.autograd.backward(loss)
        optimizer.step()
        clamp_temperature(model)
        return float(loss.detach())

    return step


MAKERS: dict[Side, Callable[[TrialConfig, TrialData], Step]] = {"gapctl": ours, "plain open_clip": plain_open_clip}


def serve(side: Side, case: Case, turns: Connection) -> None:
    """Takes as many steps as it is told and answers with samples per second, until it is told 0."""
    torch.set_num_threads(1)
    config = case.config()
    step = MAKERS[side](config, load_mad_arrays(require_mad_data(config)))
    while steps := turns.recv():
        started = time.process_time()
        for _ in range(steps):
            step()
        turns.send(steps * case.batch / (time.process_time() - started))


def rates(case: Case, rounds: int, steps: int) -> list[dict[Side, float]]:
    """Samples per second of both sides, a pair per round, after a few steps of warming up."""
    context = get_context("spawn")
    pipes: dict[Side, Connection] = {}
    processes = []
    for side in MAKERS:
        pipes[side], theirs = context.Pipe()
        processes.append(context.Process(target=serve, args=(side, case, theirs)))
        processes[-1].start()
        theirs.close()  # so that a process that dies is noticed

    def turn(side: Side, steps: int) -> float:
        pipes[side].send(steps)
        return float(pipes[side].recv())

    for side in pipes:
        turn(side, 4)
    found = [{side: turn(side, steps) for side in pipes} for _ in range(rounds)]
    for side, process in zip(pipes, processes, strict=True):
        pipes[side].send(0)
        process.join()
    return found


def measure(case: Case, rounds: int, steps: int) -> Row:
    """Both sides of a case, taking turns: medians over rounds; the ratio is the median of the rounds' ratios."""
    found = rates(case, rounds, steps)
    return Row(
        what=f"training step, {case.attributes} attributes, batch {case.batch}, {case.loss}, {case.precision}",
        unit="samples/s",
        peer_name="plain open_clip, float32",
        peer=median(pair["plain open_clip"] for pair in found),
        ours=median(pair["gapctl"] for pair in found),
        ratio=median(pair["gapctl"] / pair["plain open_clip"] for pair in found),
        target=TARGET,
        wanted=WANTED,
        limited_by=LIMITS[case.precision],
    )


def show(rows: Sequence[Row]) -> None:
    """The table of ratios."""
    table = Table("", "open_clip", "gapctl", "ratio", "target", title="samples per second of one core's own time")
    for row in rows:
        table.add_row(row.what, f"{row.peer:,.0f}", f"{row.ours:,.0f}", f"{row.ratio:.2f}", f"{row.target}")
    Console().print(table)


class CurvePoint(NamedTuple):
    """The mean loss of the steps up to `samples` since the last point."""

    samples: int
    seed: int
    peer: float
    ours: float


def curves(data: TrialData) -> list[CurvePoint]:
    """Both losses over a short training, for each seed."""
    case = Case(batch=128)
    config = case.config(CURVE_SAMPLES)
    window = CURVE_SAMPLES // case.batch // CURVE_POINTS
    points = []
    for seed in SEEDS:
        steps = plain_open_clip(config, data, seed), ours(config, data, seed)
        for index in range(1, CURVE_POINTS + 1):
            means = [fmean(step() for _ in range(window)) for step in steps]
            points.append(CurvePoint(index * window * case.batch, seed, *means))
    return points


def statement(points: Sequence[CurvePoint]) -> str:
    """Whether our curve lies within what a seed changes in the peer's."""
    inside, shares, places = 0, [], sorted({point.samples for point in points})
    for samples in places:
        here = [point for point in points if point.samples == samples]
        peers = [point.peer for point in here]
        inside += min(peers) <= fmean(point.ours for point in here) <= max(peers)
        shares.append(fmean(abs(point.ours - point.peer) for point in here) / (max(peers) - min(peers)))
    return (
        f"our mean loss lies within the range of the peer's {len(SEEDS)} seeds at {inside} of {len(places)} points; "
        f"at the same seed the two differ by {median(shares):.2f} of that range (median; largest {max(shares):.2f})"
    )


def write_curves(points: Sequence[CurvePoint], path: Path) -> None:
    """A row per point and seed."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CurvePoint._fields)
        writer.writerows((samples, seed, f"{peer:.5f}", f"{mine:.5f}") for samples, seed, peer, mine in points)


def main() -> None:
    """Prints the ratios, or what the curves say, and writes either where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--json", type=Path, help="also write the ratios here")
    parser.add_argument("--curves", type=Path, help="train both at three seeds and write the losses here instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load_mad_arrays(require_mad_data(Case().config()))
    if arguments.curves:
        points = curves(data)
        write_curves(points, arguments.curves)
        print(statement(points))
        return
    results = [measure(case, arguments.rounds, arguments.steps) for case in CASES]
    show(results)
    write_rows(results, arguments.json)


if __name__ == "__main__":
    main()
