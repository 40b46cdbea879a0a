"""Feed MAD's image-caption pairs to a training, in an order that is a pure function of data, seed and position.

1. `MadFeed.draw` advances the position, and draws each sample's digit, variant, colour and caption (`mad.sampler`).
2. `MadFeed.render` renders the images (`mad.images`) and returns a `MadBatch`.

Index letters: B batch, N images, V variants of a digit, C channels, H and W rows and columns, L caption positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import MadData, TrialConfig
from gapctl.data.mad.images import MadSplit, compose_coloured_images, load_variant_images
from gapctl.data.mad.sampler import CaptionImageSampler, ImageIndices, MadSampler, MadSamples
from gapctl.data.parallel_shards import OnProgress

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrialData:
    """The data that all trials on one source share: the variants of the train and test digits."""

    train: MadSplit
    test: MadSplit


class SampleDraw(NamedTuple):
    """Samples, and the pictures that take their captions' place in an image-image training."""

    samples: MadSamples
    pictures: ImageIndices | None

    def compute_caption_ids(self) -> NDArray[np.int64]:
        """Return a number per pair (B,), shared by equal captions; pictures all differ."""
        tokens_BL = self.samples.tokens_BL
        return compute_caption_ids(tokens_BL) if self.pictures is None else np.arange(len(tokens_BL))


class MadBatch(NamedTuple):
    """A batch of pairs: images uint8 (B, 3, 28, 28), captions int64 (B, L), and pictures like the images, if any."""

    images_BCHW: NDArray[np.uint8]
    tokens_BL: NDArray[np.int64]
    pictures_BCHW: NDArray[np.uint8] | None = None

    @property
    def second(self) -> NDArray[np.int64] | NDArray[np.uint8]:
        """The second encoder's input: pictures if there are any, else captions."""
        return self.tokens_BL if self.pictures_BCHW is None else self.pictures_BCHW

    def compute_caption_ids(self) -> NDArray[np.int64]:
        """Return a number per pair (B,), shared by equal captions; pictures all differ."""
        return compute_caption_ids(self.tokens_BL) if self.pictures_BCHW is None else np.arange(len(self.tokens_BL))


class MadFeed:
    """An endless stream of batches, each with the position of the next sample, which is the feed's whole state.

    A feed built at a position continues there, whatever the batch size was before. It shows the training's share of the
    digits, with captions by its rule.
    """

    def __init__(self, data: TrialData, config: TrialConfig, seed: int, position: int = 0) -> None:
        about = require_mad_data(config)
        shown = max(1, round(len(data.train.digit_labels_N) * about.share))
        labels_N = data.train.digit_labels_N[:shown]
        self._images_NVHW = data.train.images_NVHW
        self._seed = seed
        self._sampler = MadSampler(seed, labels_N, about)
        self._pictures = CaptionImageSampler(labels_N) if about.sides == "image_image" else None
        self._batch_size = config.train.batch_size
        self._position = position

    def __iter__(self) -> Iterator[tuple[MadBatch, int]]:
        while True:
            yield self.render(self.draw(1)), self._position

    def draw(self, batches: int) -> SampleDraw:
        """Return the samples of the next `batches` batches in one row, without rendering images."""
        position_B = np.arange(self._position, self._position + batches * self._batch_size)
        self._position += len(position_B)
        return self.at(position_B)

    def at(self, position_B: NDArray[np.int64]) -> SampleDraw:
        """Return the samples at these positions (B,), in any order, without rendering images."""
        samples = self._sampler.samples(position_B)
        if self._pictures is None:
            return SampleDraw(samples, None)
        return SampleDraw(samples, self._pictures.sample_training_images(self._seed, position_B, samples.tokens_BL))

    def render(self, drawn: SampleDraw) -> MadBatch:
        """Return the samples with rendered images."""
        samples, pictures = drawn
        images_BCHW = compose_coloured_images(self._images_NVHW, samples.digit_B, samples.variant_B, samples.colour_B)
        pictures_BCHW = None if pictures is None else compose_coloured_images(self._images_NVHW, *pictures)
        return MadBatch(images_BCHW, samples.tokens_BL, pictures_BCHW)


def require_mad_data(config: TrialConfig) -> MadData:
    """Return the data section of a configuration whose data set is MAD."""
    assert isinstance(config.data, MadData)
    return config.data


def load_mad_arrays(data: MadData, on_progress: OnProgress | None = None) -> TrialData:
    """Return the shared arrays of a data configuration, made and cached at first use."""
    return TrialData(
        train=load_variant_images(data.source, "train", on_progress),
        test=load_variant_images(data.source, "test", on_progress),
    )


def normalise_images(images_BCHW: "Tensor") -> "Tensor":
    """Return uint8 images as float32 in [-1, 1]."""
    return images_BCHW.float().div_(127.5).sub_(1.0)


def compute_caption_ids(tokens_BL: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a number per caption (B,), shared by equal captions; token ids must be below 128."""
    weights_L = np.int64(128) ** np.arange(tokens_BL.shape[1], dtype=np.int64)
    return tokens_BL @ weights_L
