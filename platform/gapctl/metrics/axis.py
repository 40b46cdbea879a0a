"""The gap's direction, along which samples lie alike however the embedding is rotated."""

import numpy as np

from gapctl.metrics.gap import Array


def axis_of(image_mean_D: Array, text_mean_D: Array) -> Array:
    """The unit vector from the mean text to the mean image (D,); zeros where there is no gap."""
    difference_D = image_mean_D - text_mean_D
    length = np.linalg.norm(difference_D)
    axis_D: Array = difference_D / length if length > 0 else difference_D
    return axis_D
