"""Which step trains a configuration: the one by hand for small vision transformers alone on a CPU or packed, or
open_clip's own model by autograd."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gapctl.spec.presets import PRESETS
from gapctl.spec.trial import TrialConfig
from gapctl.training.group import Group
from gapctl.training.member import Member
from gapctl.training.open_step import OpenStep
from gapctl.training.optimizer import OptimizerState
from gapctl.training.pairs import Pairs
from gapctl.training.precision import resolve_precision
from gapctl.training.rule import rule_of
from gapctl.training.step import TrainingStep


class Step(Protocol):
    """Trains the members' models in place."""

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """To be called after checkpoints were read into the models, with what each kept of the optimiser."""
        ...

    def optimizer_state(self, index: int) -> OptimizerState:
        """What the checkpoint of the model in this place keeps of the optimiser."""
        ...

    def __call__(self, pairs: Pairs, rate: float, temperatures: Sequence[float | None]) -> Tensor:
        """Takes one step, scheduled temperatures set before it, and returns each model's loss (M,)."""
        ...
