"""Read samples of a chunk: bytes, captions, pixels and tokens, with substitutes for samples that cannot be read.

1. `ChunkBytes` reads the bytes of neighbouring samples in few pieces.
2. `read_part` decodes samples into `DecodedSamples`: it treats the caption, crops the picture and tokenises.
3. `build_pair_batch` turns them into a `PairBatch`, and `FeedCounts` counts them.

The result is a pure function of the data, the options, the seed and the places, so any process may read, in any order.

Index letters: N samples, B samples of a batch, H and W rows and columns, C colours, L tokens of a caption.
"""

import errno
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gapctl.config.presets import CLIP_CONTEXT
from gapctl.config.trial import PairCaptions, PairData, PairImages, TrialConfig
from gapctl.data.image_text.image import (
    CropBox,
    ImageMismatch,
    PixelArray,
    crop_and_resize,
    crop_centre,
    draw_crop_boxes,
)
from gapctl.data.image_text.index import Sample, build_manifest, parse_metadata, read_sample
from gapctl.data.image_text.manifest import Manifest, PairTable, read_manifest, require_current
from gapctl.data.image_text.order import Chunk
from gapctl.data.image_text.storage import ShardReader, list_shards, open_shard
from gapctl.data.image_text.tokens import get_clip_tokenizer
from gapctl.data.shard_jobs import Workers
from gapctl.data.treatments import TREATMENTS, degrade_image, treat_caption
from gapctl.errors import WorkError
from gapctl.folders import expand_home

WHOLE_CAPTION: Final = PairCaptions()
SHARP_IMAGE: Final = PairImages()
MAX_GAP_BYTES: Final = 1 << 16
"""Largest gap between samples that is read along, since another read would take longer."""
MAX_READ_BYTES: Final = 1 << 24
"""Most bytes of one read."""


@dataclass(frozen=True)
class ReadOptions:
    """How samples are read: the images' side in pixels, the treatments of captions and images, and the crop.

    Without treatments captions are whole and images sharp.

    `crop_scale` is the range of the share of the picture's area that a training's crop takes; its default is
    open_clip's. `context` is the number of tokens of a caption; longer ones are cut as open_clip cuts them. Raise
    ValueError for values out of range.
    """

    image_size: int
    captions: PairCaptions = WHOLE_CAPTION
    images: PairImages = SHARP_IMAGE
    crop_scale: tuple[float, float] = (0.9, 1.0)
    context: int = CLIP_CONTEXT

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale is {low} to {high}, expected shares above 0 and up to 1, in their order")
        if self.image_size < 1 or self.context < 3:
            raise ValueError(f"image_size {self.image_size}, context {self.context}; expected 1 and 3 or more")

    @property
    def needs_about(self) -> bool:
        """Whether the caption treatment needs a sample's JSON."""
        return bool(TREATMENTS[self.captions.keep].needs)


def require_pair_data(config: TrialConfig) -> PairData:
    """Return the data section of a configuration whose data set is image-text pairs."""
    assert isinstance(config.data, PairData)
    return config.data


def build_training_options(data: PairData, image_size: int) -> ReadOptions:
    """Return options with the configuration's treatments of captions and images."""
    return ReadOptions(image_size, data.captions, data.images)


def build_gallery_options(data: PairData, image_size: int) -> ReadOptions:
    """Return options with the treatments that apply to held-out pairs too."""
    captions = data.captions if data.captions.held_out == "treated" else WHOLE_CAPTION
    return ReadOptions(image_size, captions, data.images if data.images.held_out == "degraded" else SHARP_IMAGE)


class ReadStatus(IntEnum):
    """Whether a sample could be read, or the reason against it that the index did not see."""

    SOUND = 0
    UNREADABLE = 1
    OTHER = 2
    SHORT = 3
    LACKING = 4

    @property
    def words(self) -> str:
        """The reason in messages."""
        return _STATUS_WORDS[self]


_STATUS_WORDS: Final = {
    ReadStatus.SOUND: "sound",
    ReadStatus.UNREADABLE: "undecodable image",
    ReadStatus.OTHER: "not the image that was indexed",
    ReadStatus.SHORT: "its shard has grown short",
    ReadStatus.LACKING: "lacks what the caption treatment needs",
}


class DecodedSamples(NamedTuple):
    """Samples as a training reads them.

    `planned_N` are the rows in the planned order, `sample_N` those in their place; `bad_N` (`ReadStatus`) is the reason
    for a difference. The other columns are those of `PairBatch`.
    """

    image_NHWC: NDArray[np.uint8]
    tokens_NL: NDArray[np.int64]
    sample_N: NDArray[np.int64]
    text_id_N: NDArray[np.int64]
    words_N: NDArray[np.int64]
    kept_N: NDArray[np.int64]
    planned_N: NDArray[np.int64]
    bad_N: NDArray[np.int64]


@dataclass(frozen=True)
class ReadContext:
    """All that determines how samples are read.

    Without `augment` a picture's centre is cropped rather than a drawn box.
    """

    table: PairTable
    rule: ReadOptions
    seed: int
    augment: bool = True


class _SampleBytes(NamedTuple):
    image: bytes
    caption: bytes
    about: bytes


class ChunkBytes:
    """The bytes of a chunk's samples; those in `wanted_N` are read at once, in few pieces.

    Raise WorkError for a shard that is missing or cannot be read; a shard that has become shorter lacks its last
    samples.
    """

    def __init__(self, reading: ReadContext, chunk: Chunk, wanted_N: NDArray[np.int64]) -> None:
        self._table = reading.table
        self._place_N = chunk.place_N
        self._with_about = reading.rule.needs_about
        self._parts: dict[int, _SampleBytes | None] = {}
        with ShardReader() as opened:
            for places in _group_neighbours(reading.table, np.unique(chunk.place_N[wanted_N])):
                self._read_places(opened, places)

    def __getitem__(self, number: int) -> _SampleBytes | None:
        """Return a sample by its place in the chunk's order, or None if its shard is too short."""
        place = int(self._place_N[number])
        if place not in self._parts:
            with ShardReader() as opened:
                self._read_places(opened, [place])
        return self._parts[place]

    def _read_places(self, opened: ShardReader, places: Sequence[int]) -> None:
        table = self._table
        address = table.addresses[table.shard_N[places[0]]]
        first = int(table.whole_N2[places[0], 0])
        end = int(table.whole_N2[places].sum(axis=1).max())
        try:
            content = opened.read(address, first, end - first)
        except OSError as error:
            if error.errno != errno.EIO:
                raise _build_missing_error(address, error) from error
            if len(places) == 1:
                self._parts[places[0]] = None
            for place in places if len(places) > 1 else ():
                self._read_places(opened, [place])
            return
        for place in places:
            self._parts[place] = self._slice_parts(content, place, first)

    def _slice_parts(self, content: bytes, place: int, first: int) -> _SampleBytes:
        spans = (self._table.image_N2, self._table.caption_N2, self._table.json_N2)
        image, caption, about = ((int(start) - first, int(size)) for start, size in (span[place] for span in spans))
        return _SampleBytes(
            content[image[0] : sum(image)],
            content[caption[0] : sum(caption)],
            content[about[0] : sum(about)] if self._with_about else b"",
        )


def _build_missing_error(address: str, error: OSError) -> WorkError:
    what = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
    return WorkError(
        f"{address}: {what} since it was indexed. Put it back, or run `gapctl data index` on the shards that are there"
        "; then the same command goes on from the last checkpoint"
    )


def _group_neighbours(table: PairTable, place_N: NDArray[np.int64]) -> Iterator[list[int]]:
    """Yield groups of samples that are worth one read, by their places in ascending order."""
    group: list[int] = []
    first = end = 0
    for place, shard, (start, size) in zip(
        place_N.tolist(), table.shard_N[place_N].tolist(), table.whole_N2[place_N].tolist(), strict=True
    ):
        near = group and shard == table.shard_N[group[-1]] and end <= start <= end + MAX_GAP_BYTES
        if group and not (near and start + size - first <= MAX_READ_BYTES):
            yield group
            group = []
        if not group:
            first = start
        group.append(place)
        end = start + size
    if group:
        yield group


def read_part(reading: ReadContext, chunk: Chunk, number_N: NDArray[np.int64], content: ChunkBytes) -> DecodedSamples:
    """Return the samples at these places of a chunk's order, with substitutes for unreadable ones.

    The substitute is the next sound sample of the chunk's order (after the last the first), cropped as elsewhere in the
    epoch. Raise WorkError if the chunk holds no sound sample.
    """
    out = read_without_substitutes(reading, chunk, number_N, content)
    known = {number: ReadStatus(bad) for number, bad in zip(number_N.tolist(), out.bad_N.tolist(), strict=True)}
    for slot in np.flatnonzero(out.bad_N).tolist():
        _replace_sample(reading, chunk, int(number_N[slot]), content, out, slot, known)
    return out


def read_without_substitutes(
    reading: ReadContext, chunk: Chunk, number_N: NDArray[np.int64], content: ChunkBytes
) -> DecodedSamples:
    """Return the samples at these places; where `bad_N` is not 0, the other arrays are undefined."""
    place_N = chunk.place_N[number_N]
    out = allocate_samples(len(number_N), reading.rule.image_size, reading.rule.context)
    out.planned_N[:] = reading.table.row_N[place_N]
    boxes = _draw_boxes(reading, chunk.epoch, place_N)
    for slot, (number, box) in enumerate(zip(number_N.tolist(), boxes, strict=True)):
        out.bad_N[slot] = _read_sample(reading, chunk, number, box, content, out, slot)
    return out


def _draw_boxes(reading: ReadContext, epoch: int, place_N: NDArray[np.int64]) -> Sequence[CropBox | None]:
    if not reading.augment:
        return [None] * len(place_N)
    sizes_N2, row_N = reading.table.size_N2[place_N], reading.table.row_N[place_N]
    return draw_crop_boxes(sizes_N2, reading.rule.crop_scale, reading.seed, epoch, row_N)


def _replace_sample(
    reading: ReadContext,
    chunk: Chunk,
    number: int,
    content: ChunkBytes,
    out: DecodedSamples,
    slot: int,
    known: dict[int, ReadStatus],
) -> None:
    for step in range(1, len(chunk.place_N)):
        other = (number + step) % len(chunk.place_N)
        if known.get(other, ReadStatus.SOUND):
            continue
        box = _draw_boxes(reading, chunk.epoch, chunk.place_N[other : other + 1])[0]
        known[other] = _read_sample(reading, chunk, other, box, content, out, slot)
        if not known[other]:
            return
    address = reading.table.addresses[reading.table.shard_N[chunk.place_N[number]]]
    raise WorkError(
        f"{address}: none of the {len(chunk.place_N):,} samples that are shuffled together here can be read (one is: "
        f"{known[number].words}); `gapctl data verify` names what is wrong"
    )


def _read_sample(
    reading: ReadContext,
    chunk: Chunk,
    number: int,
    box: CropBox | None,
    content: ChunkBytes,
    out: DecodedSamples,
    slot: int,
) -> ReadStatus:
    """Read a sample into a slot of the arrays, and return whether that succeeded."""
    parts = content[number]
    if parts is None:
        return ReadStatus.SHORT
    place = int(chunk.place_N[number])
    row = int(reading.table.row_N[place])
    caption = parts.caption.decode("utf-8-sig", errors="replace").strip()
    treated = treat_caption(reading.rule.captions, caption, parse_metadata(parts.about), reading.seed, chunk.epoch, row)
    if treated is None:
        return ReadStatus.LACKING
    try:
        image_HWC = _decode_pixels(reading, parts.image, place, box)
    except ImageMismatch:
        return ReadStatus.OTHER
    except ValueError:
        return ReadStatus.UNREADABLE
    if reading.rule.images.degrade != "none":
        image_HWC = degrade_image(reading.rule.images, image_HWC, reading.seed, chunk.epoch, row)
    ids = get_clip_tokenizer(reading.rule.context).ids(treated.text)
    out.image_NHWC[slot] = image_HWC
    out.tokens_NL[slot] = 0
    out.tokens_NL[slot, : len(ids)] = ids
    out.sample_N[slot] = row
    out.text_id_N[slot] = hash_text(treated.text)
    out.words_N[slot], out.kept_N[slot] = treated.words, treated.kept
    return ReadStatus.SOUND


def _decode_pixels(reading: ReadContext, image: bytes, place: int, box: CropBox | None) -> PixelArray:
    width, height = reading.table.size_N2[place].tolist()
    side = reading.rule.image_size
    return (
        crop_centre(image, (width, height), side) if box is None else crop_and_resize(image, (width, height), box, side)
    )


def hash_text(text: str) -> int:
    """Return 64 bits of a text's digest, as a signed number."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def allocate_samples(samples: int, side: int, context: int) -> DecodedSamples:
    """Return arrays to be filled."""
    numbers = (np.zeros(samples, dtype=np.int64) for _ in range(6))
    return DecodedSamples(
        np.empty((samples, side, side, 3), dtype=np.uint8), np.zeros((samples, context), dtype=np.int64), *numbers
    )


def join_samples(parts: list[DecodedSamples]) -> DecodedSamples:
    """Join several parts; a single one is not copied."""
    return parts[0] if len(parts) == 1 else DecodedSamples._make(map(np.concatenate, zip(*parts, strict=True)))


def split_samples(read: DecodedSamples, samples: int) -> tuple[DecodedSamples, DecodedSamples]:
    """Return the first `samples` samples, and the rest."""
    return DecodedSamples._make(column[:samples] for column in read), DecodedSamples._make(
        column[samples:] for column in read
    )


def select_samples(read: DecodedSamples, which_N: NDArray[np.bool_]) -> DecodedSamples:
    """Return the selected samples alone."""
    return read if which_N.all() else DecodedSamples._make(column[which_N] for column in read)


class PairBatch(NamedTuple):
    """A batch of pairs for a training.

    `images_BCHW` lies in memory with the colours last. `sample_B` are rows of the manifest, substitutes included, whose
    number is `substituted`. `text_id_B` is equal for captions that are equal as read. `words_B` and `kept_B` count the
    words of each caption and those that its treatment kept.
    """

    images_BCHW: NDArray[np.uint8]
    tokens_BL: NDArray[np.int64]
    sample_B: NDArray[np.int64]
    text_id_B: NDArray[np.int64]
    words_B: NDArray[np.int64]
    kept_B: NDArray[np.int64]
    substituted: int


def build_pair_batch(read: DecodedSamples) -> PairBatch:
    """Return the samples as a batch, without copying."""
    return PairBatch(
        read.image_NHWC.transpose(0, 3, 1, 2),
        read.tokens_NL,
        read.sample_N,
        read.text_id_N,
        read.words_N,
        read.kept_N,
        int(np.count_nonzero(read.bad_N)),
    )


@dataclass
class FeedCounts:
    """Counts of one worker since the training began, as plain numbers for a checkpoint.

    `substituted` counts substitutes by the reason. For `waited_s` of `total_s` seconds the training waited for its next
    batch.
    """

    samples: int = 0
    words: int = 0
    kept: int = 0
    empty: int = 0
    substituted: dict[str, int] = field(default_factory=dict)
    waited_s: float = 0.0
    total_s: float = 0.0

    def add(self, read: DecodedSamples) -> None:
        """Count the samples of a batch."""
        self.samples += len(read.sample_N)
        self.words += int(read.words_N.sum())
        self.kept += int(read.kept_N.sum())
        self.empty += int((read.tokens_NL[:, 2] == 0).sum())
        for bad in read.bad_N[read.bad_N != ReadStatus.SOUND].tolist():
            words = ReadStatus(bad).words
            self.substituted[words] = self.substituted.get(words, 0) + 1

    @property
    def substituted_share(self) -> float:
        """The share of planned samples that were substituted."""
        return sum(self.substituted.values()) / self.samples if self.samples else 0.0

    def metrics(self) -> dict[str, float]:
        """Return shares and words kept per caption, by metric name."""
        samples = max(1, self.samples)
        return {
            "data/substituted": self.substituted_share,
            "data/wait_share": self.waited_s / self.total_s if self.total_s else 0.0,
            "captions/words_kept": self.kept / samples,
            "captions/share_kept": self.kept / self.words if self.words else 0.0,
            "captions/empty": self.empty / samples,
        }

    def merge_counts(self, other: "FeedCounts") -> "FeedCounts":
        """Return the sum of both counts."""
        reasons = self.substituted.keys() | other.substituted.keys()
        return FeedCounts(
            self.samples + other.samples,
            self.words + other.words,
            self.kept + other.kept,
            self.empty + other.empty,
            {why: self.substituted.get(why, 0) + other.substituted.get(why, 0) for why in sorted(reasons)},
            self.waited_s + other.waited_s,
            self.total_s + other.total_s,
        )

    def list_numbers(self) -> list[float]:
        """Return the counts of samples as a list that adds up over workers.

        The seconds are not in it, as they are each worker's own.
        """
        reasons = [self.substituted.get(bad.words, 0) for bad in ReadStatus if bad != ReadStatus.SOUND]
        return [self.samples, self.words, self.kept, self.empty, *reasons]

    def replace_numbers(self, numbers: list[float]) -> "FeedCounts":
        """Return counts with these numbers, in the order of `list_numbers`, and the same seconds."""
        samples, words, kept, empty, *reasons = (round(number) for number in numbers)
        named = zip((bad.words for bad in ReadStatus if bad != ReadStatus.SOUND), reasons, strict=True)
        substituted = {why: count for why, count in named if count}
        return FeedCounts(samples, words, kept, empty, substituted, self.waited_s, self.total_s)

    def state(self) -> dict[str, Any]:
        """Return the counts for a checkpoint; `FeedCounts(**state)` restores them."""
        return asdict(self)


def read_rows(rows: pl.DataFrame) -> Iterator[tuple[dict[str, Any], Sample]]:
    """Yield each row with its sample, shard after shard."""
    for shard in rows["shard"].unique(maintain_order=True):
        with open_shard(shard) as content:
            for row in rows.filter(pl.col("shard") == shard).iter_rows(named=True):
                yield row, read_sample(content, row)


def load_manifest(places: list[str], workers: Workers) -> Manifest:
    """Read the manifest in a file that ends in .parquet, or else index the shards at these places now.

    Raise InputError if the shards of a manifest's file have changed.
    """
    if len(places) == 1 and places[0].endswith(".parquet"):
        path = expand_home(places[0])
        manifest = read_manifest(path)
        require_current(path, manifest)
        return manifest
    return build_manifest(list_shards(places), workers)
