"""What a training step is told beside the model: loss, pixels, number format, gradient accumulation and optimiser."""

from dataclasses import dataclass, replace

from gapctl.models.loss_terms import NO_TERMS, LossTerms
from gapctl.models.losses import LossKind
from gapctl.spec.presets import PRESETS, Colour, Preset
from gapctl.spec.trial import TrialConfig
from gapctl.training.precision import Resolved


@dataclass(frozen=True, kw_only=True)
class StepRule:
    """How a model takes a step; the same on every worker.

    `mean` and `std` are of pixels from 0 to 1. `micro_batches`: in how many parts a worker's pairs go through the
    towers; the loss is of the whole batch all the same. `compile` has torch.compile fuse the towers. `betas` and `eps`
    are AdamW's, and its `weight_decay` is on matrices alone. `terms` are added to the contrastive loss. A learned
    temperature's rate is `temperature_speed` times that of all else.
    """

    loss: LossKind
    precision: Resolved
    mean: Colour
    std: Colour
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    micro_batches: int = 1
    compile: bool = False
    terms: LossTerms = NO_TERMS
    temperature_speed: float = 1.0


def preset_rule(preset: Preset, loss: LossKind, precision: Resolved, weight_decay: float) -> StepRule:
    """A rule with what belongs to a preset's models: pixels, betas and epsilon."""
    return StepRule(
        loss=loss,
        precision=precision,
        mean=preset.mean,
        std=preset.std,
        betas=preset.betas,
        eps=preset.epsilon,
        weight_decay=weight_decay,
    )


def rule_of(config: TrialConfig, precision: Resolved) -> StepRule:
    """A trial's."""
    preset = PRESETS[config.model.preset]
    train, loss = config.train, config.loss
    rule = preset_rule(preset, loss.kind, precision, train.weight_decay)
    terms = LossTerms(loss.alignment, loss.uniformity, loss.cross_uniformity)
    speed = 1.0 if config.temperature.lr is None else config.temperature.lr / train.lr
    return replace(rule, micro_batches=train.micro_batches, compile=train.compile, terms=terms, temperature_speed=speed)
