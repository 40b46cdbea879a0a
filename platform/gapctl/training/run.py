"""One trial, or several of one shape ("packed"), advanced piece by piece by whoever drives them: Ray Tune or a test.

A trial's numbers depend on its configuration, seed and data alone; how the work is cut into pieces changes nothing.
Trained beside others they are the same but for the order of sums.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from gapctl.training.group import ALONE, Group
from gapctl.training.member import Member, Progress
from gapctl.training.memory import keep_freed_memory
from gapctl.training.team import Team

if TYPE_CHECKING:
    from gapctl.data.pairs.feed import Reader


class TrainingRun:
    """Trains its members to their ends: those that have come less far first, and together from where they meet."""

    def __init__(
        self, members: Sequence[Member], device: torch.device, group: Group = ALONE, reader: "Reader | None" = None
    ) -> None:
        """The members' configurations must agree in all that `gapctl.plan.packs.shape_of` compares.

        `group` are the workers that train one member together, `reader` reads its pairs, by default a thread.
        """
        keep_freed_memory()
        self.members = members
        self._device, self._group, self._reader = device, group, reader
        self._team: Team | None = None

    @property
    def done(self) -> bool:
        """Whether all members are."""
        return all(member.done for member in self.members)

    def advance(self, seconds: float, steps: int = 1) -> tuple[Progress, ...]:
        """Trains for about `seconds` of wall time, but at least so many steps or evaluations; a report of each member.

        Workers that train together need the same number: with 0 seconds, all take exactly `steps`.
        """
        started, taken = time.monotonic(), 0
        while not self.done:
            if self._train_or_evaluate():
                self._keep()
            taken += 1
            if taken >= steps and time.monotonic() - started >= seconds:
                break
        if self._team:
            self._team.read_losses()
        for member in self.members:
            member.add_counts(self._group)
        self._keep()
        elapsed = time.monotonic() - started
        return tuple(member.progress(elapsed) for member in self.members)

    def save(self) -> None:
        """Writes the checkpoints of the members that train now; those ahead of them stand where theirs were written."""
        if self._hindmost():
            self._team_of(self._hindmost()).save()
        elif self._team and not self.done:
            self._team.save()

    def _train_or_evaluate(self) -> bool:
        """Whether it was an evaluation, after which a checkpoint is due: no later kill may cost it."""
        for member in self.members:
            if not member.evaluated and member.steps == self._least_steps():
                if self._team:
                    self._team.read_losses()
                member.add_counts(self._group)
                member.evaluate()
                return True
        self._team_of(self._hindmost()).step()
        return False

    def _least_steps(self) -> int:
        return min(member.steps for member in self.members if not member.done)

    def _hindmost(self) -> tuple[Member, ...]:
        """The members that take the next step."""
        training = [member for member in self.members if member.steps < member.steps_total]
        least = min((member.steps for member in training), default=0)
        return tuple(member for member in training if member.steps == least)

    def _team_of(self, members: tuple[Member, ...]) -> Team:
        if self._team is None or self._team.members != members:
            if self._team:
                self._team.disband()
            self._team = Team(members, self._device, self._group, self._reader)
        return self._team

    def _keep(self) -> None:
        for member in self.members:
            if not member.done:
                member.beat()
        team = self._team
        if (
            team
            and all(member.evaluated for member in team.members)
            and any(member.wants_checkpoint for member in team.members)
        ):
            team.save()
