"""Which step trains one model: the hand-written one where it can and is faster, and `OpenStep` everywhere else."""

from typing import Protocol

import torch
from open_clip.model import CLIP
from torch import Tensor

from gapctl.spec.presets import PatchTower, Preset
from gapctl.training.group import ALONE, Group
from gapctl.training.open_step import OpenStep
from gapctl.training.optimizer import OptimizerState
from gapctl.training.rule import StepRule
from gapctl.training.step import TrainingStep


class Step(Protocol):
    """Trains one model in place; checkpoints keep `optimizer_state`, whichever step goes on from them."""

    def __call__(
        self, image_BCHW: Tensor, token_BL: Tensor, rate: float, temperature: float | None = None
    ) -> Tensor: ...

    def load(self, state: OptimizerState | None) -> None: ...

    def optimizer_state(self) -> OptimizerState: ...


def step_for(model: CLIP, preset: Preset, rule: StepRule, device: torch.device, group: Group | None = None) -> Step:
    """A step for a preset's model; both kinds give the same numbers but for rounding.

    By hand: a vision transformer, all of it trained, by one worker, on a CPU, whole batches at a time.
    """
    alone = (group or ALONE).size == 1 and rule.micro_batches == 1 and not rule.compile
    by_hand = isinstance(preset.image, PatchTower) and alone and device.type == "cpu" and _is_trained_whole(model)
    return ByHand(model, preset, rule) if by_hand else OpenStep(model, rule, device, group)


def _is_trained_whole(model: CLIP) -> bool:
    return all(value.requires_grad for name, value in model.named_parameters() if name != "logit_scale")


class ByHand:
    """The hand-written step, which may train several models, for one."""

    def __init__(self, model: CLIP, preset: Preset, rule: StepRule) -> None:
        self._step = TrainingStep([model], preset, rule)

    def __call__(self, image_BCHW: Tensor, token_BL: Tensor, rate: float, temperature: float | None = None) -> Tensor:
        """Takes one step on images, uint8, and tokens, int64, and returns the loss before it (1,)."""
        return self._step(image_BCHW, token_BL, rate, temperature)

    def load(self, state: OptimizerState | None) -> None:
        """To be called after a checkpoint was read into the model, with what it kept of the optimiser."""
        self._step.load([state])

    def optimizer_state(self) -> OptimizerState:
        """What a checkpoint keeps of the optimiser."""
        return self._step.optimizer_state(0)
