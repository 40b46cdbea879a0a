"""AdamW as open_clip sets it up: no weight decay on gains, biases and the temperature."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gapctl.training.masters import Masters
from gapctl.training.rule import StepRule

MOMENTS = ("exp_avg", "exp_avg_sq")

OptimizerState = Mapping[str, Any]
"""An AdamW's state dict over one trial's two flat arrays; the same however many trials were trained at once."""


class Optimizer:
    """Updates the masters of one or several models, which have taken the same number of steps."""

    def __init__(self, masters: Masters, rule: StepRule) -> None:
        self._stacked = masters.matrices.exact.ndim > 1
        self._on_gpu = masters.matrices.exact.is_cuda
        groups = [
            {"params": [masters.matrices.exact], "weight_decay": rule.weight_decay},
            {"params": [masters.vectors.exact], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, betas=rule.betas, eps=rule.eps, fused=True)
        self._make_capturable()

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next steps."""
        for group in self._adamw.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def step(self) -> None:
        """Takes one step by the masters' gradients."""
        self._adamw.step()

    def state_of(self, index: int) -> OptimizerState:
        """What the checkpoint of the model in this place keeps."""
        document = self._adamw.state_dict()
        groups = [{**group, "lr": float(group["lr"]), "capturable": False} for group in document["param_groups"]]
        state = {place: self._cut(moments, index) for place, moments in document["state"].items()}
        return {"state": state, "param_groups": groups}

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """Continues from the states of all models, or begins anew where they have none."""
        found = [state for state in states if state is not None and state["state"]]
        if not found:
            return
        if len(found) < len(states):
            raise ValueError("models that were trained and models that were not cannot take one step together")
        places = found[0]["state"]
        state = {place: self._joined([one["state"][place] for one in found]) for place in places}
        self._adamw.load_state_dict({"state": state, "param_groups": found[0]["param_groups"]})
        self._make_capturable()

    def _cut(self, moments: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
        rows = {name: moments[name][index].clone() if self._stacked else moments[name] for name in MOMENTS}
        return {"step": moments["step"].cpu(), **rows}

    def _joined(self, moments: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        if len({float(one["step"]) for one in moments}) > 1:
            raise ValueError("models that have taken different numbers of steps cannot take one step together")
        if not self._stacked:
            return dict(moments[0])
        return {"step": moments[0]["step"], **{name: torch.stack([one[name] for one in moments]) for name in MOMENTS}}

    def _make_capturable(self) -> None:
        """A CUDA graph repeats what it saw, so there the rate and the count of steps must lie on the device."""
        if not self._on_gpu:
            return
        for group in self._adamw.param_groups:
            device = group["params"][0].device
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
            for state in (self._adamw.state.get(parameter, {}) for parameter in group["params"]):
                if "step" in state:
                    state["step"] = state["step"].to(device)
