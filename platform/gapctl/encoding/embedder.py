"""The model in one of Ray's actors: batches in, embeddings out.

Index letters: B batch, C channels, H and W pixels, L caption positions, D embedding.
"""

from typing import Any

import numpy as np
import torch

from gapctl.encoding.open_model import open_model
from gapctl.encoding.weights import Weights


class Embedder:
    """Embeds the rows that `read_batches` makes; float32, on one thread of a CPU or on a GPU."""

    def __init__(self, model: str, weights: Weights, device: str) -> None:
        torch.set_num_threads(1)
        self._device = torch.device(device)
        opened = open_model(model, weights)
        self._model = opened.model.to(self._device)
        size = opened.preprocess["size"]
        self._image_shape = (3, *((size, size) if isinstance(size, int) else tuple(size)))

    @torch.no_grad()
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with embeddings (B, D) as bytes in place of its images and tokens."""
        count = len(row["images"]) // (4 * int(np.prod(self._image_shape)))
        images = np.frombuffer(row.pop("images"), np.float32).reshape(count, *self._image_shape)
        tokens = np.frombuffer(row.pop("tokens"), np.int64).reshape(count, -1) if count else None
        if tokens is None:
            return {**row, "image": b"", "text": b""}
        image_BD = self._model.encode_image(self._on_device(images), normalize=True)
        text_BD = self._model.encode_text(self._on_device(tokens), normalize=True)
        return {**row, "image": _bytes(image_BD), "text": _bytes(text_BD)}

    def _on_device(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array.copy()).to(self._device)


def _bytes(embedding_BD: torch.Tensor) -> bytes:
    return embedding_BD.float().cpu().numpy().tobytes()
