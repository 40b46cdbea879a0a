"""Bytes of images to the numbers that an image tower takes.

Index letters: S images, C colour channels, H and W pixels, N patches of all images, I values of a patch.
"""

import torch
from torch import Tensor

from gapctl.models.towers import patches
from gapctl.spec.presets import Colour


class Pixels:
    """(x / 255 - mean) / std for each colour, as one division and one subtraction."""

    def __init__(self, mean: Colour, std: Colour, device: torch.device) -> None:
        mean_C, std_C = torch.tensor((mean, std), dtype=torch.float64)
        self._divisor_C1 = (255.0 * std_C).float().view(-1, 1).to(device)
        self._offset_C1 = (mean_C / std_C).float().view(-1, 1).to(device)

    def images(self, image_SCHW: Tensor) -> Tensor:
        """uint8 to float32, of the same shape and memory format."""
        return image_SCHW.float().div_(self._divisor_C1.unsqueeze(2)).sub_(self._offset_C1.unsqueeze(2))

    def patches(self, image_SCHW: Tensor, size: int) -> Tensor:
        """Normalised square patches (N, I), cut while they are bytes because those are the fewest to move."""
        patch_NI = patches(image_SCHW, size)
        value_NCP = patch_NI.float().view(len(patch_NI), len(self._divisor_C1), size * size)
        return value_NCP.div_(self._divisor_C1).sub_(self._offset_C1).view(patch_NI.shape)
