"""Draw a sheet of MAD images with their captions, to show what a trial is trained on."""

import re
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import MadData
from gapctl.data.mad.captions import format_captions
from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.images import GENERATION_SEEDS, VariantImages, compose_coloured_images, load_variant_images
from gapctl.data.mad.sampler import MadSampler
from gapctl.data.mad.source import read_source_description

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

_ENLARGEMENT: Final = 5
_SIDE: Final = 28 * _ENLARGEMENT
_MARGIN: Final = 12
_FONT_SIZE: Final = 14
_LINE_HEIGHT: Final = 18
_CELL_WIDTH: Final = _SIDE + 2 * _MARGIN
_WIDEST_LINE: Final = _SIDE + _MARGIN // 2
_PAPER: Final = (255, 255, 255)
_INK: Final = (25, 25, 25)


def draw_contact_sheet(source: str, about: MadData, columns: int, rows: int, seed: int) -> "Image":
    """Return the first columns x rows training samples of a seed, enlarged, each above its caption.

    Only these images are generated. Raise InputError for a wrong source.
    """
    from PIL import Image, ImageDraw, ImageFont

    images, captions = _draw_first_samples(source, about, columns * rows, seed)
    font = ImageFont.load_default(_FONT_SIZE)
    texts = [_wrap_caption(caption, font) for caption in captions]
    cell_height = _SIDE + 2 * _MARGIN + max(map(len, texts)) * _LINE_HEIGHT
    sheet = Image.new("RGB", (columns * _CELL_WIDTH, rows * cell_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        left = number % columns * _CELL_WIDTH + _MARGIN
        top = number // columns * cell_height + _MARGIN
        picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        sheet.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.NEAREST), (left, top))
        for line, words in enumerate(text):
            draw.text((left, top + _SIDE + 4 + line * _LINE_HEIGHT), words, font=font, fill=_INK)
    return sheet


def _draw_first_samples(source: str, about: MadData, count: int, seed: int) -> tuple[NDArray[np.uint8], list[str]]:
    from gapctl.data.mad.morphology import apply_variants_to_digits

    images_NVHW: VariantImages
    if read_source_description(source) is None:
        digits = load_digits(source, "train")
        samples = MadSampler(seed, digits.labels_N, about).samples(np.arange(count))
        shown, place_B = np.unique(samples.digit_B, return_inverse=True)
        key = GENERATION_SEEDS["train"]
        images_NVHW = np.stack(
            [apply_variants_to_digits(digits.images_NHW[at : at + 1], int(at), key)[0] for at in shown]
        )
    else:
        split = load_variant_images(source, "train")
        samples = MadSampler(seed, split.digit_labels_N, about).samples(np.arange(count))
        images_NVHW, place_B = split.images_NVHW, samples.digit_B
    images = compose_coloured_images(images_NVHW, place_B, samples.variant_B, samples.colour_B)
    return images, format_captions(samples.tokens_BL)


def _wrap_caption(caption: str, font: "FreeTypeFont | ImageFont") -> list[str]:
    """Break a caption after its hyphens into lines about as wide as a picture."""
    lines = [""]
    for piece in re.findall("[^-]+-?", caption):
        if lines[-1] and font.getlength(lines[-1] + piece) > _WIDEST_LINE:
            lines.append("")
        lines[-1] += piece
    return lines
