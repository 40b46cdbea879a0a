"""An image's size and form from its first bytes, without decoding it; Pillow's headers take eleven times as long."""

from typing import Final, NamedTuple

from gapctl.data.pairs.members import Content
from gapctl.data.pairs.problems import MOST_PIXELS, Problem

_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Picture(NamedTuple):
    """`form` is empty, and the sizes 0, where nothing is known; `problem` says why it is no training image."""

    form: str
    width: int
    height: int
    problem: Problem | None


def picture_header(content: Content, start: int, end: int) -> Picture:
    """What the bytes from `start` to `end` say they are."""
    head = content[start : min(end, start + 64)]
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg(content, start, end)
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 33:
        size = int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
        return _judged("png", *size, b"acTL" in content[start : min(end, start + 4096)])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _webp(head)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return Picture("", 0, 0, Problem.HTML if text[:1] == b"<" else Problem.NOT_AN_IMAGE)


def _judged(form: str, width: int, height: int, animated: bool = False, cmyk: bool = False) -> Picture:
    problem = None
    if not width or not height:
        problem = Problem.UNREADABLE
    elif width * height > MOST_PIXELS:
        problem = Problem.BOMB
    elif width == 1 or height == 1:
        problem = Problem.ONE_PIXEL
    elif animated or cmyk:
        problem = Problem.ANIMATED if animated else Problem.CMYK
    return Picture(form, width, height, problem)


def _jpeg(content: Content, start: int, end: int) -> Picture:
    at = start + 2
    while at + 10 <= end:
        segment = content[at : at + 10]
        if segment[0] != 0xFF:
            break
        marker = segment[1]
        if marker in _FRAMES:
            height, width = segment[5] << 8 | segment[6], segment[7] << 8 | segment[8]
            return _judged("jpeg", width, height, cmyk=segment[9] == 4)
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + max(2, segment[2] << 8 | segment[3])
    return Picture("jpeg", 0, 0, Problem.UNREADABLE)


def _webp(head: bytes) -> Picture:
    form, bits = head[12:16], head[20:30]
    if len(bits) < 10:
        return Picture("webp", 0, 0, Problem.UNREADABLE)
    if form == b"VP8X":
        size = 1 + int.from_bytes(bits[4:7], "little"), 1 + int.from_bytes(bits[7:10], "little")
        return _judged("webp", *size, animated=bool(bits[0] & 0x02))
    if form == b"VP8L":
        packed = int.from_bytes(bits[1:5], "little")
        return _judged("webp", 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
    if form == b"VP8 ":
        size = int.from_bytes(bits[6:8], "little") & 0x3FFF, int.from_bytes(bits[8:10], "little") & 0x3FFF
        return _judged("webp", *size)
    return Picture("webp", 0, 0, Problem.UNREADABLE)
