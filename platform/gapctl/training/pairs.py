"""Where a step's image-caption pairs come from: made on the host batch by batch, or drawn on a device from all images.

Index letters: M trials trained at once, B pairs of a trial's batch, S = M * B (trial by trial), C channels, H and W
rows and columns, L caption positions.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gapctl.data.feed import Batch, MadFeed, caption_ids
from gapctl.data.mad.device_images import DeviceImages
from gapctl.data.mad.sampling import Samples

AHEAD = 64
"""Batches that are drawn at once where a device would otherwise wait for them one by one."""


class Pairs(NamedTuple):
    """One step's pairs: images uint8 (S, C, H, W), tokens int64 (S, L), and on the host a number per caption (M, B)."""

    image_SCHW: Tensor
    token_SL: Tensor
    caption_id_MB: NDArray[np.int64]


def joined(batches: Sequence[Batch]) -> Pairs:
    """The batches of several trials, of one size, as one step's pairs in the host's memory."""
    images = [torch.from_numpy(batch.images_BCHW) for batch in batches]
    tokens = [torch.from_numpy(batch.tokens_BL) for batch in batches]
    ids_MB = np.stack([batch.caption_ids() for batch in batches])
    if len(batches) == 1:
        return Pairs(images[0], tokens[0], ids_MB)
    return Pairs(torch.cat(images), torch.cat(tokens), ids_MB)


def host_pairs(feeds: Sequence[MadFeed]) -> Iterator[Pairs]:
    """Each trial's next batch, again and again."""
    streams = [iter(feed) for feed in feeds]
    while True:
        yield joined([next(stream)[0] for stream in streams])


def device_pairs(feeds: Sequence[MadFeed], images: DeviceImages, device: torch.device) -> Iterator[Pairs]:
    """The same pairs, drawn by number on the host, many batches at once, and rendered on the device.

    The next batches are drawn while the device is at work.
    """
    with ThreadPoolExecutor(1, "gapctl-draw") as drawer:
        ahead = drawer.submit(_drawn, feeds)
        while True:
            drawn, ids_MAB = ahead.result()
            ahead = drawer.submit(_drawn, feeds)
            digit_AS, variant_AS, colour_AS, token_ASL = (_by_step(drawn, name, device) for name in _DRAWN)
            for step in range(AHEAD):
                image_SCHW = images.render(digit_AS[step], variant_AS[step], colour_AS[step])
                yield Pairs(image_SCHW, token_ASL[step], ids_MAB[:, step])


def _drawn(feeds: Sequence[MadFeed]) -> tuple[list[Samples], NDArray[np.int64]]:
    """All trials' next samples, and a number per caption by trial and step (M, AHEAD, B)."""
    drawn = [feed.draw(AHEAD) for feed in feeds]
    return drawn, np.stack([caption_ids(samples.tokens_BL).reshape(AHEAD, -1) for samples in drawn])


_DRAWN = ("digit_B", "variant_B", "colour_B", "tokens_BL")


def _by_step(drawn: Sequence[Samples], name: str, device: torch.device) -> Tensor:
    """One column of all trials' samples as (AHEAD, S, ...) on the device."""
    parts = [getattr(samples, name) for samples in drawn]
    by_trial = [part.reshape(AHEAD, -1, *part.shape[1:]) for part in parts]
    return torch.from_numpy(np.concatenate(by_trial, axis=1)).to(device)
