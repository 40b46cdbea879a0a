"""An image's bytes become RGB, in one way for training, measuring, checking and resharding.

* Greys of 16 bits are divided by 256.
* What is transparent shows white, as on a page; the colours that the file hides there are not seen.
* CMYK, with Adobe's inversion, becomes RGB without colour profiles.
* Of an animation the first frame is read.
* Pixels stay where the file stores them: an EXIF orientation is not applied. open_clip's loader does the same.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""No other decoder sees a shard's bytes: some of Pillow's start other programs."""
WHITE: Final = (255, 255, 255)
PNG_DEPTH_AT: Final = 24
"""Where a PNG states the bits of a channel."""


def read_image(content: bytes) -> "Image.Image":
    """Decode an image to RGB; raises ValueError where it cannot be read."""
    with open_image(content) as opened:
        return convert_to_rgb(opened)


@contextmanager
def open_image(content: bytes) -> "Iterator[Image.Image]":
    """Open an image by Pillow; raises ValueError where that, or what is done with it, fails."""
    from PIL import Image

    _hush_pillow()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.format == "PNG" and "transparency" in opened.info:
                _rescale_transparent_colour(opened, content[PNG_DEPTH_AT])
            yield opened
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"unreadable image: {error}") from error


def convert_to_rgb(image: "Image.Image") -> "Image.Image":
    """Convert an image of any of Pillow's modes; raises ValueError where Pillow knows no conversion."""
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):  # "I" is what older Pillows make of 16 bits
        return _divide_by_256(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    page = Image.new("RGB", image.size, WHITE)
    page.paste(layered, mask=layered.getchannel("A"))
    return page


def _divide_by_256(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    grey_HW = np.asarray(image).astype(np.int64)
    eight_bits_HW = np.clip(grey_HW // 256, 0, 255).astype(np.uint8)
    if "transparency" in image.info:
        eight_bits_HW[grey_HW == image.info["transparency"]] = WHITE[0]
    return Image.fromarray(eight_bits_HW).convert("RGB")


def _rescale_transparent_colour(opened: "Image.Image", depth: int) -> None:
    """Bring the transparent colour to eight bits a channel, to which Pillow brings the pixels but not this colour."""
    colour = opened.info["transparency"]
    if opened.mode == "L" and depth < 8:
        opened.info["transparency"] = colour * 255 // (2**depth - 1)
    elif opened.mode == "RGB" and depth == 16:
        opened.info["transparency"] = tuple(channel // 256 for channel in colour)


@cache
def _hush_pillow() -> None:
    """Once for the process: filters that come and go with each picture are not safe with several threads."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
