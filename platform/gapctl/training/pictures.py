"""Draw a trial's final embeddings: both clouds in two dimensions.

Index letters: N pairs of the gallery, M texts, D embedding.
"""

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from gapctl.metrics.gap import gap_direction

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Floats = NDArray[np.floating]

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
        _write_count(pen, name, len(cloud_P2), colour)
    pen.text((SIDE / 2, SIDE - 16), "along the gap", fill="black", anchor="mm")
    pen.text((MARGIN, 16), "across it: where both spread most", fill="black", anchor="lm")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _write_count(pen: "ImageDraw", name: str, count: int, colour: tuple[int, int, int]) -> None:
    place = SIDE - MARGIN - 80 * (len(COLOURS) - list(COLOURS).index(name))
    pen.text((place, 16), f"{count:,} {name}", fill=colour, anchor="lm")
