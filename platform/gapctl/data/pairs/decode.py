"""An image's bytes become pixels of the size that a model takes.

libjpeg-turbo and the resizing through torch, which has it for bytes with the processor's vector units: Pillow takes
almost twice as long to decode a JPEG of 256 pixels, and five times as long to resize it. Its filter is the same, with
its antialiasing; pixels differ by one or two steps of 255.

Index letters: H and W rows and columns, C colours.
"""

import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gapctl.data.pairs.crop import Box
from gapctl.data.pairs.picture_header import picture_header
from gapctl.data.pairs.read_image import convert_to_rgb, open_image, read_image

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]

SCALES: Final = (8, 4)
"""What libjpeg can divide a side by; by 2 it saves less than Pillow, through which it is reached, takes."""
SPARE: Final = 2
"""A scaled JPEG keeps this many times the wanted pixels a side, so that the filter still decides how it looks."""
MOST_OBLONG: Final = 4
"""An evaluation's picture is first cut to this ratio of its sides: resized whole, a strip would be endless."""


class OtherPicture(Exception):  # noqa: N818 - a reason to leave a sample out, no failure
    """The bytes hold no picture of the form and size that the index found."""


def cropped(content: bytes, size: tuple[int, int], box: Box, side: int) -> Pixels:
    """The part `box` of a picture of this width and height, resized to `side` x `side` pixels, as (H, W, C).

    Raises OtherPicture where the header says another size, and ValueError where it cannot be decoded.
    """
    form = _form(content, size)
    scale = _scale(form, min(box.right - box.left, box.bottom - box.top), side)
    if scale > 1:
        return _from_small(content, size, scale, box, side)
    return _resized(_whole(content, form)[box.top : box.bottom, box.left : box.right], (side, side))


def centred(content: bytes, size: tuple[int, int], side: int) -> Pixels:
    """The middle of a picture whose shorter side is made `side`, as evaluations see it; raises as `cropped` does."""
    form, shorter = _form(content, size), min(size)
    width, height = (min(length, MOST_OBLONG * shorter) for length in size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    columns, rows = side * width // shorter, side * height // shorter
    right_of, below = round((columns - side) / 2), round((rows - side) / 2)
    scale = _scale(form, shorter, side)
    if scale > 1:
        across, down = width / columns, height / rows
        corner = left + right_of * across, top + below * down
        return _from_small(content, size, scale, (*corner, corner[0] + side * across, corner[1] + side * down), side)
    part_HWC = _whole(content, form)[top : top + height, left : left + width]
    return _resized(part_HWC, (rows, columns))[below : below + side, right_of : right_of + side]


def _form(content: bytes, size: tuple[int, int]) -> str:
    """What the header says that it is, where it is what the index saw; a bomb is told before it is decoded."""
    found = picture_header(content, 0, len(content))
    if found.problem or (found.width, found.height) != size:
        raise OtherPicture(f"{found.form} of {found.width} x {found.height}, expected {size[0]} x {size[1]}")
    return found.form


def _scale(form: str, shorter: int, side: int) -> int:
    """By how much the sides are divided while decoding."""
    if form != "jpeg":
        return 1
    return next((scale for scale in SCALES if shorter >= scale * SPARE * side), 1)


def _from_small(
    content: bytes, size: tuple[int, int], scale: int, box: tuple[float, float, float, float], side: int
) -> Pixels:
    """A part of a JPEG that is decoded at a part of its size, whose sides need not be whole numbers then."""
    from PIL import Image

    with open_image(content) as opened:
        drafted = opened.draft("RGB", (size[0] // scale, size[1] // scale))
        factor = drafted[1][2] / size[0] if drafted else 1.0
        part = (box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor)
        return np.array(convert_to_rgb(opened).resize((side, side), Image.Resampling.BICUBIC, part))


def _whole(content: bytes, form: str) -> Pixels:
    picture_HWC = _whole_jpeg(content) if form == "jpeg" else None
    if picture_HWC is not None:
        return picture_HWC
    return np.array(read_image(content))


def _whole_jpeg(content: bytes) -> Pixels | None:
    """None where torchvision refuses it, or no longer decodes; Pillow, which gives the same pixels, has the word."""
    import torch

    decode = _jpeg_decoder()
    if decode is None:
        return None
    try:
        picture_CHW = decode(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    except RuntimeError:
        return None
    picture_HWC: Pixels = picture_CHW.permute(1, 2, 0).numpy()
    return picture_HWC


@cache
def _jpeg_decoder() -> "Callable[[Tensor], Tensor] | None":
    """torchvision's, which its makers have announced to take out."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:
        return None
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torchvision\.io")
    return partial(decode_jpeg, mode=ImageReadMode.RGB)


def _resized(picture_HWC: Pixels, size: tuple[int, int]) -> Pixels:
    import torch

    if picture_HWC.shape[:2] == size:
        return picture_HWC
    picture_1CHW = torch.from_numpy(np.ascontiguousarray(picture_HWC)).permute(2, 0, 1)[None]
    resized: Any = torch.ops.aten._upsample_bicubic2d_aa(picture_1CHW, list(size), False)
    resized_HWC: Pixels = resized[0].permute(1, 2, 0).numpy()
    return resized_HWC
