"""Train one trial, or several of one shape together ("packed"), piece by piece for a driver: Ray Tune or a test.

1. `TrainingRun.train_for` takes steps and evaluations for some seconds, saves checkpoints and reports progress.
2. `PackedTrials.step` takes one step of all trials that stand at the same step; `iterate_batches` brings its pairs.
3. `build_trial_step` chooses the step: by hand (`fused_step`), by autograd (`autograd_step`), or a table's.

A trial's numbers depend on its configuration, seed and data alone, not on how the work is cut into pieces. Packed
trials get the same numbers but for the order of sums.

Index letters: B pairs of a batch, S pairs of all models, M models, C channels, H and W rows and columns, L positions.
"""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from open_clip.model import CLIP
from torch import Tensor

from gapctl.config.presets import PatchTower, Preset
from gapctl.config.trial import LOSSES, OpenClipModel, TrialConfig
from gapctl.models.build import ContrastiveModel
from gapctl.models.table import EmbeddingTable
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.batches import iterate_batches
from gapctl.training.fused_step import FusedStep, keep_freed_memory
from gapctl.training.optimizer import OptimizerState, compute_learning_rate
from gapctl.training.step_options import StepOptions, build_step_options, resolve_trial_precision
from gapctl.training.table_step import TableStep
from gapctl.training.trial_state import TrialProgress, TrialState
from gapctl.training.workers import SINGLE_WORKER, WorkerGroup

if TYPE_CHECKING:
    from gapctl.data.image_text.feed import PairReader

UNREAD_LOSSES = 64
"""Losses that stay on the device before they are read; each reading waits for all queued work."""


ROWS_AT_MOST = 1000
"""Rows that `steps.parquet` may have; a training of more than ten times as many steps logs fewer of them."""


def count_steps_between_rows(steps: int) -> int:
    """Return how many steps lie between two rows of `steps.parquet`: 10, or more where the training is long."""
    return max(10, math.ceil(steps / ROWS_AT_MOST))


class StepRow(NamedTuple):
    """A step whose loss is still unread, at `place` among the unread ones; its tensors stay on the device."""

    place: int
    step: int
    rate: float
    gradient_norm_M: Tensor
    logit_scale_M: Tensor
    seconds_M: list[float]

    def list_values(self, loss_M: Sequence[float]) -> list[dict[str, float]]:
        """Return the columns of `steps.parquet` for each model, given its loss."""
        tensors = self.gradient_norm_M.tolist(), self.logit_scale_M.tolist()
        return [
            {
                "seconds": seconds,
                "step/loss": loss,
                "step/learning_rate": self.rate,
                "step/gradient_norm": gradient_norm,
                "step/temperature": math.exp(-logit_scale),
            }
            for loss, seconds, gradient_norm, logit_scale in zip(loss_M, self.seconds_M, *tensors, strict=True)
        ]


class PackedTrials:
    """Trials that take their steps together. It takes over the members' models and optimiser states."""

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
        self._log_every = count_steps_between_rows(config.train.steps)
        self._unread_rows: list[StepRow] = []

    def step(self) -> None:
        """Take one step of all members."""
        started = time.monotonic()
        pairs = next(self._pairs)
        rate = compute_learning_rate(self._train, self.members[0].steps)
        temperatures = [member.scheduled_temperature for member in self.members]
        self._unread.append(self._step(pairs.image_SCHW, pairs.second, rate, temperatures))
        for member, caption_id_B in zip(self.members, pairs.caption_id_MB, strict=True):
            member.count(caption_id_B, len(self.members))
        if self.members[0].leads and self.members[0].steps % self._log_every == 0:
            self._unread_rows.append(self._measure_step(rate))
        self._split_time_since(started)
        if len(self._unread) >= UNREAD_LOSSES:
            self.read_losses()

    def read_losses(self) -> None:
        """Give the members the losses of the steps since the last call."""
        if not self._unread:
            return
        started = time.monotonic()
        losses = torch.stack(self._unread, dim=1).tolist()
        self._unread.clear()
        for member, member_losses in zip(self.members, losses, strict=True):
            member.add_losses(member_losses)
        for row in self._unread_rows:
            loss_M = [member_losses[row.place] for member_losses in losses]
            for member, values in zip(self.members, row.list_values(loss_M), strict=True):
                member.add_step_row({"samples_seen": row.step * self._train.batch_size, **values})
        self._unread_rows.clear()
        self._split_time_since(started)

    def _measure_step(self, rate: float) -> "StepRow":
        """Return what the last step was, without waiting for the device."""
        return StepRow(
            place=len(self._unread) - 1,
            step=self.members[0].steps,
            rate=rate,
            gradient_norm_M=self._step.compute_gradient_norms(),
            logit_scale_M=torch.stack([member.model.logit_scale.detach() for member in self.members]),
            seconds_M=[member.seconds for member in self.members],
        )

    def _split_time_since(self, started: float) -> None:
        share = (time.monotonic() - started) / len(self.members)
        for member in self.members:
            member.add_seconds(share)

    def save(self) -> None:
        """Write a checkpoint of each member that is not done."""
        self.read_losses()
        for index, member in enumerate(self.members):
            if not member.done:
                member.save(self._step.optimizer_state(index))

    def return_optimizer_states(self) -> None:
        """Give the members their optimiser states, so that they can go on in another group of packed trials."""
        self.read_losses()
        for index, member in enumerate(self.members):
            member.optimizer_state = self._step.optimizer_state(index)


class TrainingRun:
    """Trains its members to their ends: those furthest behind first, and together once they stand at the same step."""

    def __init__(
        self,
        members: Sequence[TrialState],
        device: torch.device,
        group: WorkerGroup = SINGLE_WORKER,
        reader: "PairReader | None" = None,
    ) -> None:
        """Prepare to train members whose configurations agree beyond what `plan.reset_packable_settings` resets.

        `group` are the workers that train one member together. `reader` reads its pairs, by default a thread.
        """
        keep_freed_memory()
        self.members = members
        self._device, self._group, self._reader = device, group, reader
        self._packed: PackedTrials | None = None

    @property
    def done(self) -> bool:
        """Whether all members are done."""
        return all(member.done for member in self.members)

    def train_for(self, seconds: float, steps: int = 1) -> tuple[TrialProgress, ...]:
        """Train for about `seconds` of wall time and at least `steps` steps or evaluations.

        Return each member's progress. Workers that train together must take the same number of steps: with 0 seconds,
        all take exactly `steps`.
        """
        started, taken = time.monotonic(), 0
        while not self.done:
            if self._train_or_evaluate():
                self._save_when_due()
            taken += 1
            if taken >= steps and time.monotonic() - started >= seconds:
                break
        if self._packed:
            self._packed.read_losses()
        for member in self.members:
            member.sum_counts_over_workers(self._group)
        self._save_when_due()
        elapsed = time.monotonic() - started
        return tuple(member.progress(elapsed) for member in self.members)

    def save(self) -> None:
        """Write checkpoints of the members that train now. Members ahead of them already have theirs."""
        if self._furthest_behind():
            self._get_packed_trials(self._furthest_behind()).save()
        elif self._packed and not self.done:
            self._packed.save()

    def _train_or_evaluate(self) -> bool:
        """Return whether it was an evaluation, after which a checkpoint is due so that no later kill repeats it."""
        least_steps = min(member.steps for member in self.members if not member.done)
        for member in self.members:
            if not member.evaluated and member.steps == least_steps:
                if self._packed:
                    self._packed.read_losses()
                member.sum_counts_over_workers(self._group)
                if self._packed and member.measures_sets:
                    self._packed.save()  # sets may take long: a kill meanwhile loses no step
                member.evaluate()
                return True
        self._get_packed_trials(self._furthest_behind()).step()
        return False

    def _furthest_behind(self) -> tuple[TrialState, ...]:
        """Return the members that take the next step."""
        training = [member for member in self.members if member.steps < member.steps_total]
        least = min((member.steps for member in training), default=0)
        return tuple(member for member in training if member.steps == least)

    def _get_packed_trials(self, members: tuple[TrialState, ...]) -> PackedTrials:
        if self._packed is None or self._packed.members != members:
            if self._packed:
                self._packed.return_optimizer_states()
            self._packed = PackedTrials(members, self._device, self._group, self._reader)
        return self._packed

    def _save_when_due(self) -> None:
        for member in self.members:
            if not member.done:
                member.heartbeat()
        packed = self._packed
        if (
            packed
            and all(member.evaluated for member in packed.members)
            and any(member.wants_checkpoint for member in packed.members)
        ):
            packed.save()


class TrialStep(Protocol):
    """Trains one model or several of one shape in place. Each step can load the `optimizer_state` of any other."""

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """Load an optimiser state for each model; call it after the models' weights were restored."""
        ...

    def optimizer_state(self, index: int = 0) -> OptimizerState:
        """Return the optimiser state of the model at `index`, for its checkpoint."""
        ...

    def compute_gradient_norms(self) -> Tensor:
        """Return the length of each model's gradient at the last step (M,)."""
        ...

    def __call__(
        self, image_SCHW: Tensor, second: Tensor, rate: float, temperatures: Sequence[float | None] = (), /
    ) -> Tensor:
        """Set scheduled temperatures, take one step, and return each model's loss before it (M,).

        Images are uint8 and `second` are tokens (int64), or images where both sides are images. A table is given
        numbers instead (S,).
        """
        ...


def build_trial_step(
    models: Sequence[ContrastiveModel], config: TrialConfig, device: torch.device, group: WorkerGroup
) -> TrialStep:
    """Return the step of a configuration; MAD's models, one or several, are trained by the hand-written step.

    A loss of another package is trained by autograd, whatever the model, and so is a public architecture.
    """
    rule = build_step_options(config, resolve_trial_precision(config, device))
    tables = [model for model in models if isinstance(model, EmbeddingTable)]
    if tables:
        return TableStep(tables, rule)
    models = [model for model in models if not isinstance(model, EmbeddingTable)]
    if isinstance(config.model, OpenClipModel):
        (model,) = models
        return AutogradStep(model, rule, device, group)
    preset = config.model.towers
    if config.data.dataset == "mad" and config.loss.kind in LOSSES:
        return FusedStep(models, preset, rule)
    (model,) = models
    return build_single_step(model, preset, rule, device, group)


def build_single_step(
    model: CLIP, preset: Preset, rule: StepOptions, device: torch.device, group: WorkerGroup = SINGLE_WORKER
) -> TrialStep:
    """Return a step for a preset's model; both kinds give the same numbers but for rounding.

    The hand-written step needs a vision transformer that is trained in full, by one worker, on a CPU, in whole batches,
    and one of gapctl's own losses.
    """
    alone = group.size == 1 and rule.micro_batches == 1 and not rule.compile
    trained_in_full = all(value.requires_grad for name, value in model.named_parameters() if name != "logit_scale")
    by_hand = isinstance(preset.image, PatchTower) and alone and device.type == "cpu" and trained_in_full
    by_hand = by_hand and rule.loss in LOSSES
    return FusedStep([model], preset, rule) if by_hand else AutogradStep(model, rule, device, group)
