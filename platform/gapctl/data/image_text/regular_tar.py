"""Locate and group the members of a shard, and inspect its images, by arrays instead of one by one.

Shards that img2dataset, webdataset and gapctl write have plain headers alone, and a sample's members stand together.

1. `scan_regular_tar` goes from header to header by their sizes alone, and looks at all headers afterwards.
2. `group_regular_members` finds the samples, whose members have names and endings of the usual kind.
3. `parse_image_headers` steps through the segments of all JPEGs at once.

The first two return None for any other shard, sound or damaged: `tar.scan_tar` takes these member by member, and says
what is wrong with them.

Index letters: B blocks, N members, L characters of a name, M samples, D images of one kind.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.image_text.tar import (
    BARE_MARKERS,
    CLOSING_BLOCKS,
    FRAME_MARKERS,
    MAX_PIXELS,
    REGULAR_KINDS,
    TAR_BLOCK_BYTES,
    USUAL_RECORD_BLOCKS,
    ImageHeader,
    SampleProblem,
    ShardBytes,
    TarMember,
    is_zero_tailed,
    judge_image,
    parse_image_header,
    select_sound_headers,
    skip_zeros,
)

HEADERS_AT_ONCE: Final = 2_048
"""Headers that are looked at together: they fit into a processor's cache."""
NAME_BYTES: Final = 100
SIZE_DIGITS: Final = 11
ENDINGS: Final = (b"jpg", b"jpeg", b"png", b"webp", b"txt", b"json")
"""The endings that are read. Of several images of a sample, the first of them counts."""
IMAGES: Final = 4
"""Number of these that are images'."""
MAX_SEGMENTS: Final = 32
"""Segments of a JPEG that are stepped through before its size; a file with more is parsed by itself."""
_IS_BARE, _IS_FRAME = (np.isin(np.arange(256), list(markers)) for markers in (BARE_MARKERS, FRAME_MARKERS))


class RegularTar(NamedTuple):
    """The members of a tar: their names, padded with NUL, and the offsets of header and content and of their end."""

    name_NL: NDArray[np.uint8]
    header_N: NDArray[np.int64]
    size_N: NDArray[np.int64]
    end_N: NDArray[np.int64]

    @property
    def start_N(self) -> NDArray[np.int64]:
        """The offsets of the members' contents."""
        return self.header_N + TAR_BLOCK_BYTES


def scan_regular_tar(content: ShardBytes) -> RegularTar | None:
    """Return the members of a whole tar with plain headers, None of any other."""
    header_N, size_N = _walk_headers(content)
    if not len(header_N):
        return None
    blocks = len(content) // TAR_BLOCK_BYTES
    byte_B: NDArray[np.uint8] = np.frombuffer(content, np.uint8, blocks * TAR_BLOCK_BYTES)  # type: ignore[call-overload]
    block_B, place_N = byte_B.reshape(-1, TAR_BLOCK_BYTES), header_N // TAR_BLOCK_BYTES
    names = []
    for first in range(0, len(place_N), HEADERS_AT_ONCE):
        head_N = block_B[place_N[first : first + HEADERS_AT_ONCE]]
        if not _are_plain(head_N) or not select_sound_headers(head_N).all():
            return None
        names.append(head_N[:, :NAME_BYTES].copy())
    name_NL = np.concatenate(names)
    used_NL = name_NL != 0
    if (used_NL[:, 1:] > used_NL[:, :-1]).any():  # something stands behind the end of a name
        return None
    name_NL = name_NL[:, : max(1, int(used_NL.sum(axis=1).max()))]
    end_N = header_N + TAR_BLOCK_BYTES + (size_N + TAR_BLOCK_BYTES - 1 & -TAR_BLOCK_BYTES)
    tar = RegularTar(name_NL, header_N, size_N, end_N)
    return tar if _is_closed(content, tar) else None


def _walk_headers(content: ShardBytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return offsets of headers and sizes of contents, from each to the next; none where these cannot be right."""
    at, end, headers, sizes = 0, len(content) - TAR_BLOCK_BYTES, list[int](), list[int]()
    while at <= end:
        try:
            size = int(content[at + 124 : at + 124 + SIZE_DIGITS], 8)
        except ValueError:  # zeros, or what is no header
            break
        headers.append(at)
        sizes.append(size)
        at += TAR_BLOCK_BYTES + (size + TAR_BLOCK_BYTES - 1 & -TAR_BLOCK_BYTES)
        if size < 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.array(headers, np.int64), np.array(sizes, np.int64)


def _are_plain(head_N: NDArray[np.uint8]) -> bool:
    """Return whether all headers are of files, with a size of eleven digits and without the second part of a name."""
    digits, closing = head_N[:, 124 : 124 + SIZE_DIGITS] - np.uint8(ord("0")), head_N[:, 124 + SIZE_DIGITS]
    plain_N = (digits < 8).all(axis=1) & ((closing == 0) | (closing == ord(" "))) & (head_N[:, 345] == 0)
    return bool((plain_N & np.isin(head_N[:, 156], REGULAR_KINDS)).all())


def _is_closed(content: ShardBytes, tar: RegularTar) -> bool:
    """Return whether a tar ends as usual behind its last member, in blocks of zeros that fill its last record."""
    at, name = int(tar.end_N[-1]), tar.name_NL[-1].tobytes().rstrip(b"\0")
    last = TarMember(name, int(tar.header_N[-1]), int(tar.start_N[-1]), int(tar.size_N[-1]))
    zeros = (len(content) - at) // TAR_BLOCK_BYTES
    return (
        1 <= zeros < CLOSING_BLOCKS + USUAL_RECORD_BLOCKS
        and skip_zeros(content, at) == len(content)
        and not is_zero_tailed(content, last)
    )


class RegularSamples(NamedTuple):
    """Samples in the order of the tar: their keys, and offset and bytes of all members, of image, caption and json.

    A missing part has offset 0 and 0 bytes. `end` is the end of the last member's content.
    """

    keys: list[str]
    whole_M2: NDArray[np.int64]
    image_M2: NDArray[np.int64]
    caption_M2: NDArray[np.int64]
    json_M2: NDArray[np.int64]
    end: int


def group_regular_members(tar: RegularTar) -> RegularSamples | None:
    """Return the samples of a tar in which each key stands once, with one member of an ending, all of which are read.

    Return None if names are not plain: ASCII without folders, and not hidden.
    """
    name_NL = tar.name_NL
    dot_N = (name_NL == ord(".")).argmax(axis=1)
    odd_NL = (name_NL >= 0x80) | (name_NL == ord("/")) | (name_NL == ord("\\"))
    ending_N = _number_endings(name_NL, dot_N)
    if dot_N.min() == 0 or odd_NL.any() or ending_N.min() < 0:
        return None
    length = name_NL.shape[1]
    key_N = np.where(np.arange(length) < dot_N[:, None], name_NL, np.uint8(0)).view(f"S{length}")[:, 0]
    begins_N = np.concatenate([[True], key_N[1:] != key_N[:-1]])
    first_M, sample_N = np.flatnonzero(begins_N), np.cumsum(begins_N) - 1
    keys = key_N[first_M].astype(f"U{length}").tolist()
    slot_N = sample_N * len(ENDINGS) + ending_N
    if len(set(keys)) < len(keys) or np.bincount(slot_N).max() > 1:
        return None
    place_MK = np.full((len(keys), len(ENDINGS)), -1)
    place_MK.reshape(-1)[slot_N] = np.arange(len(slot_N))
    first_image_M = (place_MK[:, :IMAGES] >= 0).argmax(axis=1)
    offset_M = tar.header_N[first_M]
    end_M = tar.end_N[np.append(first_M[1:], len(slot_N)) - 1]
    return RegularSamples(
        keys,
        np.stack([offset_M, end_M - offset_M], axis=1),
        _select_ranges(tar, place_MK[np.arange(len(keys)), first_image_M]),
        _select_ranges(tar, place_MK[:, ENDINGS.index(b"txt")]),
        _select_ranges(tar, place_MK[:, ENDINGS.index(b"json")]),
        int(tar.start_N[-1] + tar.size_N[-1]),
    )


def _number_endings(name_NL: NDArray[np.uint8], dot_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each name's ending, whatever its case, among `ENDINGS`; -1 for another."""
    longest = 1 + max(map(len, ENDINGS))  # one more, so that a longer ending is another
    padded_NL = np.pad(name_NL, ((0, 0), (0, 1 + longest)))
    ending_NL = np.take_along_axis(padded_NL, dot_N[:, None] + 1 + np.arange(longest), axis=1)
    upper_NL = (ending_NL >= ord("A")) & (ending_NL <= ord("Z"))
    ending_N = (ending_NL | upper_NL.astype(np.uint8) << 5).view(f"S{longest}")[:, 0]
    number_N = np.full(len(name_NL), -1)
    for number, ending in enumerate(ENDINGS):
        number_N[ending_N == ending] = number
    return number_N


def _select_ranges(tar: RegularTar, place_M: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return offset and size of the members at these places, and (0, 0) where that is -1."""
    range_M2 = np.stack([tar.start_N[place_M], tar.size_N[place_M]], axis=1)
    range_M2[place_M < 0] = 0
    return range_M2


class ImageHeaders(NamedTuple):
    """Formats, widths and heights of images as `tar.parse_image_header` finds them, and problems by their places."""

    form_M: list[str]
    size_M2: NDArray[np.int64]
    problems: dict[int, SampleProblem]


def parse_image_headers(content: ShardBytes, image_M2: NDArray[np.int64]) -> ImageHeaders:
    """Parse the headers of images at these offsets and sizes; where there are no bytes, there is no image."""
    byte_B: NDArray[np.uint8] = np.frombuffer(content, np.uint8)  # type: ignore[call-overload]
    start_M, end_M = image_M2[:, 0], image_M2.sum(axis=1)
    long_D = np.flatnonzero(image_M2[:, 1] >= 3)
    jpeg_D = long_D[(byte_B[start_M[long_D, None] + np.arange(3)] == (0xFF, 0xD8, 0xFF)).all(axis=1)]
    size_M2, cmyk_M, known_M = np.zeros_like(image_M2), np.zeros(len(image_M2), bool), np.zeros(len(image_M2), bool)
    known_M[jpeg_D] = True
    known_M[_read_jpeg_frames(byte_B, start_M, end_M, jpeg_D, size_M2, cmyk_M)] = False
    headers = ImageHeaders(["jpeg"] * len(image_M2), size_M2, {})
    usual_M = known_M & (size_M2 > 1).all(axis=1) & (size_M2.prod(axis=1) <= MAX_PIXELS) & ~cmyk_M
    for place in np.flatnonzero(~usual_M).tolist():
        width, height = size_M2[place].tolist()
        if known_M[place]:
            header = judge_image("jpeg", width, height, cmyk=bool(cmyk_M[place]))
        elif image_M2[place, 1]:
            header = parse_image_header(content, int(start_M[place]), int(end_M[place]))
        else:
            header = ImageHeader("", 0, 0, SampleProblem.NO_IMAGE)
        headers.form_M[place], size_M2[place] = header.form, (header.width, header.height)
        if header.problem:
            headers.problems[place] = header.problem
    return headers


def _read_jpeg_frames(
    byte_B: NDArray[np.uint8],
    start_M: NDArray[np.int64],
    end_M: NDArray[np.int64],
    left_D: NDArray[np.int64],
    size_M2: NDArray[np.int64],
    cmyk_M: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Write width and height of the JPEGs at these places, and return those that have too many segments."""
    at_M = start_M + 2
    for _ in range(MAX_SEGMENTS):
        left_D = left_D[at_M[left_D] + 10 <= end_M[left_D]]
        segment_D = byte_B[at_M[left_D, None] + np.arange(10)].astype(np.int64)
        sound_D, marker_D = segment_D[:, 0] == 0xFF, segment_D[:, 1]
        framed_D = sound_D & _IS_FRAME[marker_D]
        size_M2[left_D[framed_D]] = segment_D[framed_D][:, (7, 5)] << 8 | segment_D[framed_D][:, (8, 6)]
        cmyk_M[left_D[framed_D]] = segment_D[framed_D, 9] == 4
        length_D = np.maximum(2, segment_D[:, 2] << 8 | segment_D[:, 3])
        at_M[left_D] += np.where(marker_D == 0xFF, 1, np.where(_IS_BARE[marker_D], 2, 2 + length_D))
        left_D = left_D[sound_D & ~framed_D]
        if not len(left_D):
            break
    return left_D
