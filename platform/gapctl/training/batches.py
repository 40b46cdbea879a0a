"""Bring the image-caption pairs of each step: made on the host, rendered on a device, or read from shards.

1. `iterate_batches` brings the batches of packed trials: joined on the host, drawn by number and rendered on a device,
   left as numbers for tables, or read from shards.
2. `permute_first_texts` gives the first steps' texts to other images of their batch.

Index letters: M trials trained at once, B pairs of a trial's batch, A = BATCHES_AHEAD * B, S = M * B (trial by trial),
C channels, H and W rows and columns (W workers of a group in `told_W1`), L caption positions.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gapctl.config.trial import is_table
from gapctl.data.image_text.pieces import NodeWorkers, find_shared_folder, identify_folder
from gapctl.data.image_text.source import PairPaths, load_pair_manifests
from gapctl.data.mad.feed import MadBatch, MadFeed, SampleDraw, TrialData, require_mad_data
from gapctl.data.mad.images import DeviceImages, MadSplit
from gapctl.data.mad.rows import number_captions, number_images
from gapctl.data.mad.sampler import ImageIndices
from gapctl.data.rng import Purpose, make_generator
from gapctl.models.public import get_model_input
from gapctl.training.trial_state import TrialState
from gapctl.training.workers import WorkerGroup

if TYPE_CHECKING:
    from gapctl.data.image_text.feed import PairReader

BATCHES_AHEAD = 64
"""Batches that are drawn at once, so that a device need not wait for each."""


class TrainBatch(NamedTuple):
    """One step's pairs: images uint8 (S, C, H, W), the second encoder's input, and a number per caption, on the host.

    `second` are tokens int64 (S, L), or images like the first where both sides are images. Equal captions of a trial
    have equal numbers (M, B). For tables, images and captions are numbers int64 (S,).
    """

    image_SCHW: Tensor
    second: Tensor
    caption_id_MB: NDArray[np.int64]


def iterate_batches(
    members: Sequence[TrialState], device: torch.device, group: WorkerGroup, reader: "PairReader | None"
) -> Iterator[TrainBatch]:
    """Return an endless iterator of the members' batches; each worker of a group gets its part of a batch."""
    if isinstance(members[0].data, PairPaths):
        (member,) = members
        return _read_pair_batches(member, members[0].data, group, reader)
    data = [member.data for member in members if isinstance(member.data, TrialData)]
    feeds = [
        MadFeed(each, member.config, member.seed, position=member.samples_seen)
        for each, member in zip(data, members, strict=True)
    ]
    if is_table(members[0].config):
        pairs = iterate_numbers(members, device)
    elif device.type == "cpu":
        pairs = iterate_host_batches(feeds)
    else:
        pairs = iterate_device_batches(feeds, copy_to_device(data[0].train, device), device)
    first, last = members[0].steps, members[0].config.train.mismatched_steps
    return permute_first_texts(pairs, [member.seed for member in members], first, last) if first < last else pairs


def _read_pair_batches(
    member: TrialState, places: PairPaths, group: WorkerGroup, reader: "PairReader | None"
) -> Iterator[TrainBatch]:
    from gapctl.data.image_text.feed import PairFeed, ThreadReader
    from gapctl.data.image_text.read import build_training_read_options, require_pair_data

    pairs, config = load_pair_manifests(places), member.config
    if reader is None and group.size > 1 and any("://" in shard.address for shard in pairs.train.shards):
        reader = ThreadReader(node=find_node_workers(group))
    seen = get_model_input(config.model)
    data = require_pair_data(config)
    feed = PairFeed(
        pairs.train,
        pairs.train_rows,
        build_training_read_options(data, seen.image_size, seen.context, seen.tokenizer),
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
        id_1A = group.gather_rows(id_B1).view(1, -1).numpy()
        yield TrainBatch(torch.from_numpy(batch.images_BCHW), torch.from_numpy(batch.tokens_BL), id_1A)


def find_node_workers(group: WorkerGroup) -> NodeWorkers | None:
    """Return the workers of a group on this node, and the folder that they share; None for one alone on its node.

    All workers of the group must call it, as they tell each other where they are.
    """
    parent, name = find_shared_folder(), group.draw_name()
    here = -1 - group.rank if parent is None else identify_folder(parent)  # nobody shares with a worker without one
    told_W1 = group.gather_rows(torch.tensor([[here]]))
    ranks = torch.nonzero(told_W1[:, 0] == here)[:, 0].tolist()
    return None if parent is None or len(ranks) == 1 else NodeWorkers(tuple(ranks), parent / name)


@lru_cache(maxsize=1)
def copy_to_device(split: MadSplit, device: torch.device) -> DeviceImages:
    """Copy a split's images to a device; the trials of a process share one copy."""
    return DeviceImages(split.images_NVHW, device)


def join_batches(batches: Sequence[MadBatch]) -> TrainBatch:
    """Return the batches of several trials, of one size, as one step's pairs in the host's memory."""
    images = [torch.from_numpy(batch.images_BCHW) for batch in batches]
    seconds = [torch.from_numpy(batch.second) for batch in batches]
    ids_MB = np.stack([batch.compute_caption_ids() for batch in batches])
    if len(batches) == 1:
        return TrainBatch(images[0], seconds[0], ids_MB)
    return TrainBatch(torch.cat(images), torch.cat(seconds), ids_MB)


def iterate_host_batches(feeds: Sequence[MadFeed]) -> Iterator[TrainBatch]:
    """Yield the next batch of all trials, without end."""
    streams = [iter(feed) for feed in feeds]
    while True:
        yield join_batches([next(stream)[0] for stream in streams])


def iterate_device_batches(
    feeds: Sequence[MadFeed], images: DeviceImages, device: torch.device
) -> Iterator[TrainBatch]:
    """Yield the same batches without end, drawn by number on the host and rendered on the device.

    The next `BATCHES_AHEAD` batches are drawn while the device works.
    """
    with ThreadPoolExecutor(1, "gapctl-draw") as drawer:
        ahead = drawer.submit(_draw_next_batches, feeds)
        while True:
            drawn, ids_MAB = ahead.result()
            ahead = drawer.submit(_draw_next_batches, feeds)
            looks = [
                _stack_by_step([getattr(each.samples, name) for each in drawn], device) for name in ImageIndices._fields
            ]
            pictures = [each.pictures for each in drawn if each.pictures is not None]
            second_looks = [_stack_by_step(column, device) for column in zip(*pictures, strict=True)]
            token_ASL = None if pictures else _stack_by_step([each.samples.tokens_BL for each in drawn], device)
            for step in range(BATCHES_AHEAD):
                image_SCHW = images.render(*(look_AS[step] for look_AS in looks))
                if token_ASL is None:
                    second = images.render(*(look_AS[step] for look_AS in second_looks))
                else:
                    second = token_ASL[step]
                yield TrainBatch(image_SCHW, second, ids_MAB[:, step])


def iterate_numbers(members: Sequence[TrialState], device: torch.device) -> Iterator[TrainBatch]:
    """Yield the same batches without end as numbers of factor combinations and captions, drawn on the host.

    Members of one seed and data section share their draws.
    """
    keys = [(member.seed, require_mad_data(member.config)) for member in members]
    feeds = {
        key: MadFeed(member.data, member.config, member.seed, position=member.samples_seen)
        for key, member in zip(keys, members, strict=True)
        if isinstance(member.data, TrialData)
    }
    place_M = [list(feeds).index(key) for key in keys]
    while True:
        drawn = [feed.draw(BATCHES_AHEAD).samples for feed in feeds.values()]
        image_MAB = np.stack([number_images(each.labels_B6) for each in drawn])[place_M]
        second_MAB = np.stack(
            [number_captions(about).find(each.tokens_BL) for (_, about), each in zip(feeds, drawn, strict=True)]
        )[place_M]
        image_AS, second_AS = (
            torch.from_numpy(each.reshape(len(members), BATCHES_AHEAD, -1).swapaxes(0, 1).copy()).flatten(1).to(device)
            for each in (image_MAB, second_MAB)
        )
        id_MAB = second_MAB.reshape(len(members), BATCHES_AHEAD, -1)
        for step in range(BATCHES_AHEAD):
            yield TrainBatch(image_AS[step], second_AS[step], id_MAB[:, step])


def _draw_next_batches(feeds: Sequence[MadFeed]) -> tuple[list[SampleDraw], NDArray[np.int64]]:
    """Return all trials' next samples, and a number per caption by trial and step (M, BATCHES_AHEAD, B)."""
    drawn = [feed.draw(BATCHES_AHEAD) for feed in feeds]
    return drawn, np.stack([each.compute_caption_ids().reshape(BATCHES_AHEAD, -1) for each in drawn])


def _stack_by_step(parts: Sequence[NDArray[np.int64]], device: torch.device) -> Tensor:
    """Return a column of all trials' samples as (BATCHES_AHEAD, S, ...) on the device."""
    by_trial = [part.reshape(BATCHES_AHEAD, -1, *part.shape[1:]) for part in parts]
    return torch.from_numpy(np.concatenate(by_trial, axis=1)).to(device)


def permute_first_texts(
    pairs: Iterator[TrainBatch], seeds: Sequence[int], first: int, last: int
) -> Iterator[TrainBatch]:
    """Yield batches from step `first` on; before step `last`, texts go with other images of their batch.

    `seeds` are the trials', one for each M.
    """
    for step in range(first, last):
        batch = next(pairs)
        number = batch.caption_id_MB.shape[1]
        partner_MB = np.stack([draw_partners(seed, step, number) for seed in seeds])
        place_S = torch.from_numpy((partner_MB + number * np.arange(len(seeds))[:, None]).ravel())
        yield batch._replace(
            second=batch.second[place_S.to(batch.second.device)],
            caption_id_MB=np.take_along_axis(batch.caption_id_MB, partner_MB, axis=1),
        )
    yield from pairs


def draw_partners(seed: int, step: int, number: int) -> NDArray[np.int64]:
    """Draw another place for each place of a batch (B,): all places form one circle, by seed and step alone."""
    circle_B = make_generator(Purpose.MISMATCH, seed, step).permutation(number)
    partner_B = np.empty_like(circle_B)
    partner_B[circle_B] = np.roll(circle_B, 1)
    return partner_B
