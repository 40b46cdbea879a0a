"""AdamW over an open_clip model's parameters as they are; its state has the form that the hand-written step keeps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gapctl.training.optimizer import MOMENTS, OptimizerState
from gapctl.training.rule import StepRule


class OpenOptimizer:
    """Decays matrices and no vector, as open_clip does: gains, biases and the logit scale are none."""

    def __init__(self, model: nn.Module, rule: StepRule) -> None:
        trained = [value for value in model.parameters() if value.requires_grad]
        self._kinds = (
            [value for value in trained if value.ndim >= 2],
            [value for value in trained if value.ndim < 2],
        )
        decays = (rule.weight_decay, 0.0)
        groups = [
            {"params": kind, "weight_decay": decay} for kind, decay in zip(self._kinds, decays, strict=True) if kind
        ]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, betas=rule.betas, eps=rule.eps, fused=True)

    def forget_gradients(self) -> None:
        """Before gradients are added up anew."""
        self._adamw.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Takes one step at a learning rate."""
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.step()

    def state(self) -> OptimizerState:
        """Moments of all matrices and of all vectors in a row each, on the CPU."""
        groups = [{**group, "params": [place]} for place, group in enumerate(self._adamw.state_dict()["param_groups"])]
        state = {place: self._joined(kind) for place, kind in enumerate(self._kinds) if self._has_moments(kind)}
        return {"state": state, "param_groups": groups}

    def load(self, state: OptimizerState | None) -> None:
        """Continues from a state, of either step, or begins anew where there is none."""
        for place, kept in (state["state"] if state else {}).items():
            self._take(self._kinds[place], kept)

    def _has_moments(self, kind: Sequence[nn.Parameter]) -> bool:
        return bool(kind) and "step" in self._adamw.state[kind[0]]

    def _joined(self, kind: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        states = [self._adamw.state[value] for value in kind]
        rows = {name: torch.cat([state[name].detach().cpu().flatten() for state in states]) for name in MOMENTS}
        return {"step": states[0]["step"].detach().cpu().clone(), **rows}

    def _take(self, kind: Sequence[nn.Parameter], kept: dict[str, Tensor]) -> None:
        sizes = [value.numel() for value in kind]
        parts = {name: torch.split(kept[name], sizes) for name in MOMENTS}
        for index, value in enumerate(kind):
            moments = {name: torch.empty_like(value).copy_(parts[name][index].view(value.shape)) for name in MOMENTS}
            self._adamw.state[value] = {"step": kept["step"].clone().to(value.device), **moments}
