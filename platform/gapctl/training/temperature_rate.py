"""A learning rate of the temperature's own, and its bounds."""

from collections.abc import Callable, Sequence

import torch
from open_clip.model import CLIP

from gapctl.models.temperature import clamp_temperature
from gapctl.training.rule import StepRule


class TemperatureRate:
    """Has learned temperatures move at their rule's speed.

    AdamW moves a value that does not decay in proportion to the learning rate, so a step at another rate is the same
    step, so many times as long; the optimiser's state does not know of it.
    """

    def __init__(self, models: Sequence[CLIP], rule: StepRule) -> None:
        self._learned = [model for model in models if model.logit_scale.requires_grad]
        self._speed = rule.temperature_speed

    @torch.no_grad()
    def move(self, step: Callable[[], None]) -> None:
        """Takes an optimiser's step, which moves all parameters; learned temperatures stay in CLIP's bounds."""
        if self._speed == 1.0:
            step()
        else:
            before = [model.logit_scale.clone() for model in self._learned]
            step()
            for model, start in zip(self._learned, before, strict=True):
                model.logit_scale.copy_(torch.lerp(start, model.logit_scale, self._speed))
        for model in self._learned:
            clamp_temperature(model)
