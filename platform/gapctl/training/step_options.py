"""Define the options of a training step: loss, pixels, number format, gradient accumulation and optimiser."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from gapctl.config.presets import Colour, Preset
from gapctl.config.trial import TrialConfig, is_table
from gapctl.models.losses import NO_TERMS, LossKind, LossTerms
from gapctl.models.public import get_model_input

Precision = Literal["float32", "bfloat16"]


def resolve_precision(asked: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Precision:
    """Return the number format; `auto` is bfloat16 on hardware that multiplies in it, else float32.

    Such hardware is a CUDA device, or a CPU with AMX or AVX512-BF16.
    """
    if asked != "auto":
        return asked
    has_units = device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bfloat16" if has_units else "float32"


def resolve_trial_precision(config: TrialConfig, device: torch.device) -> Precision:
    """Return the number format of a training; a table's is float32 on any hardware."""
    return "float32" if is_table(config) else resolve_precision(config.train.precision, device)


def choose_product_dtype(precision: Precision) -> torch.dtype:
    """Return the dtype of matrix products.

    Master weights, statistics, softmax and loss are float32 in either format.
    """
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """The options of a model's steps, the same on every worker.

    `mean` and `std` are of pixels from 0 to 1. `micro_batches` is the number of parts in which a worker's pairs pass
    the towers; the loss is of the whole batch all the same. `compile` applies torch.compile to the towers. `betas` and
    `eps` are AdamW's, and its `weight_decay` applies to matrices alone. `terms` are added to the contrastive loss, and
    `masked` leaves equal captions of a batch out of it. A learned temperature's learning rate is `temperature_speed`
    times that of all else.
    """

    loss: LossKind
    precision: Precision
    mean: Colour
    std: Colour
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    micro_batches: int = 1
    compile: bool = False
    terms: LossTerms = NO_TERMS
    masked: bool = False
    temperature_speed: float = 1.0


def build_preset_options(preset: Preset, loss: LossKind, precision: Precision, weight_decay: float) -> StepOptions:
    """Return options with the pixels, betas and epsilon of a preset."""
    return StepOptions(
        loss=loss,
        precision=precision,
        mean=preset.mean,
        std=preset.std,
        betas=preset.betas,
        eps=preset.epsilon,
        weight_decay=weight_decay,
    )


def build_step_options(config: TrialConfig, precision: Precision) -> StepOptions:
    """Return the options of a trial."""
    train, loss = config.train, config.loss
    seen = get_model_input(config.model)
    rule = StepOptions(
        loss=loss.kind,
        precision=precision,
        mean=seen.mean,
        std=seen.std,
        betas=seen.betas,
        eps=seen.epsilon,
        weight_decay=train.weight_decay,
    )
    terms = LossTerms(loss.alignment, loss.uniformity, loss.cross_uniformity)
    speed = 1.0 if config.temperature.lr is None else config.temperature.lr / train.lr
    return replace(
        rule,
        micro_batches=train.micro_batches,
        compile=train.compile,
        terms=terms,
        masked=loss.equal_captions == "masked",
        temperature_speed=speed,
    )
