"""Members that stand at the same step and take the next ones together."""

import time
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from gapctl.data.mad.device_images import DeviceImages
from gapctl.data.mad.store import MadSplit
from gapctl.spec.presets import PRESETS
from gapctl.training.member import Member
from gapctl.training.pairs import Pairs, device_pairs, host_pairs
from gapctl.training.precision import resolve_precision
from gapctl.training.rule import rule_of
from gapctl.training.schedule import learning_rate
from gapctl.training.step import TrainingStep

UNREAD_LOSSES = 64
"""Losses left on the device before they are read: each reading waits for all the work before it."""


class Team:
    """Takes over the members' models and what they kept of the optimiser."""

    def __init__(self, members: Sequence[Member], device: torch.device) -> None:
        self.members = members
        config = members[0].config
        self._train = config.train
        rule = rule_of(config, resolve_precision(config.train.precision, device))
        self._step = TrainingStep([member.model for member in members], PRESETS[config.model.preset], rule)
        self._step.load([member.optimizer_state for member in members])
        self._pairs = _pairs(members, device)
        self._unread: list[Tensor] = []

    def step(self) -> None:
        """One step of all."""
        started = time.monotonic()
        pairs = next(self._pairs)
        rate = learning_rate(self._train, self.members[0].steps)
        self._unread.append(self._step(pairs.image_SCHW, pairs.token_SL, rate))
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


def _pairs(members: Sequence[Member], device: torch.device) -> Iterator[Pairs]:
    feeds = [member.feed() for member in members]
    if device.type == "cpu":
        return host_pairs(feeds)
    return device_pairs(feeds, on_device(members[0].data.train, device), device)


@lru_cache(maxsize=1)
def on_device(split: MadSplit, device: torch.device) -> DeviceImages:
    """A process's trials share one copy."""
    return DeviceImages(split.images_NVHW, device)
