"""What evaluations take of a laptop trial's time, and an encoding of the gallery beside open_clip's own pass.

    python benchmarks/evaluation.py [--json FILE]

Trials of `sweeps/imbalance.yaml` at its default scale, the poorest and the richest captions, on one core. Steps and
evaluations are timed in turns, in CPU seconds of this process, and their medians make up a whole trial. The peer of
the encoding is `CLIP.encode_image` and `encode_text` in float32, as the trials' embeddings are.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from open_clip.model import CLIP
from torch.nn.attention import SDPBackend, sdpa_kernel

from gapctl.cli.options import compute_data_source_fingerprint
from gapctl.config.load import load_sweep
from gapctl.data.mad.feed import load_mad_arrays, normalise_images, require_mad_data
from gapctl.plan.plan import Trial, make_plan
from gapctl.training.evaluation import MadEvaluation, build_gallery
from gapctl.training.fused_step import keep_freed_memory
from gapctl.training.trainer import PackedTrials
from gapctl.training.trial_state import TrialState
from row import Row, report
from training_step import Nowhere

CPU: Final = torch.device("cpu")
SWEEP: Final = Path(__file__).parent.parent / "sweeps" / "imbalance.yaml"
ROUNDS: Final = 7
STEPS: Final = 20


class Times(NamedTuple):
    """CPU seconds of one evaluation and of one step."""

    evaluation: float
    step: float

    def share(self, trial: Trial) -> float:
        """What evaluations take of a whole trial."""
        steps = trial.config.train.samples // trial.config.train.batch_size
        evaluations = 1 + -(-trial.config.train.samples // trial.config.evaluate.every)
        return evaluations * self.evaluation / (evaluations * self.evaluation + steps * self.step)


def seconds(call: Callable[[], object]) -> float:
    """The CPU time of a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def times_of(trial: Trial) -> Times:
    """Medians over rounds in which steps and an evaluation take turns."""
    member = TrialState(trial.config, trial.seed, load_mad_arrays(require_mad_data(trial.config)), Nowhere(), CPU)
    team = PackedTrials((member,), CPU)
    steps, evaluations = [], []

    def take_steps() -> None:
        for _ in range(STEPS):
            team.step()

    for _ in range(ROUNDS):
        steps.append(seconds(take_steps) / STEPS)
        evaluations.append(seconds(member.evaluate))
    return Times(statistics.median(evaluations), statistics.median(steps))


def encoding(trial: Trial) -> tuple[float, float]:
    """CPU seconds of encoding the gallery: the peer's and ours, medians of rounds in turns."""
    about = require_mad_data(trial.config)
    data = load_mad_arrays(about)
    model = TrialState(trial.config, trial.seed, data, Nowhere(), CPU).model
    assert isinstance(model, CLIP)
    gallery = build_gallery(data, about, trial.config.evaluate.gallery)
    evaluation = MadEvaluation(data, trial.config, CPU)
    asked = [prompts_CTL.reshape(-1, prompts_CTL.shape[-1]) for prompts_CTL in evaluation._prompts_CT.values()]
    token_NL = torch.from_numpy(np.concatenate([gallery.tokens_NL, *asked]))

    @torch.no_grad()
    def peer() -> None:
        with sdpa_kernel([SDPBackend.MATH]):
            for image_BCHW in torch.split(torch.from_numpy(gallery.images_NCHW), 512):
                model.encode_image(normalise_images(image_BCHW), normalize=True)
            for token_BL in torch.split(token_NL, 512):
                model.encode_text(token_BL, normalize=True)

    rounds = [(seconds(peer), seconds(lambda: evaluation.encode(model))) for _ in range(ROUNDS)]
    theirs, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
    return theirs, ours


def main() -> None:
    """Prints the figures, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="the rows that `make bench` shows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    trials = make_plan(load_sweep(SWEEP), compute_data_source_fingerprint).trials
    rows = []
    for trial in (trials[0], trials[-1]):
        found = times_of(trial)
        print(f"{trial.label}: evaluation {found.evaluation:.3f} s, step {1000 * found.step:.1f} ms", flush=True)
        what = f"evaluations' share of a laptop trial, {trial.label}"
        why = "half is encoding, at the core's float32 peak"
        rows.append(Row(what, "%", 100 * found.share(trial), why, target=10.0, better="lower"))
    theirs, ours = encoding(trials[-1])
    why = "products at the core's float32 peak"
    rows.append(Row("encoding the gallery and prompts", "s", ours, why, "open_clip in float32", theirs, theirs / ours))
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
