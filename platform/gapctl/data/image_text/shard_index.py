"""Index one shard: group its members into samples, and inspect captions and the headers of images.

1. `index_shard` takes a shard of the usual layout in bulk (`regular_tar`), in half the time.
2. Of any other it locates the members (`tar.scan_tar`), groups them by their key and makes a row of each sample.
3. Marks are digests by which equal images and captions are found again; a fingerprint covers all of a shard's samples.

Index letters: M samples, D images of one kind.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gapctl.data.image_text.class_prompts import LINE_ENDS, CaptionLineMode, count_captions
from gapctl.data.image_text.manifest import SCHEMA
from gapctl.data.image_text.regular_tar import (
    RegularSamples,
    group_regular_members,
    parse_image_headers,
    scan_regular_tar,
)
from gapctl.data.image_text.tar import (
    MAX_CAPTION_BYTES,
    TAR_BLOCK_BYTES,
    ImageHeader,
    SampleProblem,
    ShardBytes,
    TarMember,
    UnreadableMember,
    parse_image_header,
    scan_tar,
)
from gapctl.io.retry import is_hidden_or_system_file

IMAGE_ENDINGS: Final = (b"jpg", b"jpeg", b"png", b"webp")
READ_ENDINGS: Final = frozenset({*IMAGE_ENDINGS, b"txt", b"json"})
NO_ENDING: Final = b"(no ending)"
FOREIGN_FILES: Final = b"(left by another system)"
HASHED_END_BYTES: Final = 512
"""Bytes of each end of an image that its mark covers; hashing all would halve the speed."""
MAX_COLUMN_VALUE: Final = (1 << 31) - 1
"""Largest value of the manifest's columns of sizes; only a corrupt PNG states larger sides."""
MAX_JSON_BYTES: Final = 1 << 20
"""Bytes of a json beyond which it is not asked whether it has the caption: the longest caption is far shorter."""
HASH_PIECE_BYTES: Final = 16 << 20
"""Bytes that are hashed together."""
HASHED_IMAGES: Final = 256
"""Images whose ends are gathered together: they fit into a processor's cache."""
ROW_SCHEMA: Final = {name: kind for name, kind in SCHEMA.items() if name != "shard"}
BYTE_ORDER_MARK: Final = "\ufeff"
_EMPTY_RANGE: Final = (0, 0)

ByteRange = tuple[int, int]
"""The offset of a member's content, and its size in bytes."""


class SampleRow(NamedTuple):
    """The location and marks of a sample in its shard: columns of the manifest, in this order.

    `offset` and `bytes` span all its members. A missing part has offset 0 and 0 bytes. `captions` counts the captions
    in the text, each a line; 1 is the whole text. Marks are 64-bit digests: of the image's length and both its ends,
    and of the caption's words.
    """

    key: str
    offset: int
    bytes: int
    image_offset: int
    image_bytes: int
    form: str
    width: int
    height: int
    caption_offset: int
    caption_bytes: int
    characters: int
    words: int
    captions: int
    json_offset: int
    json_bytes: int
    image_mark: int
    caption_mark: int
    problem: str | None


class ShardIndex(NamedTuple):
    """A shard's samples, and the problems of the shard itself.

    `rows` has the columns of `SampleRow`. `fingerprint` is the sha256 of all that is not an image, and of the images'
    marks. `ignored` counts members of other kinds by their ending or type; their content is not read.
    """

    rows: pl.DataFrame
    fingerprint: str
    damage: str | None
    ignored: dict[str, int]

    @property
    def samples(self) -> list[SampleRow]:
        """The rows as tuples."""
        return list(map(SampleRow._make, self.rows.iter_rows()))


class _MemberGroup(NamedTuple):
    key: bytes
    offset: int
    end: int
    parts: dict[bytes, ByteRange]
    problem: SampleProblem | None

    @property
    def complete(self) -> bool:
        """Whether it has an image and a caption."""
        return b"txt" in self.parts and any(ending in self.parts for ending in IMAGE_ENDINGS)


def index_shard(content: ShardBytes, captions: CaptionLineMode | None = None) -> ShardIndex:
    """Return the samples up to the end of the tar, or up to its first damage.

    `captions` says what several lines of a text are; without it each sample does.
    """
    tar = scan_regular_tar(content)
    found = None if tar is None else group_regular_members(tar)
    regular = None if found is None else _index_regular_samples(content, found, captions)
    return index_members(content, captions) if regular is None else regular


def index_members(content: ShardBytes, captions: CaptionLineMode | None = None) -> ShardIndex:
    """Return what `index_shard` does, of any shard, member by member."""
    scan = scan_tar(content)
    ignored: Counter[bytes] = Counter()
    grouped, misplaced = _group_members(scan.members, ignored)
    groups = _mark_unreadable(_merge_split_groups(grouped), scan.unreadable)
    samples = [_build_sample_row(content, group, captions) for group in groups]
    # In the order of the images, so that each byte is read once even if members of a sample are separated.
    images = [
        (row.image_offset, row.image_bytes, row.image_mark.to_bytes(8))
        for row in sorted(samples, key=lambda sample: sample.image_offset)
        if row.image_bytes
    ]
    last = scan.members[-1] if scan.members else TarMember(b"", 0, 0, 0)
    # Earlier versions numbered the rows of such shards differently, and trainings draw by those numbers.
    otherwise = b"counted by key" if misplaced or groups != grouped else b""
    counts = [sample.captions for sample in samples]
    fingerprint = _hash_samples(content, images, last.start + last.size, counts, otherwise)
    named = {name.decode("utf-8", "replace"): count for name, count in sorted(ignored.items())}
    if scan.others:
        named["(links, folders and devices)"] = scan.others
    return ShardIndex(build_rows(samples), fingerprint, scan.damage, named)


def build_rows(samples: Sequence[SampleRow]) -> pl.DataFrame:
    """Return the rows of samples as a frame."""
    columns = zip(*samples, strict=True) if samples else [()] * len(ROW_SCHEMA)
    return pl.DataFrame(dict(zip(ROW_SCHEMA, columns, strict=True)), schema=ROW_SCHEMA)


def _hash_samples(
    content: ShardBytes,
    images: Iterable[tuple[int, int, bytes]],
    end: int,
    captions: Sequence[int],
    otherwise: bytes = b"",
) -> str:
    """Return the fingerprint of a shard up to `end`, with its images by offset, size and mark, in their order."""
    digest, at = hashlib.sha256(), 0
    for start, size, mark in images:
        if start - at <= HASH_PIECE_BYTES:
            digest.update(content[at:start] + mark)
        else:
            _hash_span(digest, content, at, start)
            digest.update(mark)
        at = start + size
    _hash_span(digest, content, at, end)
    digest.update(otherwise)
    if any(count > 1 for count in captions):
        # Earlier versions read each text as one caption, as trainings on their manifests still do.
        digest.update(f"captions {list(captions)}".encode())
    return digest.hexdigest()


def _hash_span(digest: "hashlib._Hash", content: ShardBytes, start: int, stop: int) -> None:
    """Add these bytes to the digest piece by piece: a mapped shard may have members larger than memory."""
    for piece in range(start, stop, HASH_PIECE_BYTES):
        digest.update(content[piece : min(stop, piece + HASH_PIECE_BYTES)])


def _index_regular_samples(
    content: ShardBytes, found: RegularSamples, mode: CaptionLineMode | None
) -> ShardIndex | None:
    """Return what `index_members` would, or None where a member is larger than is usual."""
    image_M2, caption_M2, json_M2 = found.image_M2, found.caption_M2, found.json_M2
    larger = image_M2[:, 1].max() > MAX_COLUMN_VALUE or json_M2[:, 1].max() > MAX_JSON_BYTES
    if larger or caption_M2[:, 1].max() > MAX_CAPTION_BYTES:
        return None
    headers, marks = parse_image_headers(content, image_M2), _hash_first_and_last_bytes_of_images(content, image_M2)
    texts = _inspect_captions(content, caption_M2, json_M2, mode)
    for place, problem in headers.problems.items():
        texts.problems[place] = problem.value
    images = [(start, size, mark) for (start, size), mark in zip(image_M2.tolist(), marks, strict=True) if size]
    width_M, height_M = np.minimum(headers.size_M2, MAX_COLUMN_VALUE).T
    columns = (
        found.keys,
        *found.whole_M2.T,
        *image_M2.T,
        headers.form_M,
        width_M,
        height_M,
        *caption_M2.T,
        texts.characters,
        texts.words,
        texts.captions,
        *json_M2.T,
        _read_marks(marks),
        _read_marks(texts.marks),
        texts.problems,
    )
    rows = pl.DataFrame(
        [pl.Series(name, column).cast(kind) for (name, kind), column in zip(ROW_SCHEMA.items(), columns, strict=True)]
    )
    return ShardIndex(rows, _hash_samples(content, images, found.end, texts.captions), None, {})


def _read_marks(marks: Sequence[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(marks), ">u8").astype(np.uint64)


def _hash_first_and_last_bytes_of_images(content: ShardBytes, image_M2: NDArray[np.int64]) -> list[bytes]:
    """Return the marks of images at these offsets and sizes, as for a single one; 0 where there are no bytes."""
    marks = [bytes(8)] * len(image_M2)
    for place in np.flatnonzero(image_M2[:, 1] < HASHED_END_BYTES).tolist():
        start, size = image_M2[place].tolist()
        marks[place] = _hash_first_and_last_bytes(content, start, size).to_bytes(8) if size else marks[place]
    large_D = np.flatnonzero(image_M2[:, 1] >= HASHED_END_BYTES)
    if not len(large_D):
        return marks
    window_B: NDArray[np.uint8] = sliding_window_view(np.frombuffer(content, np.uint8), HASHED_END_BYTES)  # type: ignore[call-overload]
    for first in range(0, len(large_D), HASHED_IMAGES):
        place_D = large_D[first : first + HASHED_IMAGES]
        start_D, size_D = image_M2[place_D].T
        ends = (window_B[start_D], window_B[start_D + size_D - HASHED_END_BYTES])
        hashed_D = np.concatenate([size_D.astype(">u8")[:, None].view(np.uint8), *ends], axis=1)
        for place, hashed in zip(place_D.tolist(), hashed_D, strict=True):
            marks[place] = blake2b(hashed, digest_size=8).digest()
    return marks


def _group_members(members: list[TarMember], ignored: Counter[bytes]) -> tuple[list[_MemberGroup], bool]:
    """Group consecutive members that share a key: the name up to its first dot.

    Return as well whether files that other systems leave stood at the place of a sample, or within one.
    """
    groups: list[_MemberGroup] = []
    key: bytes | None = None
    offset, end, parts, problem = 0, 0, dict[bytes, ByteRange](), None
    passed_over, misplaced = False, False
    for name, header, start, size in members:
        slash = name.rfind(b"/") + 1
        dot = name.find(b".", slash)
        if dot <= slash:
            ignored[FOREIGN_FILES if dot == slash else NO_ENDING] += 1
            continue
        ending = name[dot + 1 :].lower()
        if name[:dot] != key:
            if is_hidden_or_system_file(name.decode("utf-8", "replace")):
                ignored[FOREIGN_FILES] += 1
                passed_over, misplaced = True, misplaced or ending in READ_ENDINGS
                continue
            if key is not None and parts:
                groups.append(_MemberGroup(key, offset, end, parts, problem))
            key, offset, parts, problem, passed_over = name[:dot], header, {}, None, False
            if key[:1] == b"/" or b".." in key.split(b"/") or b"\\" in key:
                problem = SampleProblem.ODD_NAME
        misplaced = misplaced or passed_over
        end = start + (size + TAR_BLOCK_BYTES - 1 & -TAR_BLOCK_BYTES)
        if ending not in READ_ENDINGS:
            ignored[ending] += 1
        elif ending in parts:
            problem = problem or SampleProblem.TWICE
        else:
            parts[ending] = (start, size)
    if key is not None and parts:
        groups.append(_MemberGroup(key, offset, end, parts, problem))
    return groups, misplaced


def _merge_split_groups(groups: list[_MemberGroup]) -> list[_MemberGroup]:
    """Merge the separated parts of a key, at the place of the first one.

    Only groups without an image or a caption are merged: a key with complete samples may occur several times.
    """
    times = Counter(group.key for group in groups)
    if len(times) == len(groups):
        return groups
    whole = {group.key for group in groups if group.complete}
    gathered: dict[bytes | int, _MemberGroup] = {}
    for place, group in enumerate(groups):
        first = gathered.get(group.key)
        if group.complete or times[group.key] == 1 or (first and first.parts.keys() & group.parts.keys()):
            gathered[place] = group
        elif first:
            parts, end = first.parts | group.parts, max(first.end, group.end)
            gathered[group.key] = _MemberGroup(group.key, first.offset, end, parts, first.problem or group.problem)
        else:
            gathered[group.key] = group
    return [
        group._replace(problem=group.problem or SampleProblem.APART)
        if isinstance(place, bytes) and (group.complete or group.key in whole)
        else group
        for place, group in gathered.items()
    ]


def _mark_unreadable(groups: list[_MemberGroup], unreadable: list[UnreadableMember]) -> list[_MemberGroup]:
    """Mark samples whose image or caption is a link or a sparse file."""
    others: dict[bytes, dict[bytes, ByteRange]] = {}
    for name, header in unreadable:
        dot = name.find(b".", name.rfind(b"/") + 1)
        ending = name[dot + 1 :].lower()
        if ending in READ_ENDINGS and not is_hidden_or_system_file(name.decode("utf-8", "replace")):
            others.setdefault(name[:dot], {})[ending] = (header, 0)
    if not others:
        return groups
    named = []
    for group in groups:
        whole = group._replace(parts=others.get(group.key, {}) | group.parts)
        wrong = whole.complete and not group.complete
        named.append(group._replace(problem=group.problem or SampleProblem.NOT_A_FILE) if wrong else group)
    for key in others.keys() - {group.key for group in groups}:
        header = min(header for header, _ in others[key].values())
        named.append(_MemberGroup(key, header, header + TAR_BLOCK_BYTES, {}, SampleProblem.NOT_A_FILE))
    return sorted(named, key=lambda group: group.offset)


def _build_sample_row(content: ShardBytes, group: _MemberGroup, mode: CaptionLineMode | None) -> SampleRow:
    parts = group.parts
    image = parts.get(b"jpg") or next((parts[ending] for ending in IMAGE_ENDINGS if ending in parts), _EMPTY_RANGE)
    caption, about = parts.get(b"txt", _EMPTY_RANGE), parts.get(b"json", _EMPTY_RANGE)
    start, size = image
    picture, mark = ImageHeader("", 0, 0, SampleProblem.NO_IMAGE), 0
    if size:
        picture, mark = (
            parse_image_header(content, start, start + size),
            _hash_first_and_last_bytes(content, start, size),
        )
    found, wrong = _inspect_caption(content, caption, about, mode)
    if about[1] > MAX_COLUMN_VALUE:
        about, wrong = _EMPTY_RANGE, wrong or SampleProblem.JSON_HUGE
    if caption[1] > MAX_COLUMN_VALUE:
        caption = _EMPTY_RANGE
    problem = group.problem or picture.problem or wrong
    return SampleRow(
        group.key.decode("utf-8", "replace"),
        group.offset,
        group.end - group.offset,
        start,
        size,
        picture.form,
        min(picture.width, MAX_COLUMN_VALUE),
        min(picture.height, MAX_COLUMN_VALUE),
        *caption,
        found.characters,
        found.words,
        found.captions,
        *about,
        mark,
        int.from_bytes(found.mark),
        problem.value if problem else None,
    )


def _hash_first_and_last_bytes(content: ShardBytes, start: int, size: int) -> int:
    first = content[start : start + min(size, HASHED_END_BYTES)]
    return hash_to_64_bits(size.to_bytes(8) + first + content[start + max(0, size - HASHED_END_BYTES) : start + size])


def hash_to_64_bits(content: bytes) -> int:
    """Return 64 bits of the content's digest."""
    return int.from_bytes(blake2b(content, digest_size=8).digest())


class _CaptionRow(NamedTuple):
    """A text's columns in the manifest; the mark is a digest of 8 bytes."""

    words: int = 0
    characters: int = 0
    captions: int = 1
    mark: bytes = bytes(8)


class _CaptionColumns(NamedTuple):
    """Texts' columns in the manifest; marks are digests of 8 bytes."""

    words: list[int]
    characters: list[int]
    captions: list[int]
    marks: list[bytes]
    problems: list[str | None]


def _inspect_captions(
    content: ShardBytes, caption_M2: NDArray[np.int64], json_M2: NDArray[np.int64], mode: CaptionLineMode | None
) -> _CaptionColumns:
    """Return the columns of texts at these offsets and sizes."""
    words, characters, captions, marks = list[int](), list[int](), [1] * len(caption_M2), list[bytes]()
    problems: list[str | None] = [None] * len(caption_M2)
    for place, (start, size) in enumerate(caption_M2.tolist()):
        raw = content[start : start + size]
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = ""
        # The space is the only white space that can be printed.
        if text and text.isprintable() and "  " not in text and text[0] != " " != text[-1]:
            words.append(text.count(" ") + 1)
            characters.append(len(text))
            marks.append(blake2b(raw, digest_size=8).digest())
        else:
            facts, problem = _inspect_caption(content, (start, size), json_M2[place].tolist(), mode)
            words.append(facts.words)
            characters.append(facts.characters)
            captions[place] = facts.captions
            marks.append(facts.mark)
            problems[place] = problem and problem.value
    return _CaptionColumns(words, characters, captions, marks, problems)


def _inspect_caption(
    content: ShardBytes, caption: Sequence[int], about: Sequence[int], mode: CaptionLineMode | None
) -> tuple[_CaptionRow, SampleProblem | None]:
    """Return the facts of a text and its problem; the json at `about` is read only if the text has several lines."""
    start, size = caption
    if size > MAX_CAPTION_BYTES:
        return _CaptionRow(), SampleProblem.CAPTION_HUGE
    try:
        text = content[start : start + size].decode().removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError:
        return _CaptionRow(), SampleProblem.CAPTION_NOT_UTF8
    words = text.split()
    if not words:
        return _CaptionRow(), SampleProblem.NO_CAPTION
    captions, joined = 1, " ".join(words)
    if LINE_ENDS.search(text.strip()):
        where, length = about
        metadata = parse_metadata(content[where : where + length]) if length <= MAX_JSON_BYTES else {}
        captions = count_captions(text, metadata, mode)
    mark = blake2b(joined.encode(), digest_size=8).digest()
    return _CaptionRow(len(words), len(joined), captions, mark), None


def parse_metadata(content: bytes | None) -> dict[str, object]:
    """Return a sample's JSON object; an empty one if the member is missing, damaged, or not an object."""
    try:
        metadata = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return metadata if isinstance(metadata, dict) else {}
