"""What a sample's text says of its image: a caption on each line, or one caption however many lines it has.

CLIP_benchmark's retrieval shards (COCO, Flickr) put an image's five captions into one `.txt`, one on each line.
img2dataset writes one caption, which may hold a newline that its web page had. Nothing in a file tells the two apart.
"""

import re
from enum import StrEnum
from typing import Final

LINE_ENDS: Final = re.compile(r"\r\n|\r|\n")
"""No others: a form feed or Unicode's separators may stand within a caption."""


class CaptionRule(StrEnum):
    """How a `.txt` with several lines is read."""

    LINES = "lines"
    WHOLE = "whole"


def caption_lines(text: str) -> list[str]:
    """The lines that hold anything, without spaces around them."""
    return [line.strip() for line in LINE_ENDS.split(text) if line.strip()]


def captions_of(text: str, rule: CaptionRule) -> list[str]:
    """The captions of a sample's text; none where it is blank."""
    if rule is CaptionRule.LINES:
        return caption_lines(text)
    return [text.strip()] if text.strip() else []
