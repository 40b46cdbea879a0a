"""The steps that a team of trials takes together: packed by hand, or one trial's whichever way is faster."""

from collections.abc import Sequence
from typing import Protocol

import torch
from open_clip.model import CLIP
from torch import Tensor

from gapctl.models.temperature import set_temperature
from gapctl.spec.presets import PRESETS
from gapctl.spec.trial import TrialConfig
from gapctl.training.group import Group
from gapctl.training.optimizer import OptimizerState
from gapctl.training.precision import resolve_precision
from gapctl.training.rule import rule_of
from gapctl.training.step import TrainingStep
from gapctl.training.step_for import Step, step_for


class Steps(Protocol):
    """Trains the models of one or several trials in place."""

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """To be called after checkpoints were read into the models, with what each kept of the optimiser."""
        ...

    def optimizer_state(self, index: int) -> OptimizerState:
        """What the checkpoint of the model in this place keeps of the optimiser."""
        ...

    def __call__(self, image_SCHW: Tensor, second: Tensor, rate: float, temperatures: Sequence[float | None]) -> Tensor:
        """Takes one step, scheduled temperatures set before it, and returns each model's loss before it (M,).

        `second` are tokens, or images where both sides are images.
        """
        ...


def step_of(models: Sequence[CLIP], config: TrialConfig, device: torch.device, group: Group) -> Steps:
    """The step of a configuration; several models, or MAD's, are trained by hand."""
    rule, preset = rule_of(config, resolve_precision(config.train.precision, device)), PRESETS[config.model.preset]
    if config.data.dataset == "mad":
        return _Packed(models, TrainingStep(models, preset, rule))
    (model,) = models
    return _Alone(step_for(model, preset, rule, device, group))


class _Packed:
    def __init__(self, models: Sequence[CLIP], step: TrainingStep) -> None:
        self._models, self._step = models, step
        self.load, self.optimizer_state = step.load, step.optimizer_state

    def __call__(self, image_SCHW: Tensor, second: Tensor, rate: float, temperatures: Sequence[float | None]) -> Tensor:
        for model, temperature in zip(self._models, temperatures, strict=True):
            if temperature is not None:
                set_temperature(model, temperature)
        return self._step(image_SCHW, second, rate)


class _Alone:
    def __init__(self, step: Step) -> None:
        self._step = step

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        (state,) = states
        self._step.load(state)

    def optimizer_state(self, index: int) -> OptimizerState:
        return self._step.optimizer_state()

    def __call__(self, image_SCHW: Tensor, second: Tensor, rate: float, temperatures: Sequence[float | None]) -> Tensor:
        (temperature,) = temperatures
        return self._step(image_SCHW, second, rate, temperature)
