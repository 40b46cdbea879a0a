"""One trial, or several of one shape ("packed"), advanced piece by piece by whoever drives them: Ray Tune or a test.

A trial's numbers depend on its configuration, seed and data alone; how the work is cut into pieces changes nothing.
Trained beside others they are the same but for the order of sums.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from open_clip.model import CLIP
from torch import Tensor

from gapctl.config.presets import PRESETS, PatchTower, Preset
from gapctl.config.trial import TrialConfig
from gapctl.models.build import set_temperature
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.fused_step import FusedStep, OptimizerState, keep_freed_memory
from gapctl.training.schedule import compute_learning_rate
from gapctl.training.step_options import StepOptions, build_step_options, resolve_precision
from gapctl.training.trial_state import TrialProgress, TrialState, iterate_batches
from gapctl.training.workers import SINGLE_WORKER, WorkerGroup

if TYPE_CHECKING:
    from gapctl.data.image_text.feed import PairReader


class SingleStep(Protocol):
    """Trains one model in place; checkpoints keep `optimizer_state`, whichever step goes on from them."""

    def __call__(
        self, image_BCHW: Tensor, token_BL: Tensor, rate: float, temperature: float | None = None
    ) -> Tensor: ...

    def load(self, state: OptimizerState | None) -> None: ...

    def optimizer_state(self) -> OptimizerState: ...


def build_single_step(
    model: CLIP, preset: Preset, rule: StepOptions, device: torch.device, group: WorkerGroup | None = None
) -> SingleStep:
    """A step for a preset's model; both kinds give the same numbers but for rounding.

    By hand: a vision transformer, all of it trained, by one worker, on a CPU, whole batches at a time.
    """
    alone = (group or SINGLE_WORKER).size == 1 and rule.micro_batches == 1 and not rule.compile
    by_hand = isinstance(preset.image, PatchTower) and alone and device.type == "cpu" and _is_trained_whole(model)
    return SingleFusedStep(model, preset, rule) if by_hand else AutogradStep(model, rule, device, group)


def _is_trained_whole(model: CLIP) -> bool:
    return all(value.requires_grad for name, value in model.named_parameters() if name != "logit_scale")


class SingleFusedStep:
    """The hand-written step, which may train several models, for one."""

    def __init__(self, model: CLIP, preset: Preset, rule: StepOptions) -> None:
        self._step = FusedStep([model], preset, rule)

    def __call__(self, image_BCHW: Tensor, token_BL: Tensor, rate: float, temperature: float | None = None) -> Tensor:
        """Takes one step on images, uint8, and tokens, int64, and returns the loss before it (1,)."""
        return self._step(image_BCHW, token_BL, rate, temperature)

    def load(self, state: OptimizerState | None) -> None:
        """To be called after a checkpoint was read into the model, with what it kept of the optimiser."""
        self._step.load([state])

    def optimizer_state(self) -> OptimizerState:
        """What a checkpoint keeps of the optimiser."""
        return self._step.optimizer_state(0)


class TrialStep(Protocol):
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


def build_trial_step(
    models: Sequence[CLIP], config: TrialConfig, device: torch.device, group: WorkerGroup
) -> TrialStep:
    """The step of a configuration; several models, or MAD's, are trained by hand."""
    rule, preset = (
        build_step_options(config, resolve_precision(config.train.precision, device)),
        PRESETS[config.model.preset],
    )
    if config.data.dataset == "mad":
        return _PackedFusedStep(models, FusedStep(models, preset, rule))
    (model,) = models
    return _SingleTrialStep(build_single_step(model, preset, rule, device, group))


class _PackedFusedStep:
    def __init__(self, models: Sequence[CLIP], step: FusedStep) -> None:
        self._models, self._step = models, step
        self.load, self.optimizer_state = step.load, step.optimizer_state

    def __call__(self, image_SCHW: Tensor, second: Tensor, rate: float, temperatures: Sequence[float | None]) -> Tensor:
        for model, temperature in zip(self._models, temperatures, strict=True):
            if temperature is not None:
                set_temperature(model, temperature)
        return self._step(image_SCHW, second, rate)


class _SingleTrialStep:
    def __init__(self, step: SingleStep) -> None:
        self._step = step

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        (state,) = states
        self._step.load(state)

    def optimizer_state(self, index: int) -> OptimizerState:
        return self._step.optimizer_state()

    def __call__(self, image_SCHW: Tensor, second: Tensor, rate: float, temperatures: Sequence[float | None]) -> Tensor:
        (temperature,) = temperatures
        return self._step(image_SCHW, second, rate, temperature)


UNREAD_LOSSES = 64
"""Losses left on the device before they are read: each reading waits for all the work before it."""


class PackedTrials:
    """Takes over the members' models and what they kept of the optimiser."""

    def __init__(
        self,
        members: Sequence[TrialState],
        device: torch.device,
        group: WorkerGroup = SINGLE_WORKER,
        reader: "PairReader | None" = None,
    ) -> None:
        self.members = members
        config = members[0].config
        self._train = config.train
        self._step = build_trial_step([member.model for member in members], config, device, group)
        self._step.load([member.optimizer_state for member in members])
        self._pairs = iterate_batches(members, device, group, reader)
        self._unread: list[Tensor] = []

    def step(self) -> None:
        """One step of all."""
        started = time.monotonic()
        pairs = next(self._pairs)
        rate = compute_learning_rate(self._train, self.members[0].steps)
        temperatures = [member.scheduled_temperature for member in self.members]
        self._unread.append(self._step(pairs.image_SCHW, pairs.second, rate, temperatures))
        for member, caption_id_B in zip(self.members, pairs.caption_id_MB, strict=True):
            member.count(caption_id_B, len(self.members))
        self._share_time_since(started)
        if len(self._unread) >= UNREAD_LOSSES:
            self.read_losses()

    def read_losses(self) -> None:
        """Tells the members the losses of the steps since this was last called."""
        if not self._unread:
            return
        started = time.monotonic()
        losses = torch.stack(self._unread, dim=1).tolist()
        self._unread.clear()
        for member, own in zip(self.members, losses, strict=True):
            member.add_losses(own)
        self._share_time_since(started)

    def _share_time_since(self, started: float) -> None:
        share = (time.monotonic() - started) / len(self.members)
        for member in self.members:
            member.add_seconds(share)

    def save(self) -> None:
        """Writes a checkpoint of each that is not done."""
        self.read_losses()
        for index, member in enumerate(self.members):
            if not member.done:
                member.save(self._step.optimizer_state(index))

    def return_optimizer_states(self) -> None:
        """Gives the members what they need to go on in another team."""
        self.read_losses()
        for index, member in enumerate(self.members):
            member.optimizer_state = self._step.optimizer_state(index)


class TrainingRun:
    """Trains its members to their ends: those that have come less far first, and together from where they meet."""

    def __init__(
        self,
        members: Sequence[TrialState],
        device: torch.device,
        group: WorkerGroup = SINGLE_WORKER,
        reader: "PairReader | None" = None,
    ) -> None:
        """The members' configurations must agree in all that `gapctl.plan.plan.extract_shape` compares.

        `group` are the workers that train one member together, `reader` reads its pairs, by default a thread.
        """
        keep_freed_memory()
        self.members = members
        self._device, self._group, self._reader = device, group, reader
        self._team: PackedTrials | None = None

    @property
    def done(self) -> bool:
        """Whether all members are."""
        return all(member.done for member in self.members)

    def train_for(self, seconds: float, steps: int = 1) -> tuple[TrialProgress, ...]:
        """Trains for about `seconds` of wall time, but at least so many steps or evaluations; a report of each member.

        Workers that train together need the same number: with 0 seconds, all take exactly `steps`.
        """
        started, taken = time.monotonic(), 0
        while not self.done:
            if self._train_or_evaluate():
                self._save_when_due()
            taken += 1
            if taken >= steps and time.monotonic() - started >= seconds:
                break
        if self._team:
            self._team.read_losses()
        for member in self.members:
            member.add_counts(self._group)
        self._save_when_due()
        elapsed = time.monotonic() - started
        return tuple(member.progress(elapsed) for member in self.members)

    def save(self) -> None:
        """Writes the checkpoints of the members that train now; those ahead of them stand where theirs were written."""
        if self._furthest_behind():
            self._get_packed_trials(self._furthest_behind()).save()
        elif self._team and not self.done:
            self._team.save()

    def _train_or_evaluate(self) -> bool:
        """Whether it was an evaluation, after which a checkpoint is due: no later kill may cost it."""
        for member in self.members:
            if not member.evaluated and member.steps == self._find_least_steps():
                if self._team:
                    self._team.read_losses()
                member.add_counts(self._group)
                member.evaluate()
                return True
        self._get_packed_trials(self._furthest_behind()).step()
        return False

    def _find_least_steps(self) -> int:
        return min(member.steps for member in self.members if not member.done)

    def _furthest_behind(self) -> tuple[TrialState, ...]:
        """The members that take the next step."""
        training = [member for member in self.members if member.steps < member.steps_total]
        least = min((member.steps for member in training), default=0)
        return tuple(member for member in training if member.steps == least)

    def _get_packed_trials(self, members: tuple[TrialState, ...]) -> PackedTrials:
        if self._team is None or self._team.members != members:
            if self._team:
                self._team.return_optimizer_states()
            self._team = PackedTrials(members, self._device, self._group, self._reader)
        return self._team

    def _save_when_due(self) -> None:
        for member in self.members:
            if not member.done:
                member.heartbeat()
        team = self._team
        if (
            team
            and all(member.evaluated for member in team.members)
            and any(member.wants_checkpoint for member in team.members)
        ):
            team.save()
