"""All images of a split on a device, and colours put on them there: what `render` does, without the way to the host.

Index letters: N digits, V variants, B images, C the channels red, green and blue, H rows, W columns.
"""

import numpy as np
import torch
from torch import Tensor

from gapctl.data.mad.images import Images
from gapctl.data.mad.render import FILL_7C, KEEP_7C

AT_ONCE = 4_096
"""Digits that are copied together, 77 MB with all their variants."""


class DeviceImages:
    """A split's grey images uint8 (N, V, H, W) on a device: 1.1 GB for MNIST's training digits."""

    def __init__(self, images_NVHW: Images, device: torch.device) -> None:
        self._grey_NVHW = torch.empty(images_NVHW.shape, dtype=torch.uint8, device=device)
        digits, variants = images_NVHW.shape[:2]
        for first in range(0, digits, AT_ONCE):
            some = np.arange(first, min(digits, first + AT_ONCE))
            part_NVHW = images_NVHW[some[:, None], np.arange(variants)[None]]
            self._grey_NVHW[first : first + AT_ONCE] = torch.from_numpy(part_NVHW).to(device)
        self._keep_7C, self._fill_7C = (torch.from_numpy(table).to(device) for table in (KEEP_7C, FILL_7C))

    def render(self, digit_B: Tensor, variant_B: Tensor, colour_B: Tensor) -> Tensor:
        """The same bytes as the function `render` gives: uint8 (B, C, H, W)."""
        grey_BHW = self._grey_NVHW[digit_B, variant_B]
        grey_B1P = grey_BHW.flatten(1).unsqueeze(1)
        stroke_B1P = (grey_B1P > 0).to(torch.uint8).mul_(255)
        keep_BC1, fill_BC1 = (table[colour_B].unsqueeze(2) for table in (self._keep_7C, self._fill_7C))
        return ((grey_B1P & keep_BC1) | (stroke_B1P & fill_BC1)).view(len(digit_B), -1, *grey_BHW.shape[1:])
