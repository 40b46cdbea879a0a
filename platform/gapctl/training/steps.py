"""Which step trains a configuration: the one by hand where it is there and faster, or open_clip's model by autograd."""

from collections.abc import Sequence
from typing import Final, Protocol

import torch
from open_clip.model import CLIP
from torch import Tensor

from gapctl.models.temperature import set_temperature
from gapctl.spec.presets import PRESETS, PatchTower
from gapctl.spec.trial import TrialConfig
from gapctl.training.group import Group
from gapctl.training.open_step import OpenStep
from gapctl.training.optimizer import OptimizerState
from gapctl.training.precision import resolve_precision
from gapctl.training.rule import rule_of
from gapctl.training.step import TrainingStep

WIDEST_BY_HAND: Final = 128
"""Channels of an image tower up to which the hand-written step is the faster one on a CPU."""


class Step(Protocol):
    """Trains models in place."""

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """To be called after checkpoints were read into the models, with what each kept of the optimiser."""
        ...

    def optimizer_state(self, index: int) -> OptimizerState:
        """What the checkpoint of the model in this place keeps of the optimiser."""
        ...

    def __call__(
        self, image_SCHW: Tensor, token_SL: Tensor, rate: float, temperatures: Sequence[float | None]
    ) -> Tensor:
        """Takes one step, scheduled temperatures set before it, and returns each model's loss before it (M,)."""
        ...


def step_of(models: Sequence[CLIP], config: TrialConfig, device: torch.device, group: Group) -> Step:
    """The step of a configuration; several models, or MAD's, are trained by hand."""
    rule = rule_of(config, resolve_precision(config.train.precision, device))
    if config.data.dataset == "mad" or _by_hand(config, device, group):
        return _ByHand(models, TrainingStep(models, PRESETS[config.model.preset], rule))
    (model,) = models
    return _ByAutograd(OpenStep(model, rule, device, group))


def _by_hand(config: TrialConfig, device: torch.device, group: Group) -> bool:
    image, train = PRESETS[config.model.preset].image, config.train
    small = isinstance(image, PatchTower) and image.width <= WIDEST_BY_HAND
    return small and device.type == "cpu" and group.size == 1 and train.micro_batches == 1 and not train.compile


class _ByHand:
    def __init__(self, models: Sequence[CLIP], step: TrainingStep) -> None:
        self._models, self._step = models, step
        self.load, self.optimizer_state = step.load, step.optimizer_state

    def __call__(
        self, image_SCHW: Tensor, token_SL: Tensor, rate: float, temperatures: Sequence[float | None]
    ) -> Tensor:
        for model, temperature in zip(self._models, temperatures, strict=True):
            if temperature is not None:
                set_temperature(model, temperature)
        return self._step(image_SCHW, token_SL, rate)


class _ByAutograd:
    def __init__(self, step: OpenStep) -> None:
        self._step = step

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        (state,) = states
        self._step.load(state)

    def optimizer_state(self, index: int) -> OptimizerState:
        return self._step.optimizer_state()

    def __call__(
        self, image_SCHW: Tensor, token_SL: Tensor, rate: float, temperatures: Sequence[float | None]
    ) -> Tensor:
        (temperature,) = temperatures
        return self._step(image_SCHW, token_SL, rate, temperature)
