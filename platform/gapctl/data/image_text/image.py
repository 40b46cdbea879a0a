"""Decode an image's bytes to RGB, in one way for training, measuring, checking and resharding.

* 16-bit greys are divided by 256.
* Transparent areas become white, as on a page; the colours that the file hides there are not seen.
* CMYK, with Adobe's inversion, becomes RGB without colour profiles.
* Of an animation the first frame is read.
* Pixels stay where the file stores them: an EXIF orientation is not applied. open_clip's loader does the same.

`crop_and_resize` and `crop_centre` decode large JPEGs at a fraction of their size, by torchvision where it can.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.data.image_text.tar import parse_image_header
from gapctl.data.rng import Purpose, make_generator

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

IMAGE_FORMATS: Final = ("JPEG", "PNG", "WEBP")
"""The decoders that may see a shard's bytes; some others of Pillow's start programs."""
WHITE: Final = (255, 255, 255)
PNG_DEPTH_OFFSET: Final = 24
"""Offset of the bits per channel in a PNG."""

ASPECT_RATIOS: Final = (3 / 4, 4 / 3)
CROP_TRIES: Final = 10
PixelArray = NDArray[np.uint8]

JPEG_SCALES: Final = (8, 4)
"""Divisors of the sides in libjpeg. A division by 2 would save less than reaching it through Pillow costs."""
MIN_OVERSAMPLING: Final = 2
"""Least ratio of a scaled JPEG's sides to the wanted sides, so that the resize filter still determines the pixels."""
MAX_ASPECT_RATIO: Final = 4
"""Aspect ratio to which an evaluation's picture is first cut; a strip resized as a whole would be extremely long."""


class CropBox(NamedTuple):
    """A part of a picture in pixels; `right` and `bottom` are the first pixels beyond it."""

    left: int
    top: int
    right: int
    bottom: int


class ImageMismatch(Exception):  # noqa: N818 - a reason to leave a sample out, no failure
    """Raised for bytes that are not a picture of the format and size in the index."""


def crop_and_resize(content: bytes, size: tuple[int, int], box: CropBox, side: int) -> PixelArray:
    """Return the part `box` of a picture of this width and height, resized to (side, side, C).

    Raise ImageMismatch if the header has another size, and ValueError if the picture cannot be decoded.
    """
    form = _check_header(content, size)
    scale = _choose_decoding_divisor(form, min(box.right - box.left, box.bottom - box.top), side)
    if scale > 1:
        return _decode_scaled(content, size, scale, box, side)
    return _resize_pixels(_decode_whole(content, form)[box.top : box.bottom, box.left : box.right], (side, side))


def crop_centre(content: bytes, size: tuple[int, int], side: int) -> PixelArray:
    """Return the centre of a picture whose shorter side is resized to `side`, as in open_clip's evaluation.

    Raise as `crop_and_resize` does.
    """
    form, shorter = _check_header(content, size), min(size)
    width, height = (min(length, MAX_ASPECT_RATIO * shorter) for length in size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    columns, rows = side * width // shorter, side * height // shorter
    right_of, below = round((columns - side) / 2), round((rows - side) / 2)
    scale = _choose_decoding_divisor(form, shorter, side)
    if scale > 1:
        across, down = width / columns, height / rows
        corner = left + right_of * across, top + below * down
        return _decode_scaled(content, size, scale, (*corner, corner[0] + side * across, corner[1] + side * down), side)
    part_HWC = _decode_whole(content, form)[top : top + height, left : left + width]
    return _resize_pixels(part_HWC, (rows, columns))[below : below + side, right_of : right_of + side]


class Resizing(NamedTuple):
    """open_clip's settings of held-out images: `shortest` side and centre, or `squash`; `bicubic` or `bilinear`."""

    mode: str
    interpolation: str


def resize_as_open_clip(content: bytes, size: tuple[int, int], side: int, resizing: Resizing) -> PixelArray:
    """Return a picture (side, side, C) as open_clip's own transform of held-out images makes it, by Pillow.

    Raise as `crop_and_resize` does.
    """
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, resize

    _check_header(content, size)
    mode = InterpolationMode(resizing.interpolation)
    to = [side, side] if resizing.mode == "squash" else side
    resized = resize(decode_rgb_image(content), to, interpolation=mode)
    return np.array(resized if resizing.mode == "squash" else center_crop(resized, [side, side]))


def _check_header(content: bytes, size: tuple[int, int]) -> str:
    """Return the header if it agrees with the index; this refuses a decompression bomb before decoding."""
    header = parse_image_header(content, 0, len(content))
    if header.problem or (header.width, header.height) != size:
        raise ImageMismatch(f"{header.form} of {header.width} x {header.height}, expected {size[0]} x {size[1]}")
    return header.form


def _choose_decoding_divisor(form: str, shorter: int, side: int) -> int:
    """Return the divisor of the sides while decoding."""
    if form != "jpeg":
        return 1
    return next((scale for scale in JPEG_SCALES if shorter >= scale * MIN_OVERSAMPLING * side), 1)


def _decode_scaled(
    content: bytes, size: tuple[int, int], scale: int, box: tuple[float, float, float, float], side: int
) -> PixelArray:
    """Return a box of a JPEG decoded at a fraction of its size, where the box's sides need not be whole numbers."""
    from PIL import Image

    with open_image(content) as opened:
        drafted = opened.draft("RGB", (size[0] // scale, size[1] // scale))
        factor = drafted[1][2] / size[0] if drafted else 1.0
        part = (box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor)
        return np.array(convert_to_rgb(opened).resize((side, side), Image.Resampling.BICUBIC, part))


def _decode_whole(content: bytes, form: str) -> PixelArray:
    import torch

    # Pillow gives the same pixels, and reports the error of a JPEG that torchvision refuses.
    if form == "jpeg" and (decode := _find_jpeg_decoder()) is not None:
        with suppress(RuntimeError):
            picture_CHW = decode(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            return np.asarray(picture_CHW.permute(1, 2, 0).numpy())
    return np.array(decode_rgb_image(content))


@cache
def _find_jpeg_decoder() -> "Callable[[Tensor], Tensor] | None":
    """Return torchvision's decoder if it exists; its makers have announced its removal."""
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:
        return None
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torchvision\.io")
    return partial(decode_jpeg, mode=ImageReadMode.RGB)


def _resize_pixels(picture_HWC: PixelArray, size: tuple[int, int]) -> PixelArray:
    import torch

    if picture_HWC.shape[:2] == size:
        return picture_HWC
    # With the axis in front before the others change places torch sees that colours come last, and returns them so.
    picture_1CHW = torch.from_numpy(np.ascontiguousarray(picture_HWC))[None].permute(0, 3, 1, 2)
    resized_1CHW: Tensor = torch.ops.aten._upsample_bicubic2d_aa(picture_1CHW, list(size), False)
    return np.asarray(resized_1CHW[0].permute(1, 2, 0).numpy())


def sample_crop_boxes(
    size_N2: NDArray[np.int32], scale: tuple[float, float], seed: int, epoch: int, sample_N: NDArray[np.int64]
) -> list[CropBox]:
    """Draw a box for each picture of this width and height, a pure function of (sample, seed, epoch).

    The area is uniform in `scale` (shares of the picture's), the ratio of width to height log-uniform from 3/4 to 4/3,
    the place uniform. After ten tries that do not fit, it is the middle of the picture, cut to the nearest ratio.
    """
    numbers = 2 * CROP_TRIES + 2
    draw_ND = np.stack([make_generator(Purpose.CROP, seed, epoch, int(sample)).random(numbers) for sample in sample_N])
    area_N1 = size_N2.prod(axis=1, dtype=np.float64)[:, None]
    area_NT = area_N1 * (scale[0] + (scale[1] - scale[0]) * draw_ND[:, :CROP_TRIES])
    ratio_NT = np.exp(_LOG_LOW + (_LOG_HIGH - _LOG_LOW) * draw_ND[:, CROP_TRIES : 2 * CROP_TRIES])
    side_NT2 = np.rint(np.sqrt(np.stack([area_NT * ratio_NT, area_NT / ratio_NT], axis=2))).astype(np.int64)
    fits_NT = ((side_NT2 > 0) & (side_NT2 <= size_N2[:, None])).all(axis=2)
    every_N = np.arange(len(size_N2))
    side_N2 = np.where(
        fits_NT.any(axis=1)[:, None], side_NT2[every_N, fits_NT.argmax(axis=1)], _fit_nearest_ratio(size_N2)
    )
    free_N2 = size_N2 - side_N2
    corner_N2 = np.where(
        fits_NT.any(axis=1)[:, None], (draw_ND[:, 2 * CROP_TRIES :] * (free_N2 + 1)).astype(np.int64), free_N2 // 2
    )
    return [
        CropBox(*corner, *end) for corner, end in zip(corner_N2.tolist(), (corner_N2 + side_N2).tolist(), strict=True)
    ]


def _fit_nearest_ratio(size_N2: NDArray[np.int32]) -> NDArray[np.int64]:
    width_N, height_N = size_N2.T.astype(np.float64)
    wide_N = np.minimum(width_N, np.rint(height_N * ASPECT_RATIOS[1]))
    high_N = np.minimum(height_N, np.rint(width_N / ASPECT_RATIOS[0]))
    side_N2: NDArray[np.int64] = np.maximum(1, np.stack([wide_N, high_N], axis=1)).astype(np.int64)
    return side_N2


def decode_rgb_image(content: bytes) -> "Image.Image":
    """Decode an image to RGB. Raise ValueError if it cannot be read."""
    with open_image(content) as opened:
        return convert_to_rgb(opened)


@contextmanager
def open_image(content: bytes) -> "Iterator[Image.Image]":
    """Open an image by Pillow. Raise ValueError if opening or its use in the context fails."""
    from PIL import Image

    _silence_pillow()
    try:
        with Image.open(io.BytesIO(content), formats=IMAGE_FORMATS) as opened:
            if opened.format == "PNG" and "transparency" in opened.info:
                _rescale_transparent_colour(opened, content[PNG_DEPTH_OFFSET])
            yield opened
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"unreadable image: {error}") from error


def convert_to_rgb(image: "Image.Image") -> "Image.Image":
    """Convert an image of any of Pillow's modes. Raise ValueError if Pillow has no conversion."""
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):  # "I" is what older Pillows make of 16 bits
        grey_HW = np.asarray(image).astype(np.int64)
        eight_bits_HW = np.clip(grey_HW // 256, 0, 255).astype(np.uint8)
        if "transparency" in image.info:
            eight_bits_HW[grey_HW == image.info["transparency"]] = WHITE[0]
        return Image.fromarray(eight_bits_HW).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layered = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    page = Image.new("RGB", image.size, WHITE)
    page.paste(layered, mask=layered.getchannel("A"))
    return page


def _rescale_transparent_colour(opened: "Image.Image", depth: int) -> None:
    """Scale the transparent colour to eight bits per channel; Pillow scales the pixels but not this colour."""
    colour = opened.info["transparency"]
    if opened.mode == "L" and depth < 8:
        opened.info["transparency"] = colour * 255 // (2**depth - 1)
    elif opened.mode == "RGB" and depth == 16:
        opened.info["transparency"] = tuple(channel // 256 for channel in colour)


@cache
def _silence_pillow() -> None:
    """Silence Pillow's warnings once for the process; filters set and reset per picture are not thread-safe."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


_LOG_LOW, _LOG_HIGH = math.log(ASPECT_RATIOS[0]), math.log(ASPECT_RATIOS[1])
