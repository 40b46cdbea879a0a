"""Samples per second and memory of `OpenStep` on one device, beside the loop that one writes first with open_clip.

The peer has the same model, number format, loss and AdamW; its images arrive as normalised float32, as open_clip's
loader gives them, and ours as bytes.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from finding import Finding
from gapctl.config.presets import PRESETS, Preset
from gapctl.models.build import CLIP_VOCABULARY, EmbeddingHead, PixelNormaliser, build_clip, clamp_temperature
from gapctl.models.losses import make_contrastive_loss
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.fused_step import FusedStep
from gapctl.training.step_options import StepOptions, build_preset_options
from gpu_exact import SMALL, pairs
from training_step import make_adamw

WARM_UP_STEPS = 6
RATE = 1e-4

Step = Callable[[], object]


class Case(NamedTuple):
    """What is timed."""

    preset: str
    batch: int
    parts: int = 1
    compile: bool = False

    def model(self, quick: bool) -> Preset:
        """The preset, or a small one of its kind where the script itself is tried out."""
        kind = "ResNet" if self.preset == "rn50-cc12m" else "transformer"
        return SMALL[kind] if quick else PRESETS[self.preset]


class Measured(NamedTuple):
    """Pairs per second, and megabytes of the device at most."""

    rate: float
    peak_mb: float


def compare(case: Case, device: torch.device, seconds: float, quick: bool) -> list[Finding]:
    """The peer first, then ours, alone on the device each."""
    preset, batch = case.model(quick), 8 if quick else case.batch
    rule = replace(
        build_preset_options(preset, "clip", "bfloat16", weight_decay=0.2),
        micro_batches=case.parts,
        compile=case.compile,
    )
    theirs = _measure(lambda: _plain(preset, rule, batch, device), batch, device, seconds)
    mine = _measure(lambda: _ours(preset, rule, batch, device), batch, device, seconds)
    kind = f"{case.preset}, batch {batch}" + ", compiled" * case.compile
    kind += f", {case.parts} micro-batches" if case.parts > 1 else ""
    return [
        Finding(f"speed of {kind}", mine.rate, "pairs/s", peer=theirs.rate),
        Finding(f"memory of {kind}", mine.peak_mb, "MB", peer=theirs.peak_mb),
    ]


def by_hand(device: torch.device, seconds: float, quick: bool) -> list[Finding]:
    """The hand-written step, on a GPU a CUDA graph, beside `OpenStep` for the small preset."""
    preset = PRESETS["pairs-small"]
    found = []
    for batch in (8,) if quick else (128, 1024):
        rule = build_preset_options(preset, "clip", "bfloat16", weight_decay=0.2)
        autograd = _measure(lambda: _ours(preset, rule, batch, device), batch, device, seconds)  # noqa: B023
        hand = _measure(lambda: _hand(preset, rule, batch, device), batch, device, seconds)  # noqa: B023
        what = f"speed of pairs-small by hand beside autograd, batch {batch}"
        found.append(Finding(what, hand.rate, "pairs/s", peer=autograd.rate))
    return found


def _ours(preset: Preset, rule: StepOptions, batch: int, device: torch.device) -> Step:
    step = AutogradStep(build_clip(preset, EmbeddingHead(preset.embed_dim), CLIP_VOCABULARY, 0), rule, device)
    batches = cycle([pairs(preset, batch, seed) for seed in range(2)])
    return lambda: step(*next(batches), RATE)


def _hand(preset: Preset, rule: StepOptions, batch: int, device: torch.device) -> Step:
    model = build_clip(preset, EmbeddingHead(preset.embed_dim), CLIP_VOCABULARY, 0).to(device)
    step = FusedStep([model], preset, rule)
    batches = cycle([pairs(preset, batch, seed) for seed in range(2)])
    return lambda: step(*next(batches), RATE)


def _plain(preset: Preset, rule: StepOptions, batch: int, device: torch.device) -> Step:
    model, loss_of = (
        build_clip(preset, EmbeddingHead(preset.embed_dim), CLIP_VOCABULARY, 0).to(device),
        make_contrastive_loss("clip"),
    )
    optimizer = make_adamw(model, rule.weight_decay, rule.betas, rule.eps, RATE)
    pixels = PixelNormaliser(preset.mean, preset.std, torch.device("cpu"))
    torch.backends.cudnn.benchmark = True  # as open_clip's training script sets it

    def ready(seed: int) -> tuple[Tensor, Tensor]:
        image, token = pairs(preset, batch, seed)
        scaled = pixels.images(image)
        return scaled.pin_memory() if torch.cuda.is_available() else scaled, token

    batches = cycle([ready(seed) for seed in range(2)])

    def step() -> None:
        image, token = (part.to(device, non_blocking=True) for part in next(batches))
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(*model(image, token))
        torch.autograd.backward(loss)
        optimizer.step()
        clamp_temperature(model)

    return step


def _measure(make: Callable[[], Step], batch: int, device: torch.device, seconds: float) -> Measured:
    with _fresh(device):
        step = make()
        for _ in range(WARM_UP_STEPS):
            step()
        _wait(device)
        steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            for _ in range(4):
                step()
            steps += 4
            _wait(device)
        rate = steps * batch / (time.perf_counter() - began)
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else 0.0
    return Measured(rate, peak)


@contextmanager
def _fresh(device: torch.device) -> Iterator[None]:
    """Nothing of the last measurement on the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
