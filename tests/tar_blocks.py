"""Tars put together block by block, for what no tool writes on purpose."""

import io
import tarfile
from collections.abc import Iterable, Mapping

from pair_shards import pair

BLOCK = 512
END = bytes(2 * BLOCK)


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header with the right checksum and any bytes for a size."""
    block = bytearray(BLOCK)
    for start, field in ((0, name), (100, b"0000644\0"), (124, size), (156, kind), (257, b"ustar\x0000")):
        block[start : start + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name: str, content: bytes, kind: bytes = b"0") -> bytes:
    """A header and its content, filled up to whole blocks."""
    return header(name.encode(), b"%011o\0" % len(content), kind) + content + bytes(-len(content) % BLOCK)


def sample(number: int, parts: Iterable[str] = ("jpg", "txt", "json")) -> bytes:
    """The members of one sample."""
    members = pair(number)
    return b"".join(member(f"{number:06d}.{ending}", members[ending]) for ending in parts)


def samples(numbers: Iterable[int]) -> bytes:
    """Samples without the zeros that close a tar."""
    return b"".join(map(sample, numbers))


def tar_of(members: Mapping[str, bytes]) -> bytes:
    """A tar of members by their names, as Python writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def pax_record(key: bytes, value: bytes) -> bytes:
    """A record of an extended header, its length counted whole."""
    length = rest = len(key) + len(value) + 3
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)
