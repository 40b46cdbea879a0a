"""Draw a trial's final embeddings: both clouds, and a sheet of held-out pairs with their nearest neighbours.

1. `project_on_gap` brings both clouds into two dimensions; `draw_clouds` draws them.
2. `find_neighbors` finds what is nearest to some images and to their captions; `draw_neighbor_sheet` draws a row for
  each.

The same embeddings give the same picture.

Index letters: N images of the gallery, M texts, D embedding, Q queries (pairs that are drawn), K neighbours of each.
"""

import io
import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.embedding_set import Embeddings, assign_match_keys, normalise_rows
from gapctl.metrics.gap import gap_direction
from gapctl.training.evaluation import GetGalleryPairs

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]
Colour = tuple[int, int, int]

SIDE: Final = 640
MARGIN: Final = 48
"""Pixels of a square picture, and between its edge and the outermost points."""
POINTS: Final = 1_000
"""Points of each cloud at most; more would hide each other."""
COLOURS: Final = {"images": (0, 114, 178), "texts": (213, 94, 0)}
"""Blue and vermilion, which people with any colour vision tell apart."""


def project_on_gap(image_ND: Floats, text_MD: Floats) -> tuple[Floats, Floats]:
    """Return both clouds in two dimensions, (N, 2) and (M, 2), as distances in the space of embeddings.

    The first is the direction from the mean text to the mean image. The second is where the clouds together spread most
    once the first and both means are taken out, its largest coordinate positive.
    """
    image_mean_D, text_mean_D = image_ND.mean(axis=0), text_MD.mean(axis=0)
    gap_D = gap_direction(image_mean_D, text_mean_D)
    spread_PD = np.concatenate([image_ND - image_mean_D, text_MD - text_mean_D])
    spread_PD = spread_PD - np.outer(spread_PD @ gap_D, gap_D)
    _, axes_DD = np.linalg.eigh(spread_PD.T @ spread_PD)
    most_D = axes_DD[:, -1]
    axes_D2 = np.stack([gap_D, most_D * np.sign(most_D[np.argmax(np.abs(most_D))])], axis=1)
    middle_D = (image_mean_D + text_mean_D) / 2
    return (image_ND - middle_D) @ axes_D2, (text_MD - middle_D) @ axes_D2


def draw_clouds(image_ND: Floats, text_MD: Floats) -> bytes:
    """Draw both clouds as PNG, in one scale for both axes: images blue, texts vermilion, the gap from left to right."""
    from PIL import Image, ImageDraw

    clouds = [cloud_P2[:POINTS] for cloud_P2 in project_on_gap(image_ND, text_MD)]
    everything_P2 = np.concatenate(clouds)
    low_2, high_2 = everything_P2.min(axis=0), everything_P2.max(axis=0)
    pixels = (SIDE - 2 * MARGIN) / max(float((high_2 - low_2).max()), 1e-9)
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(picture, "RGBA")
    for (name, colour), cloud_P2 in zip(COLOURS.items(), clouds, strict=True):
        place_P2 = SIDE / 2 + (cloud_P2 - (low_2 + high_2) / 2) * pixels * np.array([1.0, -1.0])
        for x, y in place_P2.tolist():
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(*colour, 110))
        _draw_count(pen, name, len(cloud_P2), colour)
    pen.text((SIDE / 2, SIDE - 16), "along the gap", fill="black", anchor="mm")
    pen.text((MARGIN, 16), "across it: where both spread most", fill="black", anchor="lm")
    return _encode_png(picture)


def _draw_count(pen: "ImageDraw", name: str, count: int, colour: Colour) -> None:
    place = SIDE - MARGIN - 80 * (len(COLOURS) - list(COLOURS).index(name))
    pen.text((place, 16), f"{count:,} {name}", fill=colour, anchor="lm")


def _encode_png(picture: "Picture") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")  # optimize=True takes five times as long, for a tenth fewer bytes
    return buffer.getvalue()


QUERIES: Final = 6
NEIGHBORS: Final = 3
"""Pairs of a sheet, and the neighbours that are shown of each image and of each caption."""
THUMBNAIL: Final = 84
"""Pixels of an image in a sheet: three for each of MAD's. 24 images of noise in 256 colours are below 200 kB."""
GAP: Final = 12
CAPTION_WIDTH: Final = 430
LINE: Final = 21
TEXT_SIZE: Final = 13
RIGHT: Final = (0, 120, 90)
WRONG: Final = (190, 70, 0)
"""Green and vermilion, told apart by everybody, and dark enough to be read as text."""
FONT: Final = ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf")
"""The font file that MLflow's matplotlib brings: it has accents, Greek and Cyrillic, which Pillow's own font lacks."""


class Neighbors(NamedTuple):
    """What is nearest to some pairs: for each one's image texts, and for its text images, the nearest first.

    `place_Q` has the images' places in the gallery, `caption_Q` those of their first captions, `text_QK` and `image_QK`
    the neighbours'. A neighbour is right (`text_right_QK`, `image_right_QK`) if it matches, as in retrieval.
    """

    place_Q: Integers
    caption_Q: Integers
    text_QK: Integers
    text_right_QK: NDArray[np.bool_]
    image_QK: Integers
    image_right_QK: NDArray[np.bool_]


def find_neighbors(embeddings: Embeddings, queries: int = QUERIES, neighbors: int = NEIGHBORS) -> Neighbors:
    """Return the nearest texts and images of pairs that are spread evenly over the gallery, by cosine.

    Of texts with equal captions, only the first counts as a neighbour.
    """
    image_ND, text_MD = normalise_rows(embeddings.image_ND), normalise_rows(embeddings.text_MD)
    image_key_N, text_key_M = assign_match_keys(embeddings)
    place_Q = np.linspace(0, len(image_ND) - 1, min(queries, len(image_ND))).round().astype(np.int64)
    owner_M = np.arange(len(text_MD)) if embeddings.text_to_image_M is None else embeddings.text_to_image_M
    caption_Q = np.argmax(owner_M == place_Q[:, None], axis=1)
    group_M = text_key_M if embeddings.text_to_image_M is None else np.arange(len(text_MD))
    group_M = group_M if embeddings.text_group_M is None else embeddings.text_group_M
    caption_M = np.sort(np.unique(group_M, return_index=True)[1])
    near_QC = np.argsort(-(image_ND[place_Q] @ text_MD[caption_M].T), axis=1, kind="stable")[:, :neighbors]
    text_QK = caption_M[near_QC]
    image_QK = np.argsort(-(text_MD[caption_Q] @ image_ND.T), axis=1, kind="stable")[:, :neighbors]
    text_right_QK = text_key_M[text_QK] == image_key_N[place_Q, None]
    image_right_QK = image_key_N[image_QK] == text_key_M[caption_Q, None]
    return Neighbors(place_Q, caption_Q, text_QK, text_right_QK, image_QK, image_right_QK)


def draw_neighbor_sheet(embeddings: Embeddings, get_pairs: GetGalleryPairs) -> bytes:
    """Draw a sheet of held-out pairs as PNG, a row for each: image, caption, nearest captions, nearest images.

    A neighbour is marked right or wrong by a sign and a colour. Where both sides are images, the nearest second images
    stand in place of captions. `get_pairs` returns images and captions by their places.
    """
    from PIL import Image, ImageDraw

    found = find_neighbors(embeddings)
    images = np.unique(np.concatenate([found.place_Q, found.image_QK.ravel()]))
    texts = np.unique(np.concatenate([found.caption_Q, found.text_QK.ravel()]))
    pairs = get_pairs(images, texts)
    image_slot, text_slot = ({place: number for number, place in enumerate(each.tolist())} for each in (images, texts))
    above = 0 if pairs.second_BHWC is None else LINE
    right_of_captions = 2 * GAP + THUMBNAIL + CAPTION_WIDTH
    width = right_of_captions + NEIGHBORS * (THUMBNAIL + GAP) + GAP
    row_height = THUMBNAIL + above + 2 * GAP
    bottom = 2 * LINE + GAP + row_height * len(found.place_Q)
    picture = Image.new("RGB", (width, bottom + LINE), "white")
    pen = ImageDraw.Draw(picture)
    heads = ("held out", "its caption, and the captions nearest to the image", "images nearest to the caption")
    legend = "has the pair's caption", "has another caption"
    if pairs.second_BHWC is not None:
        heads = ("held out", "its second image, and those nearest to the image", "nearest to the second image")
        legend = "is of the pair", "is of another pair"
    lefts = (GAP, 2 * GAP + THUMBNAIL, right_of_captions + GAP)
    for left, head in zip(lefts, heads, strict=True):
        pen.text((left, LINE), head, "black", _load_font(), anchor="lm")
    for left, words, right in zip(lefts[1:], legend, (True, False), strict=True):
        _draw_mark(pen, (left + 8, bottom), right)
        pen.text((left + 22, bottom), words, RIGHT if right else WRONG, _load_font(), anchor="lm")
    for query, (place, own) in enumerate(zip(found.place_Q.tolist(), found.caption_Q.tolist(), strict=True)):
        top = 2 * LINE + GAP + row_height * query
        pen.line((GAP, top - GAP, width - GAP, top - GAP), (205, 205, 205))
        left, caption = 2 * GAP + THUMBNAIL, pairs.captions[text_slot[own]]
        _paste_image(picture, pairs.image_BHWC[image_slot[place]], (GAP, top + above))
        pen.text((left, top + LINE / 2), _shorten(caption), "black", _load_font(), anchor="lm")
        near = list(zip(found.text_QK[query].tolist(), found.text_right_QK[query].tolist(), strict=True))
        if pairs.second_BHWC is None:
            for number, (text, right) in enumerate(near, 1):
                middle = top + LINE * (number + 0.5)
                _draw_mark(pen, (left + 8, middle), right)
                words = _shorten(pairs.captions[text_slot[text]], CAPTION_WIDTH - 22)
                pen.text((left + 22, middle), words, RIGHT if right else WRONG, _load_font(), anchor="lm")
        else:
            _paste_image(picture, pairs.second_BHWC[text_slot[own]], (left, top + above))
            seconds = [(pairs.second_BHWC[text_slot[text]], right) for text, right in near]
            _paste_neighbors(picture, seconds, (left + THUMBNAIL + 2 * GAP, top + above))
        near_images = zip(found.image_QK[query].tolist(), found.image_right_QK[query].tolist(), strict=True)
        marked = [(pairs.image_BHWC[image_slot[image]], right) for image, right in near_images]
        _paste_neighbors(picture, marked, (right_of_captions + GAP, top + above))
    return _encode_png(_reduce_colours(picture))


def _reduce_colours(picture: "Picture") -> "Picture":
    """Return the picture in 256 colours, among them those of marks and letters, whatever its images have."""
    from PIL import Image

    shades = np.linspace(0, 1, 6)[:, None]
    inks = [(255 * (1 - shades) + shades * np.array(ink)).round().astype(int) for ink in ((0, 0, 0), RIGHT, WRONG)]
    kept = np.concatenate(inks).ravel().tolist()
    others = picture.quantize(256 - len(kept) // 3, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([*kept, *(others or [])])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _paste_neighbors(
    picture: "Picture", marked: Sequence[tuple[NDArray[np.uint8], bool]], place: tuple[int, int]
) -> None:
    """Paste images beside each other, each with its mark below the frame's corner."""
    from PIL import ImageDraw

    pen, (left, top) = ImageDraw.Draw(picture), place
    for number, (image_HWC, right) in enumerate(marked):
        x = left + number * (THUMBNAIL + GAP)
        _paste_image(picture, image_HWC, (x, top))
        pen.rectangle(
            (x - 3, top - 3, x + THUMBNAIL + 2, top + THUMBNAIL + 2), outline=RIGHT if right else WRONG, width=3
        )
        pen.rectangle((x, top, x + 17, top + 17), fill="white")
        _draw_mark(pen, (x + 8, top + 8), right)


def _paste_image(picture: "Picture", image_HWC: NDArray[np.uint8], place: tuple[int, int]) -> None:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(image_HWC))
    resampling = Image.Resampling.LANCZOS if THUMBNAIL % image.width else Image.Resampling.NEAREST
    picture.paste(image.resize((THUMBNAIL, THUMBNAIL), resampling), place)


def _draw_mark(pen: "ImageDraw", middle: tuple[float, float], right: bool) -> None:
    """Draw a tick or a cross of twelve pixels."""
    x, y = middle
    if right:
        pen.line([(x - 6, y), (x - 2, y + 5), (x + 6, y - 5)], RIGHT, 3)
        return
    pen.line([(x - 5, y - 5), (x + 5, y + 5)], WRONG, 3)
    pen.line([(x - 5, y + 5), (x + 5, y - 5)], WRONG, 3)


def _shorten(caption: str, width: int = CAPTION_WIDTH) -> str:
    """Return a caption on one line, cut where it is wider than `width` pixels."""
    words, font = " ".join(caption.split()), _load_font()
    if font.getlength(words) <= width:
        return words
    cut = bisect_right(range(1, len(words)), width, key=lambda end: math.ceil(font.getlength(words[:end] + "…")))
    return words[:cut].rstrip() + "…"


@cache
def _load_font() -> "FreeTypeFont | BitmapFont":
    """Return the font of `FONT`, or Pillow's own where it is missing."""
    from PIL import ImageFont

    package = find_spec(FONT[0])
    files = [Path(folder) / FONT[1] for folder in (package and package.submodule_search_locations) or ()]
    file = next((file for file in files if file.is_file()), None)
    return ImageFont.load_default(TEXT_SIZE) if file is None else ImageFont.truetype(file, TEXT_SIZE)
