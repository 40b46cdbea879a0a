"""What members train on, step by step, by their dataset."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from gapctl.data.feed import MadFeed, TrialData
from gapctl.data.mad.device_images import DeviceImages
from gapctl.data.mad.store import MadSplit
from gapctl.data.pairs.source import PairPlaces, open_pairs
from gapctl.spec.presets import PRESETS
from gapctl.training.group import Group
from gapctl.training.member import Member
from gapctl.training.mismatch import mismatched
from gapctl.training.pairs import Pairs, device_pairs, host_pairs
from gapctl.training.schedule import mismatched_steps

if TYPE_CHECKING:
    from gapctl.data.pairs.feed import Reader


def pairs_of(members: Sequence[Member], device: torch.device, group: Group, reader: "Reader | None") -> Iterator[Pairs]:
    """The members' next pairs, again and again; of the workers in a group, each gets its part of the batch."""
    if isinstance(members[0].data, PairPlaces):
        (member,) = members
        return _read_pairs(member, members[0].data, group, reader)
    feeds = [MadFeed(_images(member), member.config, member.seed, position=member.samples_seen) for member in members]
    on_host = device.type == "cpu"
    pairs = host_pairs(feeds) if on_host else device_pairs(feeds, on_device(_images(members[0]).train, device), device)
    first, last = members[0].steps, mismatched_steps(members[0].config.train)
    return mismatched(pairs, [member.seed for member in members], first, last) if first < last else pairs


def _images(member: Member) -> TrialData:
    assert isinstance(member.data, TrialData)
    return member.data


def _read_pairs(member: Member, places: PairPlaces, group: Group, reader: "Reader | None") -> Iterator[Pairs]:
    from gapctl.data.pairs.feed import PairFeed
    from gapctl.data.pairs.rules import pair_data, training_rule

    pairs, config = open_pairs(places), member.config
    data = pair_data(config)
    feed = PairFeed(
        pairs.train,
        pairs.train_rows,
        training_rule(data, PRESETS[config.model.preset].image_size),
        member.seed,
        config.train.batch_size,
        position=member.samples_seen,
        rank=group.rank,
        world=group.size,
        reader=reader,
        stop=member.steps_total * config.train.batch_size,
        bad_share=data.bad_share,
        counts=member.counts,
    )
    for batch, _ in feed:
        id_B1 = torch.from_numpy(batch.text_id_B).unsqueeze(1)
        id_1A = group.gathered(id_B1).view(1, -1).numpy()
        yield Pairs(torch.from_numpy(batch.images_BCHW), torch.from_numpy(batch.tokens_BL), id_1A)


@lru_cache(maxsize=1)
def on_device(split: MadSplit, device: torch.device) -> DeviceImages:
    """A process's trials share one copy."""
    return DeviceImages(split.images_NVHW, device)
