"""Members that stand at the same step and take the next ones together."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gapctl.training.feeding import pairs_of
from gapctl.training.group import ALONE, Group
from gapctl.training.member import Member
from gapctl.training.schedule import learning_rate
from gapctl.training.steps import step_of

if TYPE_CHECKING:
    from gapctl.data.pairs.feed import Reader

UNREAD_LOSSES = 64
"""Losses left on the device before they are read: each reading waits for all the work before it."""


class Team:
    """Takes over the members' models and what they kept of the optimiser."""

    def __init__(
        self, members: Sequence[Member], device: torch.device, group: Group = ALONE, reader: "Reader | None" = None
    ) -> None:
        self.members = members
        config = members[0].config
        self._train = config.train
        self._step = step_of([member.model for member in members], config, device, group)
        self._step.load([member.optimizer_state for member in members])
        self._pairs = pairs_of(members, device, group, reader)
        self._unread: list[Tensor] = []

    def step(self) -> None:
        """One step of all."""
        started = time.monotonic()
        pairs = next(self._pairs)
        rate = learning_rate(self._train, self.members[0].steps)
        temperatures = [member.scheduled_temperature for member in self.members]
        self._unread.append(self._step(pairs.image_SCHW, pairs.second, rate, temperatures))
        for member, caption_id_B in zip(self.members, pairs.caption_id_MB, strict=True):
            member.count(caption_id_B, len(self.members))
        self._spent_since(started)
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
        self._spent_since(started)

    def _spent_since(self, started: float) -> None:
        share = (time.monotonic() - started) / len(self.members)
        for member in self.members:
            member.spend(share)

    def save(self) -> None:
        """Writes a checkpoint of each that is not done."""
        self.read_losses()
        for index, member in enumerate(self.members):
            if not member.done:
                member.save(self._step.optimizer_state(index))

    def disband(self) -> None:
        """Gives the members what they need to go on in another team."""
        self.read_losses()
        for index, member in enumerate(self.members):
            member.optimizer_state = self._step.optimizer_state(index)
