"""What one shard holds, from its headers, captions and the first bytes of its images; no image is decoded."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gapctl.data.pairs.members import BLOCK, Content, Member, walk
from gapctl.data.pairs.picture_header import Picture, picture_header
from gapctl.data.pairs.problems import MOST_CAPTION_BYTES, Problem

IMAGE_ENDINGS: Final = (b"jpg", b"jpeg", b"png", b"webp")
READ_ENDINGS: Final = frozenset({*IMAGE_ENDINGS, b"txt", b"json"})
MARKED: Final = 512
"""Bytes of each end of an image that its mark covers: reading all of them would halve the speed."""
_NOWHERE: Final = (0, 0)

Place = tuple[int, int]
"""Where a member's content begins, and its bytes."""


class Found(NamedTuple):
    """A sample as it lies in its shard: columns of the manifest, in this order.

    `offset` and `bytes` span all its members. A part that is missing lies at 0 with 0 bytes. Marks are 64-bit digests:
    of the image's length and both its ends, and of the caption's words.
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
    json_offset: int
    json_bytes: int
    image_mark: int
    caption_mark: int
    problem: str | None


class ShardContent(NamedTuple):
    """A shard's samples, and what is wrong with the shard itself.

    `fingerprint` is the sha256 of all that is not an image, and of the images' marks. `ignored` counts members of
    other kinds by their ending: nothing of them is read.
    """

    samples: list[Found]
    fingerprint: str
    damage: str | None
    ignored: dict[str, int]


class _Grouped(NamedTuple):
    key: bytes
    offset: int
    end: int
    parts: dict[bytes, Place]
    problem: Problem | None


def index_shard(content: Content) -> ShardContent:
    """The samples up to the end of the tar, or up to its first damage."""
    walked = walk(content)
    ignored: Counter[bytes] = Counter()
    digest = hashlib.sha256()
    samples, at = [], 0
    for group in _grouped(walked.members, ignored):
        found = _found(content, group)
        samples.append(found)
        if found.image_bytes:
            digest.update(content[at : found.image_offset])
            digest.update(found.image_mark.to_bytes(8))
            at = found.image_offset + found.image_bytes
    last = walked.members[-1] if walked.members else Member(b"", 0, 0, 0)
    digest.update(content[at : max(at, last.start + last.size)])
    named = {name.decode("utf-8", "replace"): count for name, count in sorted(ignored.items())}
    if walked.others:
        named["(links, folders and devices)"] = walked.others
    return ShardContent(samples, digest.hexdigest(), walked.damage, named)


def _grouped(members: list[Member], ignored: Counter[bytes]) -> Iterator[_Grouped]:
    """Samples are members in a row that share a key: what comes before the first dot of a name."""
    key: bytes | None = None
    offset, end, parts, problem = 0, 0, dict[bytes, Place](), None
    for name, header, start, size in members:
        slash = name.rfind(b"/") + 1
        dot = name.find(b".", slash)
        if dot <= slash:
            ignored[b"(no ending)"] += 1
            continue
        if name[:dot] != key:
            if key is not None and parts:
                yield _Grouped(key, offset, end, parts, problem)
            key, offset, parts, problem = name[:dot], header, {}, None
            if key[:1] == b"/" or b".." in key.split(b"/") or b"\\" in key:
                problem = Problem.ODD_NAME
        ending = name[dot + 1 :].lower()
        end = start + (size + BLOCK - 1 & -BLOCK)
        if ending not in READ_ENDINGS:
            ignored[ending] += 1
        elif ending in parts:
            problem = problem or Problem.TWICE
        else:
            parts[ending] = (start, size)
    if key is not None and parts:
        yield _Grouped(key, offset, end, parts, problem)


def _found(content: Content, group: _Grouped) -> Found:
    parts = group.parts
    image = parts.get(b"jpg") or next((parts[ending] for ending in IMAGE_ENDINGS if ending in parts), _NOWHERE)
    caption, about = parts.get(b"txt", _NOWHERE), parts.get(b"json", _NOWHERE)
    start, size = image
    picture, mark = Picture("", 0, 0, Problem.NO_IMAGE), 0
    if size:
        picture, mark = picture_header(content, start, start + size), _image_mark(content, start, size)
    words, characters, caption_mark, wrong = _caption(content, *caption)
    problem = group.problem or picture.problem or wrong
    return Found(
        group.key.decode("utf-8", "replace"),
        group.offset,
        group.end - group.offset,
        start,
        size,
        picture.form,
        picture.width,
        picture.height,
        *caption,
        characters,
        words,
        *about,
        mark,
        caption_mark,
        problem.value if problem else None,
    )


def _image_mark(content: Content, start: int, size: int) -> int:
    ends = content[start : start + min(size, MARKED)] + content[start + max(0, size - MARKED) : start + size]
    return _mark(size.to_bytes(8) + ends)


def _mark(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest())


def _caption(content: Content, start: int, size: int) -> tuple[int, int, int, Problem | None]:
    """Words, characters, mark, and what is wrong with it."""
    if size > MOST_CAPTION_BYTES:
        return 0, 0, 0, Problem.CAPTION_HUGE
    try:
        words = content[start : start + size].decode().split()
    except UnicodeDecodeError:
        return 0, 0, 0, Problem.CAPTION_NOT_UTF8
    if not words:
        return 0, 0, 0, Problem.NO_CAPTION
    text = " ".join(words)
    return len(words), len(text), _mark(text.encode()), None


def as_columns(samples: list[Found]) -> Mapping[str, Any]:
    """The samples by column."""
    columns = zip(*samples, strict=True) if samples else [()] * len(Found._fields)
    return dict(zip(Found._fields, columns, strict=True))
