"""What training asks of a split's images: a shape, and the images of given digits in given variants."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Images(Protocol):
    """Images uint8 (N, 24, 28, 28): an array, or the mapped files of a folder of shards."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Digits, variants, rows and columns."""

    def __getitem__(self, index: tuple[NDArray[np.int64], NDArray[np.int64]], /) -> Any:
        """The images of digits and variants, given as two arrays of one shape."""

    def __len__(self) -> int:
        """How many digits there are."""
