"""What can be wrong with a sample, in the words of manifests, tables and messages."""

from enum import StrEnum
from typing import Final


class Problem(StrEnum):
    """Why a sample is left out; its value is what a manifest's `problem` column says."""

    NO_IMAGE = "no image"
    NO_CAPTION = "no caption"
    CAPTION_NOT_UTF8 = "caption not UTF-8"
    CAPTION_HUGE = "caption beyond 64 KiB"
    JSON_HUGE = "json beyond 2 GiB"
    HTML = "HTML in place of an image"
    NOT_AN_IMAGE = "not a JPEG, PNG or WebP"
    BOMB = "image beyond 89 megapixels"
    ONE_PIXEL = "image one pixel wide or high"
    ANIMATED = "animated image"
    CMYK = "CMYK image"
    UNREADABLE = "undecodable image"
    ODD_NAME = "member name that leaves the folder"
    TWICE = "member twice"
    APART = "members of one key apart"
    NOT_A_FILE = "link or sparse file in place of a member"
    DUPLICATE = "the same key and image as an earlier sample"


MOST_CAPTION_BYTES: Final = 1 << 16
"""A page of text that was taken for a caption; captions of CC12M end at a few thousand bytes."""
MOST_PIXELS: Final = 89_478_485
"""Pillow's own limit, beyond which it warns of a decompression bomb."""
