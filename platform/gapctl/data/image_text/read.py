"""Read samples of a chunk: bytes, captions, pixels and tokens, with substitutes for samples that cannot be read.

1. `ChunkReader` has the bytes of neighbouring samples read in few pieces (`pieces.py`).
2. Its `read_part` decodes samples into a `PairBatch`: it draws and treats a caption, crops the picture and tokenises.
3. Its `read_all_captions` decodes a gallery, in which every caption of an image is a text of it.
4. `FeedCounts` counts them.

The result is a pure function of the data, the options, the seed and the places, so any process may read, in any order.

Index letters: N samples of a training, B samples of a batch or a part, M captions of a part, H and W rows and columns,
C colours, L tokens.
"""

import errno
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from functools import partial
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gapctl.config.architectures import HubTokenizer
from gapctl.config.presets import CLIP_CONTEXT
from gapctl.config.trial import PairCaptions, PairData, PairImages, TrialConfig
from gapctl.data.image_text.class_prompts import split_caption_lines
from gapctl.data.image_text.image import (
    CropBox,
    ImageMismatch,
    Resizing,
    crop_and_resize,
    crop_centre,
    resize_as_open_clip,
    sample_crop_boxes,
)
from gapctl.data.image_text.index import Sample, build_manifest, read_sample_from_shard
from gapctl.data.image_text.manifest import Manifest, PairTable, read_manifest, require_unchanged_shards
from gapctl.data.image_text.order import Chunk
from gapctl.data.image_text.pieces import ByteRange, FetchedPiece, Piece, PieceFetcher, plan_pieces
from gapctl.data.image_text.shard_index import parse_metadata
from gapctl.data.image_text.storage import ShardReader, list_shards, open_shard
from gapctl.data.image_text.tokens import Tokenizer, get_tokenizer
from gapctl.data.parallel_shards import Workers
from gapctl.data.treatments import degrade_image, find_treatment, sample_caption, treat_caption
from gapctl.errors import WorkError
from gapctl.folders import expand_home

WHOLE_CAPTION: Final = PairCaptions()
SHARP_IMAGE: Final = PairImages()


@dataclass(frozen=True)
class ReadOptions:
    """How samples are read: the images' side in pixels, the treatments of captions and images, and the crop.

    Without treatments captions are whole and images sharp.

    `crop_scale` is the range of the share of the picture's area that a training's crop takes; its default is
    open_clip's. `context` is the number of tokens of a caption; longer ones are cut as open_clip cuts them. `resizing`
    is a public model's way with held-out images, and `tokenizer` its own, None for open_clip's. Raise ValueError for
    values out of range.
    """

    image_size: int
    captions: PairCaptions = WHOLE_CAPTION
    images: PairImages = SHARP_IMAGE
    crop_scale: tuple[float, float] = (0.9, 1.0)
    context: int = CLIP_CONTEXT
    resizing: Resizing | None = None
    tokenizer: HubTokenizer | None = None

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale is {low} to {high}, expected shares above 0 and up to 1, in their order")
        if self.image_size < 1 or self.context < 3:
            raise ValueError(f"image_size {self.image_size}, context {self.context}; expected 1 and 3 or more")

    def get_tokenizer(self) -> Tokenizer:
        """Return what cuts captions into tokens. Raise InputError where it cannot be had."""
        return get_tokenizer(self.tokenizer, self.context)

    @property
    def needs_about(self) -> bool:
        """Whether the caption treatment needs a sample's JSON."""
        return bool(find_treatment(self.captions.keep).needs)


def require_pair_data(config: TrialConfig) -> PairData:
    """Return the data section of a configuration whose data set is image-text pairs."""
    assert isinstance(config.data, PairData)
    return config.data


def build_training_read_options(
    data: PairData, image_size: int, context: int = CLIP_CONTEXT, tokenizer: HubTokenizer | None = None
) -> ReadOptions:
    """Return options with the configuration's treatments of captions and images."""
    return ReadOptions(image_size, data.captions, data.images, context=context, tokenizer=tokenizer)


def build_gallery_read_options(
    data: PairData,
    image_size: int,
    context: int = CLIP_CONTEXT,
    resizing: Resizing | None = None,
    tokenizer: HubTokenizer | None = None,
) -> ReadOptions:
    """Return options with the treatments that apply to held-out pairs too."""
    captions = data.captions if data.captions.held_out == "treated" else WHOLE_CAPTION
    images = data.images if data.images.held_out == "degraded" else SHARP_IMAGE
    return ReadOptions(image_size, captions, images, context=context, resizing=resizing, tokenizer=tokenizer)


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


_STATUS_WORDS: Final = (
    "sound",
    "undecodable image",
    "not the image that was indexed",
    "its shard has grown short",
    "lacks what the caption treatment needs",
)


class PairBatch(NamedTuple):
    """Pairs as a training reads them.

    `planned_B` are the rows of the manifest in the planned order, `sample_B` those in their place with substitutes;
    `bad_B` (`ReadStatus`) is the reason for a difference. `text_id_B` is equal for captions that are equal as read; of
    several captions of an image, one is drawn. `words_B` and `kept_B` count the words of each caption and those that
    its treatment kept.
    """

    image_BHWC: NDArray[np.uint8]
    tokens_BL: NDArray[np.int64]
    sample_B: NDArray[np.int64]
    text_id_B: NDArray[np.int64]
    words_B: NDArray[np.int64]
    kept_B: NDArray[np.int64]
    planned_B: NDArray[np.int64]
    bad_B: NDArray[np.int64]

    @property
    def images_BCHW(self) -> NDArray[np.uint8]:
        """The images in a training's order of axes, still with the colours last in memory."""
        return self.image_BHWC.transpose(0, 3, 1, 2)

    @property
    def substituted(self) -> int:
        """The number of substitutes."""
        return int(np.count_nonzero(self.bad_B))


class CaptionBatch(NamedTuple):
    """All captions of the images of a batch: tokens, ids as in `PairBatch.text_id_B`, and the place of each's image."""

    tokens_ML: NDArray[np.int64]
    text_id_M: NDArray[np.int64]
    image_M: NDArray[np.int64]


@dataclass(frozen=True)
class ReadContext:
    """All that determines how samples are read.

    Without `augment` a picture's centre is cropped rather than a drawn box.
    """

    table: PairTable
    rule: ReadOptions
    seed: int
    augment: bool = True


class SampleBytes(NamedTuple):
    """The bytes of a sample's members; `about` is its JSON, which is read only if a treatment needs it."""

    image: bytes
    caption: bytes
    about: bytes = b""


class ChunkReader:
    """Reads the samples of a chunk; the bytes of those in `wanted_N` are read at once, in few pieces.

    With a `fetcher`, pieces of shards in object stores are queued there, and waited for when a sample is needed;
    `others` are the wanted samples of the node's other workers, which then fetch the same pieces. Raise WorkError for a
    shard that is missing or cannot be read; a shard that has become shorter lacks its last samples.
    """

    def __init__(
        self,
        reading: ReadContext,
        chunk: Chunk,
        wanted_N: NDArray[np.int64],
        fetcher: PieceFetcher | None = None,
        others: Sequence[NDArray[np.int64]] = (),
    ) -> None:
        self._reading = reading
        self._chunk = chunk
        self._parts: dict[int, SampleBytes | None] = {}
        self._fetched: dict[int, tuple[Piece, FetchedPiece]] = {}
        self._lock = Lock()
        theirs = [chunk.place_N[other_N] for other_N in others]
        with ShardReader() as opened:
            for piece in plan_pieces(reading.table, chunk.place_N[wanted_N], theirs, chunk.start):
                if fetcher is not None and piece.is_remote:
                    fetched = fetcher.start(piece)
                    self._fetched |= dict.fromkeys(piece.place_N, (piece, fetched))
                else:
                    self._load_sample_bytes(piece, partial(_read_piece, opened, piece))

    def get_bytes(self, number: int) -> SampleBytes | None:
        """Return a sample by its place in the chunk's order, or None if its shard is too short."""
        place = int(self._chunk.place_N[number])
        if place in self._parts:
            return self._parts[place]
        with self._lock:
            if place in self._fetched:
                piece, fetched = self._fetched[place]
                self._load_sample_bytes(piece, fetched.read)
                for each in piece.place_N:
                    del self._fetched[each]
            elif place not in self._parts:
                self._load_samples_singly([place])
        return self._parts[place]

    def _load_samples_singly(self, places: Sequence[int]) -> None:
        with ShardReader() as opened:
            for place in places:
                for piece in plan_pieces(self._reading.table, np.array([place]), position=self._chunk.start):
                    self._load_sample_bytes(piece, partial(_read_piece, opened, piece))

    def _load_sample_bytes(self, piece: Piece, read: Callable[[Sequence[ByteRange]], list[bytes]]) -> None:
        table = self._reading.table
        members = [table.image_N2, table.caption_N2] + [table.json_N2] * self._reading.rule.needs_about
        ranges = [(int(start), int(size)) for place in piece.place_N for start, size in (at[place] for at in members)]
        try:
            contents = read(ranges)
        except OSError as error:
            if error.errno != errno.EIO:
                reason = f"cannot be read ({error.strerror or error})"
                raise WorkError(
                    f"{piece.address}: {'is gone' if isinstance(error, FileNotFoundError) else reason} since it was "
                    "indexed. Put it back, or run `gapctl data index` on the shards that are there; then the same "
                    "command goes on from the last checkpoint"
                ) from error
            if len(piece.place_N) == 1:
                self._parts[piece.place_N[0]] = None
            else:
                self._load_samples_singly(piece.place_N)
            return
        for index, place in enumerate(piece.place_N):
            self._parts[place] = SampleBytes(*contents[index * len(members) : (index + 1) * len(members)])

    def read_part(self, number_N: NDArray[np.int64]) -> PairBatch:
        """Return the samples at these places of the chunk's order, with substitutes for unreadable ones.

        The substitute is the next sound sample of the chunk's order (after the last the first), cropped as elsewhere in
        the epoch. Raise WorkError if the chunk holds no sound sample.
        """
        out, place_N = self.read_without_substitutes(number_N), self._chunk.place_N
        known = dict(zip(number_N.tolist(), out.bad_B.tolist(), strict=True))
        for slot in np.flatnonzero(out.bad_B).tolist():
            number = int(number_N[slot])
            for other in (np.arange(number + 1, number + len(place_N)) % len(place_N)).tolist():
                if known.get(other, ReadStatus.SOUND) == ReadStatus.SOUND:
                    box = self._draw_boxes(place_N[other : other + 1])[0]
                    known[other] = self._read_sample(other, box, out, slot)
                    if known[other] == ReadStatus.SOUND:
                        break
            else:
                address = self._reading.table.addresses[self._reading.table.shard_N[place_N[number]]]
                raise WorkError(
                    f"{address}: none of the {len(place_N):,} samples that are shuffled together here can be read (one "
                    f"is: {ReadStatus(known[number]).words}); `gapctl data verify` names what is wrong"
                )
        return out

    def read_without_substitutes(self, number_N: NDArray[np.int64]) -> PairBatch:
        """Return the samples at these places; where `bad_B` is not 0, the other arrays are undefined."""
        place_N = self._chunk.place_N[number_N]
        out = allocate_pair_batch(len(number_N), self._reading.rule)
        out.planned_B[:] = self._reading.table.row_N[place_N]
        for slot, (number, box) in enumerate(zip(number_N.tolist(), self._draw_boxes(place_N), strict=True)):
            out.bad_B[slot] = self._read_sample(number, box, out, slot)
        return out

    def read_all_captions(self, number_N: NDArray[np.int64]) -> tuple[PairBatch, CaptionBatch]:
        """Return the samples at these places as `read_without_substitutes` does, and all captions of the sound ones.

        The n-th caption of an image is treated as its only one would be in epoch n. A sample of which the treatment
        cannot treat every caption is not sound.
        """
        reading, pairs = self._reading, self.read_without_substitutes(number_N)
        sound = np.flatnonzero(pairs.bad_B == ReadStatus.SOUND).tolist()
        if (reading.table.captions_N[self._chunk.place_N[number_N]] == 1).all():
            return pairs, CaptionBatch(pairs.tokens_BL[sound], pairs.text_id_B[sound], np.arange(len(sound)))
        treated: list[list[str]] = []
        for slot in sound:
            number = int(number_N[slot])
            parts = self.get_bytes(number)
            assert parts is not None  # the sample is sound
            about, row = parse_metadata(parts.about), int(pairs.sample_B[slot])
            texts = [
                treat_caption(reading.rule.captions, caption, about, reading.seed, epoch, row)
                for epoch, caption in enumerate(self._split_captions(number, parts))
            ]
            known = [text.text for text in texts if text is not None]
            if len(known) == len(texts):
                treated.append(known)
            else:
                pairs.bad_B[slot] = ReadStatus.LACKING
        captions = [text for texts in treated for text in texts]
        return pairs, CaptionBatch(
            reading.rule.get_tokenizer()(captions),
            np.array([hash_text(text) for text in captions], dtype=np.int64),
            np.repeat(np.arange(len(treated)), [len(texts) for texts in treated]),
        )

    def _split_captions(self, number: int, parts: SampleBytes) -> list[str]:
        """Return the captions of a sample: its text, or the lines of one that holds several."""
        text = parts.caption.decode("utf-8-sig", errors="replace").strip()
        if self._reading.table.captions_N[self._chunk.place_N[number]] == 1:
            return [text]
        return split_caption_lines(text) or [""]

    def _draw_boxes(self, place_N: NDArray[np.int64]) -> Sequence[CropBox | None]:
        reading, table = self._reading, self._reading.table
        if not reading.augment:
            return [None] * len(place_N)
        sizes_N2, row_N = table.size_N2[place_N], table.row_N[place_N]
        return sample_crop_boxes(sizes_N2, reading.rule.crop_scale, reading.seed, self._chunk.epoch, row_N)

    def _read_sample(self, number: int, box: CropBox | None, out: PairBatch, slot: int) -> ReadStatus:
        """Read a sample into a slot of the arrays, and return whether that succeeded."""
        reading, rule, epoch = self._reading, self._reading.rule, self._chunk.epoch
        parts = self.get_bytes(number)
        if parts is None:
            return ReadStatus.SHORT
        place = int(self._chunk.place_N[number])
        row = int(reading.table.row_N[place])
        caption = sample_caption(self._split_captions(number, parts), reading.seed, epoch, row)
        treated = treat_caption(rule.captions, caption, parse_metadata(parts.about), reading.seed, epoch, row)
        if treated is None:
            return ReadStatus.LACKING
        width, height = reading.table.size_N2[place].tolist()
        try:
            if box is None and rule.resizing is not None:
                image_HWC = resize_as_open_clip(parts.image, (width, height), rule.image_size, rule.resizing)
            elif box is None:
                image_HWC = crop_centre(parts.image, (width, height), rule.image_size)
            else:
                image_HWC = crop_and_resize(parts.image, (width, height), box, rule.image_size)
        except ImageMismatch:
            return ReadStatus.OTHER
        except ValueError:
            return ReadStatus.UNREADABLE
        if rule.images.degrade != "none":
            image_HWC = degrade_image(rule.images, image_HWC, reading.seed, epoch, row)
        ids = rule.get_tokenizer().ids(treated.text)
        out.image_BHWC[slot] = image_HWC
        out.tokens_BL[slot] = 0
        out.tokens_BL[slot, : len(ids)] = ids
        out.sample_B[slot] = row
        out.text_id_B[slot] = hash_text(treated.text)
        out.words_B[slot], out.kept_B[slot] = treated.words, treated.kept
        return ReadStatus.SOUND


def hash_text(text: str) -> int:
    """Return 64 bits, equal for equal captions."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def _read_piece(opened: ShardReader, piece: Piece, ranges: Sequence[ByteRange]) -> list[bytes]:
    """Read a piece at once, and return the content of each (start, size) in it."""
    return piece.cut(opened.read(piece.address, piece.start, piece.size), ranges)


def allocate_pair_batch(samples: int, rule: ReadOptions) -> PairBatch:
    """Return arrays to be filled."""
    images = np.empty((samples, rule.image_size, rule.image_size, 3), dtype=np.uint8)
    tokens = np.zeros((samples, rule.context), dtype=np.int64)
    return PairBatch(images, tokens, *(np.zeros(samples, dtype=np.int64) for _ in range(6)))


def join_pair_batches(parts: list[PairBatch]) -> PairBatch:
    """Join several parts; a single one is not copied."""
    return parts[0] if len(parts) == 1 else PairBatch._make(map(np.concatenate, zip(*parts, strict=True)))


def split_pair_batch(read: PairBatch, samples: int) -> tuple[PairBatch, PairBatch]:
    """Return the first `samples` samples, and the rest."""
    first, rest = (column[:samples] for column in read), (column[samples:] for column in read)
    return PairBatch._make(first), PairBatch._make(rest)


def filter_pair_batch(read: PairBatch, which_N: NDArray[np.bool_]) -> PairBatch:
    """Return the selected samples alone."""
    return read if which_N.all() else PairBatch._make(column[which_N] for column in read)


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

    def add(self, read: PairBatch, blank_L: NDArray[np.int64] | None = None) -> None:
        """Count the samples of a batch; `blank_L` are the tokens of an empty caption, None for open_clip's own."""
        self.samples += len(read.sample_B)
        self.words += int(read.words_B.sum())
        self.kept += int(read.kept_B.sum())
        empty_B = read.tokens_BL[:, 2] == 0 if blank_L is None else (read.tokens_BL == blank_L).all(axis=1)
        self.empty += int(empty_B.sum())
        for bad in read.bad_B[read.bad_B != ReadStatus.SOUND].tolist():
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
        reasons = Counter(self.substituted) + Counter(other.substituted)
        return FeedCounts(
            self.samples + other.samples,
            self.words + other.words,
            self.kept + other.kept,
            self.empty + other.empty,
            dict(sorted(reasons.items())),
            self.waited_s + other.waited_s,
            self.total_s + other.total_s,
        )

    def list_sample_counts(self) -> list[float]:
        """Return the counts of samples as a list that adds up over workers.

        The seconds are not in it, as they are each worker's own.
        """
        reasons = [self.substituted.get(why, 0) for why in _STATUS_WORDS[1:]]
        return [self.samples, self.words, self.kept, self.empty, *reasons]

    def replace_sample_counts(self, numbers: list[float]) -> "FeedCounts":
        """Return counts with these numbers, in the order of `list_sample_counts`, and the same seconds."""
        samples, words, kept, empty, *reasons = (round(number) for number in numbers)
        substituted = {why: count for why, count in zip(_STATUS_WORDS[1:], reasons, strict=True) if count}
        return FeedCounts(samples, words, kept, empty, substituted, self.waited_s, self.total_s)

    def state(self) -> dict[str, object]:
        """Return the counts for a checkpoint; `FeedCounts(**state)` restores them."""
        return asdict(self)


def read_rows_with_samples(rows: pl.DataFrame) -> Iterator[tuple[dict[str, Any], Sample]]:
    """Yield each row with its sample, shard after shard."""
    for shard in rows["shard"].unique(maintain_order=True):
        with open_shard(shard) as content:
            for row in rows.filter(pl.col("shard") == shard).iter_rows(named=True):
                yield row, read_sample_from_shard(content, row)


def load_or_index_manifest(places: list[str], workers: Workers) -> Manifest:
    """Read the manifest in a file, or else index the shards at these places now, packing other layouts first.

    Raise InputError if the shards of a manifest's file have changed.
    """
    from gapctl.data.image_text.pack import find_or_pack_shards
    from gapctl.data.image_text.tables import is_table

    if len(places) == 1 and places[0].endswith(".parquet") and not is_table(places[0]):
        place = places[0] if "://" in places[0] else expand_home(places[0])
        manifest = read_manifest(place)
        require_unchanged_shards(place, manifest)
        return manifest
    resolved = find_or_pack_shards(places, local=False)
    return build_manifest(list_shards([each for place in resolved for each in place.shards]), workers)
