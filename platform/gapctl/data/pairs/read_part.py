"""Reads a part of a chunk: bytes, captions, pixels and tokens, with stand-ins for samples that cannot be read.

A pure function of the data, the rule, the seed and the places, so that it may run in any process, in any order.

Index letters: N samples, H and W rows and columns, C colours.
"""

import errno
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.captions import Treated, treat
from gapctl.data.degrade import degrade
from gapctl.data.pairs.clip_tokens import clip_tokens
from gapctl.data.pairs.crop import Box, crop_boxes
from gapctl.data.pairs.decode import OtherPicture, Pixels, centred, cropped
from gapctl.data.pairs.decoded import Bad, Decoded, room_for
from gapctl.data.pairs.order import Chunk
from gapctl.data.pairs.recipe import ReadRule
from gapctl.data.pairs.samples import about_of
from gapctl.data.pairs.stored import OpenShards
from gapctl.data.pairs.table import PairTable
from gapctl.errors import WorkError

NEAR: Final = 1 << 16
"""Bytes between samples that are read too, since another read would take longer."""
LONGEST: Final = 1 << 24
"""Bytes of one read."""


@dataclass(frozen=True)
class Reading:
    """What decides how samples are read; without `augment` a picture's middle is taken, in place of a drawn crop."""

    table: PairTable
    rule: ReadRule
    seed: int
    augment: bool = True


class _Parts(NamedTuple):
    image: bytes
    caption: bytes
    about: bytes


class ChunkBytes:
    """The bytes of a chunk's samples, those asked for at first read in few pieces.

    Raises WorkError for a shard that is gone or cannot be read; a shard that has grown short lacks its last samples.
    """

    def __init__(self, reading: Reading, chunk: Chunk, wanted_N: NDArray[np.int64]) -> None:
        self._table = reading.table
        self._place_N = chunk.place_N
        self._with_about = reading.rule.needs_about
        self._parts: dict[int, _Parts | None] = {}
        with OpenShards() as opened:
            for places in _neighbours(reading.table, np.unique(chunk.place_N[wanted_N])):
                self._read(opened, places)

    def __getitem__(self, number: int) -> _Parts | None:
        """A sample by its place in the chunk's order; None where its shard is too short."""
        place = int(self._place_N[number])
        if place not in self._parts:
            with OpenShards() as opened:
                self._read(opened, [place])
        return self._parts[place]

    def _read(self, opened: OpenShards, places: Sequence[int]) -> None:
        table = self._table
        address = table.addresses[table.shard_N[places[0]]]
        first = int(table.whole_N2[places[0], 0])
        end = int(table.whole_N2[places].sum(axis=1).max())
        try:
            content = opened.read(address, first, end - first)
        except OSError as error:
            if error.errno != errno.EIO:
                raise _gone(address, error) from error
            if len(places) == 1:
                self._parts[places[0]] = None
            for place in places if len(places) > 1 else ():
                self._read(opened, [place])
            return
        for place in places:
            self._parts[place] = self._cut(content, place, first)

    def _cut(self, content: bytes, place: int, first: int) -> _Parts:
        spans = (self._table.image_N2, self._table.caption_N2, self._table.json_N2)
        image, caption, about = ((int(start) - first, int(size)) for start, size in (span[place] for span in spans))
        return _Parts(
            content[image[0] : sum(image)],
            content[caption[0] : sum(caption)],
            content[about[0] : sum(about)] if self._with_about else b"",
        )


def _gone(address: str, error: OSError) -> WorkError:
    what = "is gone" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
    return WorkError(
        f"{address}: {what} since it was indexed. Put it back, or run `gapctl data index` on the shards that are there"
        "; then the same command goes on from the last checkpoint"
    )


def _neighbours(table: PairTable, place_N: NDArray[np.int64]) -> Iterator[list[int]]:
    """Groups of samples that are worth one read, the samples by their places in ascending order."""
    group: list[int] = []
    first = end = 0
    for place, shard, (start, size) in zip(
        place_N.tolist(), table.shard_N[place_N].tolist(), table.whole_N2[place_N].tolist(), strict=True
    ):
        near = group and shard == table.shard_N[group[-1]] and end <= start <= end + NEAR
        if group and not (near and start + size - first <= LONGEST):
            yield group
            group = []
        if not group:
            first = start
        group.append(place)
        end = start + size
    if group:
        yield group


def read_part(reading: Reading, chunk: Chunk, number_N: NDArray[np.int64], content: ChunkBytes) -> Decoded:
    """The samples at these places of a chunk's order.

    In place of one that cannot be read stands the next sound one of the chunk's order, after the last the first, drawn
    as it is elsewhere in the epoch. Raises WorkError where the chunk holds no sound sample.
    """
    out = read_planned(reading, chunk, number_N, content)
    known = {number: Bad(bad) for number, bad in zip(number_N.tolist(), out.bad_N.tolist(), strict=True)}
    for slot in np.flatnonzero(out.bad_N).tolist():
        _stand_in(reading, chunk, int(number_N[slot]), content, out, slot, known)
    return out


def read_planned(reading: Reading, chunk: Chunk, number_N: NDArray[np.int64], content: ChunkBytes) -> Decoded:
    """The same without stand-ins: where `bad_N` is not 0 the arrays hold nothing of use."""
    place_N = chunk.place_N[number_N]
    out = room_for(len(number_N), reading.rule.image_size, reading.rule.context)
    out.planned_N[:] = reading.table.row_N[place_N]
    boxes = _boxes(reading, chunk.epoch, place_N)
    for slot, (number, box) in enumerate(zip(number_N.tolist(), boxes, strict=True)):
        out.bad_N[slot] = _read_sample(reading, chunk, number, box, content, out, slot)
    return out


def _boxes(reading: Reading, epoch: int, place_N: NDArray[np.int64]) -> Sequence[Box | None]:
    if not reading.augment:
        return [None] * len(place_N)
    sizes_N2, row_N = reading.table.size_N2[place_N], reading.table.row_N[place_N]
    return crop_boxes(sizes_N2, reading.rule.crop_scale, reading.seed, epoch, row_N)


def _stand_in(
    reading: Reading, chunk: Chunk, number: int, content: ChunkBytes, out: Decoded, slot: int, known: dict[int, Bad]
) -> None:
    for step in range(1, len(chunk.place_N)):
        other = (number + step) % len(chunk.place_N)
        if known.get(other, Bad.SOUND):
            continue
        box = _boxes(reading, chunk.epoch, chunk.place_N[other : other + 1])[0]
        known[other] = _read_sample(reading, chunk, other, box, content, out, slot)
        if not known[other]:
            return
    address = reading.table.addresses[reading.table.shard_N[chunk.place_N[number]]]
    raise WorkError(
        f"{address}: none of the {len(chunk.place_N):,} samples that are shuffled together here can be read (one is: "
        f"{known[number].words}); `gapctl data verify` names what is wrong"
    )


def _read_sample(
    reading: Reading, chunk: Chunk, number: int, box: Box | None, content: ChunkBytes, out: Decoded, slot: int
) -> Bad:
    """Puts a sample into a slot, and says whether it could be read."""
    parts = content[number]
    if parts is None:
        return Bad.SHORT
    place = int(chunk.place_N[number])
    row = int(reading.table.row_N[place])
    treated = _treated(reading, parts, chunk.epoch, row)
    if treated is None:
        return Bad.LACKING
    try:
        image_HWC = _pixels(reading, parts.image, place, box)
    except OtherPicture:
        return Bad.OTHER
    except ValueError:
        return Bad.UNREADABLE
    if reading.rule.degrade.degrade != "none":
        image_HWC = degrade(reading.rule.degrade, image_HWC, reading.seed, chunk.epoch, row)
    ids = clip_tokens(reading.rule.context).ids(treated.text)
    out.image_NHWC[slot] = image_HWC
    out.tokens_NL[slot] = 0
    out.tokens_NL[slot, : len(ids)] = ids
    out.sample_N[slot] = row
    out.text_id_N[slot] = text_id(treated.text)
    out.words_N[slot], out.kept_N[slot] = treated.words, treated.kept
    return Bad.SOUND


def _treated(reading: Reading, parts: _Parts, epoch: int, row: int) -> Treated | None:
    caption = parts.caption.decode("utf-8-sig", errors="replace").strip()
    return treat(reading.rule.keep, caption, about_of(parts.about), reading.seed, epoch, row)


def _pixels(reading: Reading, image: bytes, place: int, box: Box | None) -> Pixels:
    width, height = reading.table.size_N2[place].tolist()
    side = reading.rule.image_size
    return centred(image, (width, height), side) if box is None else cropped(image, (width, height), box, side)


def text_id(text: str) -> int:
    """64 bits of a text, as a signed number."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)
