"""Batches of image-caption pairs whose order is a pure function of the data, the seed and the position.

Index letters: B batch, N images, C channels, H and W rows and columns, L caption positions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.data.mad.render import render
from gapctl.data.mad.sampling import MadSampler, Samples
from gapctl.data.mad.store import MadSplit, load_variants
from gapctl.spec.data import MadData
from gapctl.spec.trial import TrialConfig

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class TrialData:
    """What every trial on one source shares: the variants of the train and test digits."""

    train: MadSplit
    test: MadSplit


class Batch(NamedTuple):
    """Pairs in a row: images uint8 (B, 3, 28, 28), captions int64 (B, L)."""

    images_BCHW: NDArray[np.uint8]
    tokens_BL: NDArray[np.int64]

    def images(self, device: torch.device) -> torch.Tensor:
        """The images on a device, normalised there by mean 0.5 and deviation 0.5."""
        return normalised(torch.from_numpy(self.images_BCHW).to(device))

    def caption_ids(self) -> NDArray[np.int64]:
        """A number per pair, equal where the captions are equal."""
        return caption_ids(self.tokens_BL)


class MadFeed:
    """An endless stream of batches; the state that comes with each is the position of the next sample.

    A feed built at a position continues there, whatever the batch size was before.
    """

    def __init__(self, data: TrialData, config: TrialConfig, seed: int, position: int = 0) -> None:
        self._split = data.train
        self._batch_size = config.train.batch_size
        self._position = position
        self._sampler = training_sampler(data, config, seed)

    def __iter__(self) -> Iterator[tuple[Batch, int]]:
        while True:
            drawn = self.draw(1)
            images_BCHW = render(self._split.images_NVHW, drawn.digit_B, drawn.variant_B, drawn.colour_B)
            yield Batch(images_BCHW, drawn.tokens_BL), self._position

    def draw(self, batches: int) -> Samples:
        """The samples of the next batches, one batch after another, for whoever draws images elsewhere."""
        positions_B = np.arange(self._position, self._position + batches * self._batch_size)
        self._position += len(positions_B)
        return self._sampler.samples(positions_B)


def training_sampler(data: TrialData, config: TrialConfig, seed: int) -> MadSampler:
    """What a training draws its samples with: the digits that it is shown, captions by its own rule."""
    about = mad_data(config)
    captions = about.captions
    shown = max(1, round(len(data.train.digit_labels_N) * about.share))
    return MadSampler(
        seed,
        data.train.digit_labels_N[:shown],
        about.main_factor,
        captions.attributes,
        captions.order,
        captions.noise,
    )


def mad_data(config: TrialConfig) -> MadData:
    """The data of a configuration that is known to be MAD."""
    assert isinstance(config.data, MadData)
    return config.data


def load_trial_data(data: MadData, on_progress: OnProgress | None = None) -> TrialData:
    """The shared arrays of a data configuration, made and cached at first use."""
    return TrialData(
        train=load_variants(data.source, "train", on_progress),
        test=load_variants(data.source, "test", on_progress),
    )


def normalised(images_BCHW: torch.Tensor) -> torch.Tensor:
    """uint8 to float32 in [-1, 1]."""
    return images_BCHW.float().div_(127.5).sub_(1.0)


def caption_ids(tokens_BL: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number per caption, equal where the captions are equal; token ids must be below 128."""
    weights_L = np.int64(128) ** np.arange(tokens_BL.shape[1], dtype=np.int64)
    return tokens_BL @ weights_L
