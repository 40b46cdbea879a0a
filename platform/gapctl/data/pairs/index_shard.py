"""What one shard holds, from its headers, captions and the first bytes of its images; no image is decoded."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gapctl.data.pairs.members import BLOCK, Content, Member, Unreadable, walk
from gapctl.data.pairs.picture_header import Picture, picture_header
from gapctl.data.pairs.problems import MOST_CAPTION_BYTES, Problem
from gapctl.stores import is_foreign

IMAGE_ENDINGS: Final = (b"jpg", b"jpeg", b"png", b"webp")
READ_ENDINGS: Final = frozenset({*IMAGE_ENDINGS, b"txt", b"json"})
NO_ENDING: Final = b"(no ending)"
FOREIGN: Final = b"(left by another system)"
MARKED: Final = 512
"""Bytes of each end of an image that its mark covers: reading all of them would halve the speed."""
MOST: Final = (1 << 31) - 1
"""What the manifest's columns of sizes hold; a PNG states larger sides only where it lies."""
HASHED: Final = 16 << 20
"""Bytes that are hashed at a time."""
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
    other kinds by their ending, or by what they are: nothing of them is read.
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

    @property
    def complete(self) -> bool:
        """Whether it has an image and a caption."""
        return b"txt" in self.parts and any(ending in self.parts for ending in IMAGE_ENDINGS)


def index_shard(content: Content) -> ShardContent:
    """The samples up to the end of the tar, or up to its first damage."""
    walked = walk(content)
    ignored: Counter[bytes] = Counter()
    grouped, at_odds = _grouped(walked.members, ignored)
    groups = _with_unreadable(_gathered(grouped), walked.unreadable)
    samples = [_found(content, group) for group in groups]
    digest, at = hashlib.sha256(), 0
    # In the order of their images, which is that of the samples unless members stand apart: each byte is read once.
    for found in sorted(samples, key=lambda sample: sample.image_offset):
        if found.image_bytes:
            _update(digest, content, at, found.image_offset)
            digest.update(found.image_mark.to_bytes(8))
            at = found.image_offset + found.image_bytes
    last = walked.members[-1] if walked.members else Member(b"", 0, 0, 0)
    _update(digest, content, at, last.start + last.size)
    if at_odds or groups != grouped:
        # Such shards were counted otherwise before: their rows had other numbers, by which trainings draw.
        digest.update(b"counted by key")
    named = {name.decode("utf-8", "replace"): count for name, count in sorted(ignored.items())}
    if walked.others:
        named["(links, folders and devices)"] = walked.others
    return ShardContent(samples, digest.hexdigest(), walked.damage, named)


def _update(digest: "hashlib._Hash", content: Content, start: int, stop: int) -> None:
    """Add these bytes piece by piece: a mapped shard may have members that memory has no room for."""
    for piece in range(start, stop, HASHED):
        digest.update(content[piece : min(stop, piece + HASHED)])


def _grouped(members: list[Member], ignored: Counter[bytes]) -> tuple[list[_Grouped], bool]:
    """Samples are members in a row that share a key: what comes before the first dot of a name.

    Second, whether files that other systems leave stood where they would have been taken for samples, or within one.
    """
    groups: list[_Grouped] = []
    key: bytes | None = None
    offset, end, parts, problem = 0, 0, dict[bytes, Place](), None
    passed_over, at_odds = False, False
    for name, header, start, size in members:
        slash = name.rfind(b"/") + 1
        dot = name.find(b".", slash)
        if dot <= slash:
            ignored[FOREIGN if dot == slash else NO_ENDING] += 1
            continue
        ending = name[dot + 1 :].lower()
        if name[:dot] != key:
            if is_foreign(name.decode("utf-8", "replace")):
                ignored[FOREIGN] += 1
                passed_over, at_odds = True, at_odds or ending in READ_ENDINGS
                continue
            if key is not None and parts:
                groups.append(_Grouped(key, offset, end, parts, problem))
            key, offset, parts, problem, passed_over = name[:dot], header, {}, None, False
            if key[:1] == b"/" or b".." in key.split(b"/") or b"\\" in key:
                problem = Problem.ODD_NAME
        at_odds = at_odds or passed_over
        end = start + (size + BLOCK - 1 & -BLOCK)
        if ending not in READ_ENDINGS:
            ignored[ending] += 1
        elif ending in parts:
            problem = problem or Problem.TWICE
        else:
            parts[ending] = (start, size)
    if key is not None and parts:
        groups.append(_Grouped(key, offset, end, parts, problem))
    return groups, at_odds


def _gathered(groups: list[_Grouped]) -> list[_Grouped]:
    """Puts the parts of a key that stand apart together, where its first one stands.

    Only parts that lack an image or a caption: a key whose samples are complete may stand several times.
    """
    times = Counter(group.key for group in groups)
    if len(times) == len(groups):
        return groups
    whole = {group.key for group in groups if group.complete}
    gathered: dict[bytes | int, _Grouped] = {}
    for place, group in enumerate(groups):
        first = gathered.get(group.key)
        if group.complete or times[group.key] == 1 or (first and first.parts.keys() & group.parts.keys()):
            gathered[place] = group
        elif first:
            parts, end = first.parts | group.parts, max(first.end, group.end)
            gathered[group.key] = _Grouped(group.key, first.offset, end, parts, first.problem or group.problem)
        else:
            gathered[group.key] = group
    return [
        group._replace(problem=group.problem or Problem.APART)
        if isinstance(place, bytes) and (group.complete or group.key in whole)
        else group
        for place, group in gathered.items()
    ]


def _with_unreadable(groups: list[_Grouped], unreadable: list[Unreadable]) -> list[_Grouped]:
    """Names links and sparse files as what is wrong with the samples that have one for an image or a caption."""
    others: dict[bytes, dict[bytes, Place]] = {}
    for name, header in unreadable:
        dot = name.find(b".", name.rfind(b"/") + 1)
        ending = name[dot + 1 :].lower()
        if ending in READ_ENDINGS and not is_foreign(name.decode("utf-8", "replace")):
            others.setdefault(name[:dot], {})[ending] = (header, 0)
    if not others:
        return groups
    named = []
    for group in groups:
        whole = group._replace(parts=others.get(group.key, {}) | group.parts)
        wrong = whole.complete and not group.complete
        named.append(group._replace(problem=group.problem or Problem.NOT_A_FILE) if wrong else group)
    for key in others.keys() - {group.key for group in groups}:
        header = min(header for header, _ in others[key].values())
        named.append(_Grouped(key, header, header + BLOCK, {}, Problem.NOT_A_FILE))
    return sorted(named, key=lambda group: group.offset)


def _found(content: Content, group: _Grouped) -> Found:
    parts = group.parts
    image = parts.get(b"jpg") or next((parts[ending] for ending in IMAGE_ENDINGS if ending in parts), _NOWHERE)
    caption, about = parts.get(b"txt", _NOWHERE), parts.get(b"json", _NOWHERE)
    start, size = image
    picture, mark = Picture("", 0, 0, Problem.NO_IMAGE), 0
    if size:
        picture, mark = picture_header(content, start, start + size), _image_mark(content, start, size)
    words, characters, caption_mark, wrong = _caption(content, *caption)
    if about[1] > MOST:
        about, wrong = _NOWHERE, wrong or Problem.JSON_HUGE
    if caption[1] > MOST:
        caption = _NOWHERE
    problem = group.problem or picture.problem or wrong
    return Found(
        group.key.decode("utf-8", "replace"),
        group.offset,
        group.end - group.offset,
        start,
        size,
        picture.form,
        min(picture.width, MOST),
        min(picture.height, MOST),
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
        words = content[start : start + size].decode("utf-8-sig").split()
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
