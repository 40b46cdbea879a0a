"""Where the members of a tar lie, from its headers alone; nothing is extracted, and links are not followed.

`tarfile` takes fourteen times as long, which would make indexing slower than reading; this holds to the same
formats: ustar, GNU's long names and base-256 sizes, and the extended headers of pax.
"""

from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK: Final = 512
REGULAR: Final = (0x30, 0x00, 0x37)  # "0", NUL, "7"
PAX, PAX_GLOBAL, LONG_NAME, LONG_LINK = 0x78, 0x67, 0x4C, 0x4B  # "x", "g", "L", "K"
MOST_EXTENDED: Final = 1 << 20
"""Bytes of an extended header; a longer one is an attack or damage."""
_ZEROS: Final = bytes(BLOCK)
_GZIP: Final = b"\x1f\x8b"
_CHECKSUM: Final = slice(148, 156)
_DIGITS: Final = b"01234567"


class Content(Protocol):
    """The bytes of a shard: `bytes`, or a file that is mapped into memory."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: slice, /) -> bytes: ...


class Member(NamedTuple):
    """A regular file: where its header begins (its extended ones included), where its content does, and its size."""

    name: bytes
    header: int
    start: int
    size: int


class Walk(NamedTuple):
    """A shard's regular files in order, how many other members it has, and why it ends early, if it does."""

    members: list[Member]
    others: int
    damage: str | None


class _Damage(Exception):  # noqa: N818 - it never leaves this module
    pass


def walk(content: Content) -> Walk:
    """The members up to the end of the tar, or up to the first damage."""
    found = _Walking(content)
    damage: str | None = None
    try:
        found.run()
    except _Damage as error:
        damage = str(error)
    sound = _sound_headers(content, found.headers)
    if sound < len(found.headers):
        broken = found.headers[sound]
        members = [member for member in found.members if member.start <= broken]
        return Walk(
            members, found.others, f"what stands at byte {broken:,} is not a tar header (its checksum is wrong)"
        )
    return Walk(found.members, found.others, damage)


class _Walking:
    """The state of one pass over the headers."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.end = len(content)
        self.headers: list[int] = []
        self.members: list[Member] = []
        self.others = 0

    def run(self) -> None:
        """One loop, without calls for a plain member: it runs forty million times on CC12M."""
        content, end, headers, members = self.content, self.end, self.headers, self.members
        at, first, name, length = 0, 0, b"", -1
        if content[0:2] == _GZIP:
            raise _Damage("it is compressed, and samples in it cannot be found by their place; decompress it")
        while True:
            header = content[at : at + BLOCK]
            if len(header) < BLOCK:
                raise _Damage(f"it ends at byte {end:,} without the blocks of zeros that close a tar")
            if not header[0] and header == _ZEROS:
                return
            size, kind = _size(header, at), header[156]
            headers.append(at)
            start = at + BLOCK
            if start + size > end:
                raise _Damage(f"cut short: a member at byte {at:,} has {size:,} bytes, and the file ends at {end:,}")
            at = start + (size + 511 & -512)
            if kind in REGULAR:
                if length >= 0 and length != size:
                    raise _Damage(f"the member at byte {start - BLOCK:,} has two sizes, {size:,} and {length:,}")
                members.append(Member(name or _name(header), first, start, size))
            elif kind in (PAX, LONG_NAME):
                name, length = self._extended(kind, start, size, name, length)
                continue
            elif kind not in (PAX_GLOBAL, LONG_LINK):
                self.others += 1
            first, name, length = at, b"", -1

    def _extended(self, kind: int, start: int, size: int, name: bytes, length: int) -> tuple[bytes, int]:
        if size > MOST_EXTENDED:
            raise _Damage(f"an extended header of {size:,} bytes at byte {start - BLOCK:,}")
        content = self.content[start : start + size]
        if kind == LONG_NAME:
            return content.rstrip(b"\0"), length
        records = _pax(content, start)
        return records.get(b"path", name), int(records[b"size"]) if b"size" in records else length


def _size(header: bytes, at: int) -> int:
    try:
        size = int(header[124:136].rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        # GNU's base 256, for members beyond 8 GiB; a negative size would lead back and around for ever.
        size = int.from_bytes(header[125:136]) if header[124] == 0x80 else -1
    if size < 0:
        raise _Damage(f"what stands at byte {at:,} is not a tar header")
    return size


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:263] == b"ustar\0":
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


def _pax(content: bytes, start: int) -> dict[bytes, bytes]:
    """The records of an extended header: `length key=value` and a newline, the length counted whole."""
    records, at = {}, 0
    while at < len(content):
        length, _, rest = content[at : at + 20].partition(b" ")
        if not rest or not length.isdigit() or not int(length):
            raise _Damage(f"an extended header at byte {start - BLOCK:,} that cannot be read")
        key, _, value = content[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        records[key] = value
        at += int(length)
    if not records.get(b"size", b"0").isdigit():
        raise _Damage(f"an extended header at byte {start - BLOCK:,} with a size that is no number")
    return records


def _sound_headers(content: Content, headers: list[int]) -> int:
    """How many headers in a row have the checksum that they state: the sum of their bytes, its own field as spaces."""
    if not headers:
        return 0
    whole = len(content) // BLOCK * BLOCK
    blocks: NDArray[np.uint8] = np.frombuffer(content, np.uint8, whole).reshape(-1, BLOCK)  # type: ignore[call-overload]
    rows = blocks[np.asarray(headers) // BLOCK]
    field = rows[:, _CHECKSUM]
    sums = rows.sum(axis=1, dtype=np.uint32) - field.sum(axis=1, dtype=np.uint32) + 8 * 0x20
    wrong = np.flatnonzero(sums != _octal(field))
    return int(wrong[0]) if len(wrong) else len(headers)


def _octal(field_N8: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Checksums as tars state them: six octal digits and NUL, or up to seven with spaces before and after; else -1."""
    usual = field_N8[:, :6].astype(np.int64) - 0x30
    stated = usual @ 8 ** np.arange(5, -1, -1)
    for row in np.flatnonzero((usual < 0).any(axis=1) | (usual > 7).any(axis=1) | (field_N8[:, 6] != 0)):
        text = bytes(field_N8[row]).split(b"\0", 1)[0].strip(b" ")
        stated[row] = int(text, 8) if text and not text.strip(_DIGITS) else -1
    return stated
