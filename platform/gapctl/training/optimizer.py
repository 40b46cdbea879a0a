"""Update weights: AdamW for one model or for several packed ones, with its schedules of rate and temperature.

The learning rate rises linearly in a warm-up and then follows a cosine to zero. Warm-up is a share of all steps: the
10,000 of 316,000 in arXiv 2404.07983's CC12M trainings are 0.0317.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from open_clip.model import CLIP
from torch import Tensor, nn

from gapctl.config.trial import Temperature, Train
from gapctl.models.build import clamp_temperature
from gapctl.training.step_options import StepOptions

MOMENTS = ("exp_avg", "exp_avg_sq")


class OptimizerState(TypedDict):
    """An AdamW's state dict over one trial's two flat arrays; the same however many trials were trained at once."""

    state: dict[int, dict[str, Tensor]]
    param_groups: list[dict[str, object]]


def compute_learning_rate(train: Train, step: int) -> float:
    """Return the rate of the 0-based `step`; as a pure function it needs no state in a checkpoint."""
    if step < train.warmup_steps:
        return train.lr * (step + 1) / train.warmup_steps
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return train.lr * 0.5 * (1 + math.cos(math.pi * progress))


def compute_scheduled_temperature(temperature: Temperature, step: int, steps: int) -> float | None:
    """Return the temperature of the 0-based `step`, or None if it follows no schedule.

    It goes from `init` to `final` over `steps` by equal factors.
    """
    if temperature.mode != "schedule" or temperature.final is None:
        return None
    share = step / max(1, steps - 1)
    return math.exp((1 - share) * math.log(temperature.init) + share * math.log(temperature.final))


class StepOptimizer:
    """AdamW that decays matrices but no vectors or scalars, as open_clip's does.

    Several models have stacked parameters (M, ...), and must have taken the same number of steps. A learned temperature
    may have a learning rate of its own: AdamW moves a value without weight decay in proportion to the rate, so its move
    is only scaled, and the optimiser's state is not involved.
    """

    def __init__(
        self,
        models: Sequence[CLIP],
        matrices: Sequence[nn.Parameter],
        vectors: Sequence[nn.Parameter],
        rule: StepOptions,
        *,
        capturable: bool = False,
    ) -> None:
        """Take over the parameters; a `capturable` optimiser's step can be recorded in a CUDA graph."""
        self._kinds = (matrices, vectors)
        decays = zip(self._kinds, (rule.weight_decay, 0.0), strict=True)
        groups = [{"params": kind, "weight_decay": decay} for kind, decay in decays if kind]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, betas=rule.betas, eps=rule.eps, fused=True)
        self._stacked = len(models) > 1
        self._learned = [model for model in models if model.logit_scale.requires_grad]
        self._temperature_speed = rule.temperature_speed
        self._capturable = capturable
        self._make_capturable()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next steps."""
        for group in self._adamw.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @torch.no_grad()
    def step(self) -> None:
        """Take one step by the parameters' gradients, and keep learned temperatures within CLIP's bounds."""
        before = [model.logit_scale.clone() for model in self._learned] if self._temperature_speed != 1.0 else []
        self._adamw.step()
        if before:
            for model, start in zip(self._learned, before, strict=True):
                model.logit_scale.copy_(torch.lerp(start, model.logit_scale, self._temperature_speed))
        for model in self._learned:
            clamp_temperature(model)

    @torch.no_grad()
    def compute_gradient_norms(self) -> Tensor:
        """Return the length of each model's whole gradient at the last step (M,), on the device."""
        gradients = [value.grad for kind in self._kinds for value in kind if value.grad is not None]
        models = len(gradients[0]) if self._stacked else 1
        parts = [torch.linalg.vector_norm(gradient.reshape(models, -1), dim=1) for gradient in gradients]
        norm_M: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
        return norm_M

    def export_state(self, index: int) -> OptimizerState:
        """Return the state of the model at `index` on the CPU, with one row of moments per kind of parameter."""
        groups: list[dict[str, object]] = [
            {**group, "params": [place], "lr": float(group["lr"]), "capturable": False}
            for place, group in enumerate(self._adamw.state_dict()["param_groups"])
        ]
        state: dict[int, dict[str, Tensor]] = {}
        for place, kind in enumerate(self._kinds):
            moments = [self._adamw.state[value] for value in kind if self._adamw.state.get(value)]
            if moments:
                joined = {
                    name: torch.cat(
                        [(each[name][index] if self._stacked else each[name]).cpu().flatten() for each in moments]
                    )
                    for name in MOMENTS
                }
                state[place] = {"step": moments[0]["step"].cpu().clone(), **joined}
        return {"state": state, "param_groups": groups}

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """Continue from the states of all models, or begin anew if none has one.

        Raise ValueError if only some have one, or if they have taken different numbers of steps.
        """
        trained = [state["state"] for state in states if state is not None and state["state"]]
        if not trained:
            return
        if len(trained) < len(states):
            raise ValueError("models that were trained and models that were not cannot take one step together")
        if len({float(moments["step"]) for state in trained for moments in state.values()}) > 1:
            raise ValueError("models that have taken different numbers of steps cannot take one step together")
        for place in trained[0]:
            self._load_moments(self._kinds[place], [state[place] for state in trained])
        self._make_capturable()

    def _load_moments(self, kind: Sequence[nn.Parameter], rows: Sequence[Mapping[str, Tensor]]) -> None:
        sizes = [value.numel() // len(rows) for value in kind]
        parts = {
            name: torch.split(
                torch.stack([row[name] for row in rows]) if self._stacked else rows[0][name], sizes, dim=-1
            )
            for name in MOMENTS
        }
        for index, value in enumerate(kind):
            moments = {name: torch.empty_like(value).copy_(parts[name][index].view(value.shape)) for name in MOMENTS}
            self._adamw.state[value] = {"step": rows[0]["step"].clone().to(value.device), **moments}

    def _make_capturable(self) -> None:
        """Move rate and step count to the GPU: a CUDA graph would repeat their recorded values."""
        if not self._capturable:
            return
        for group in self._adamw.param_groups:
            device = group["params"][0].device
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
            for state in (self._adamw.state.get(parameter, {}) for parameter in group["params"]):
                if "step" in state:
                    state["step"] = state["step"].to(device)
