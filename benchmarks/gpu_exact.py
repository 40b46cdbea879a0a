"""What a GPU must compute as a CPU does: gradients, micro-batches, continued, captured and packed trainings."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from open_clip.model import CLIP
from torch import Tensor

from finding import Finding
from gapctl.config.presets import PRESETS, PatchTower, Preset, ResNet, Tower
from gapctl.config.trial import Evaluate, MadCaptions, MadData, Train, TrialConfig
from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.feed import TrialData
from gapctl.data.mad.images import MadSplit, generate_variant_images
from gapctl.data.mad.source import Split
from gapctl.models.build import CLIP_VOCABULARY, EmbeddingHead, PixelNormaliser, build_clip
from gapctl.models.losses import LossKind, make_contrastive_loss
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.step_options import Precision, StepOptions, build_preset_options
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from training_step import Nowhere

CPU = torch.device("cpu")
TEXT = Tower(width=64, layers=2, heads=2, tokens=CLIP_VOCABULARY.context)
SMALL: dict[str, Preset] = {
    "transformer": PRESETS["vit-b-32"]._replace(
        image=PatchTower(width=64, layers=2, heads=2, image_size=64, patch_size=16), text=TEXT, embed_dim=64
    ),
    "ResNet": PRESETS["rn50-cc12m"]._replace(
        image=ResNet(width=16, layers=(1, 1, 1, 1), image_size=64), text=TEXT, embed_dim=64
    ),
}
BATCH = 24


def pairs(preset: Preset, number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images uint8 of smooth noise and captions of 5 to 40 tokens, in memory that a GPU reads by itself."""
    generator = torch.Generator().manual_seed(seed)
    side = preset.image_size
    coarse = torch.rand(number, 3, 8, 8, generator=generator)
    image = (torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear") * 255).to(torch.uint8)
    token = torch.randint(1, CLIP_VOCABULARY.end - 1, (number, CLIP_VOCABULARY.context), generator=generator)
    for row, end in enumerate(torch.randint(5, 40, (number,), generator=generator).tolist()):
        token[row, end], token[row, end + 1 :] = CLIP_VOCABULARY.end, CLIP_VOCABULARY.pad
    return (image.pin_memory(), token.pin_memory()) if torch.cuda.is_available() else (image, token)


def model_of(preset: Preset, loss: LossKind = "clip") -> CLIP:
    """A preset's model with gains and biases away from 1 and 0, where a mistake could hide."""
    model = build_clip(preset, EmbeddingHead(preset.embed_dim, loss=loss), CLIP_VOCABULARY, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not name.startswith("logit"):
                value.add_(0.02 * torch.randn(value.shape, generator=generator))
    return model


def rule(preset: Preset, loss: LossKind = "clip", precision: Precision = "float32", parts: int = 1) -> StepOptions:
    """The rule of a check."""
    return replace(build_preset_options(preset, loss, precision, weight_decay=0.1), micro_batches=parts)


def gradient(model: CLIP) -> Tensor:
    """All gradients in a row, float64, on the CPU."""
    return torch.cat([value.grad.cpu().double().flatten() for value in model.parameters() if value.grad is not None])


def error(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative."""
    return float((found - expected).norm() / expected.norm())


@contextmanager
def full_float32() -> Iterator[None]:
    """Without TF32, which cuDNN takes by itself."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def gradients(device: torch.device) -> list[Finding]:
    """OpenStep's loss and gradients beside open_clip's loss in float64 on the CPU."""
    found = []
    for name, preset in SMALL.items():
        for loss in ("clip", "siglip"):
            expected = _by_open_clip(preset, loss)
            whole = model_of(preset, loss)
            with full_float32():
                value = AutogradStep(whole, rule(preset, loss), device).gradients(*pairs(preset, BATCH))
            what = f"{name}, {loss}, float32 beside float64 on the CPU"
            found += [
                Finding(f"loss of a {what}", abs(float(value) / expected[0] - 1), "relative", allowed=1e-5),
                Finding(f"gradient of a {what}", error(gradient(whole), expected[1]), "relative", allowed=1e-3),
            ]
        half = model_of(preset)
        AutogradStep(half, rule(preset, precision="bfloat16"), device).gradients(*pairs(preset, BATCH))
        angle = 1 - float(torch.cosine_similarity(gradient(half), _by_open_clip(preset, "clip")[1], dim=0))
        found.append(Finding(f"bfloat16 gradient of a {name}", angle, "1 - cosine", allowed=0.02))
    return found


def _by_open_clip(preset: Preset, loss: LossKind) -> tuple[float, Tensor]:
    model = model_of(preset, loss).double()
    image, token = pairs(preset, BATCH)
    value = make_contrastive_loss(loss)(
        *model(PixelNormaliser(preset.mean, preset.std, CPU).images(image).double(), token)
    )
    torch.autograd.backward(value)
    return float(value.detach()), gradient(model)


def micro_batches(device: torch.device) -> list[Finding]:
    """A batch in five parts beside the whole of it."""
    preset = SMALL["transformer"]
    models = model_of(preset), model_of(preset)
    with full_float32():
        for model, parts in zip(models, (1, 5), strict=True):
            AutogradStep(model, rule(preset, parts=parts), device).gradients(*pairs(preset, BATCH))
    found = error(gradient(models[1]), gradient(models[0]))
    return [Finding("gradient of five micro-batches beside that of the whole", found, "relative", allowed=1e-4)]


def continued(device: torch.device) -> list[Finding]:
    """Losses after a checkpoint beside those of the training that went on; convolutions keep their memory format."""
    found = []
    for name, preset in SMALL.items():
        step = AutogradStep(model_of(preset), rule(preset), device)
        for seed in range(3):
            step(*pairs(preset, BATCH, seed), 1e-3)
        again = AutogradStep(copy.deepcopy(step.model), rule(preset), device)
        again.load([step.optimizer_state()])
        losses = [[float(one(*pairs(preset, BATCH, seed), 1e-3)) for seed in range(3, 6)] for one in (step, again)]
        found.append(Finding(f"losses of a continued {name}", _apart(*losses), "relative", allowed=1e-3))
    return found


def no_waiting(device: torch.device) -> list[Finding]:
    """The host does not wait for the GPU within a step; CUDA says where it would."""
    what = "waits of the host within a step"
    if device.type != "cuda":
        return [Finding(what, None, "", note="asked of CUDA alone")]
    for preset in SMALL.values():
        step = AutogradStep(model_of(preset), rule(preset, precision="bfloat16", parts=2), device)
        step(*pairs(preset, BATCH), 1e-3)
        batch = pairs(preset, BATCH)
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(*batch, 1e-3)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [Finding(what, 0, "", allowed=0)]


class Curve(Nowhere):
    """Keeps a trial's rows."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def save_history(self, rows: object) -> None:
        assert isinstance(rows, list)
        self.losses = [row["train/loss"] for row in rows if "train/loss" in row]


def _mad(count: int) -> TrialData:
    def split(name: Split) -> MadSplit:
        digits = load_digits("bundled", name)
        rows = np.linspace(0, len(digits.labels_N) - 1, count).astype(int)
        return MadSplit(generate_variant_images(digits.images_NHW[rows], 1, 1), digits.labels_N[rows], f"first-{count}")

    return TrialData(train=split("train"), test=split("test"))


def _curves(device: torch.device, attributes: tuple[int, ...], data: TrialData) -> list[list[float]]:
    """The losses of trials of mad-tiny that are trained together, in windows of 16 steps."""
    configs = [
        TrialConfig(
            data=MadData(captions=MadCaptions(attributes=number)),
            train=Train(samples=12_288, batch_size=64, precision="float32"),
            evaluate=Evaluate(every=1_024, gallery=64),
        )
        for number in attributes
    ]
    stores = [Curve() for _ in configs]
    members = [TrialState(config, 0, data, store, device) for config, store in zip(configs, stores, strict=True)]
    run = TrainingRun(members, device)
    while not run.done:
        run.train_for(60.0)
    return [store.losses for store in stores]


def mad_trials(device: torch.device) -> list[Finding]:
    """A trial of mad-tiny, whose steps a GPU replays as one CUDA graph, beside a CPU's; and packed beside alone."""
    data = _mad(100)
    with full_float32():
        (on_cpu,), (alone,) = _curves(CPU, (5,), data), _curves(device, (5,), data)
        packed = _curves(device, (0, 5, 3), data)[1]
    note = f"from {alone[0]:.2f} to {alone[-1]:.2f}"
    return [
        Finding("loss curve of mad-tiny beside the CPU's", _apart(alone, on_cpu), "largest relative", 0.05, note=note),
        Finding("loss curve of mad-tiny packed beside alone", _apart(packed, alone), "largest relative", 0.05),
    ]


def _apart(curve: list[float], other: list[float]) -> float:
    return float(np.abs(np.divide(curve, other) - 1).max())
