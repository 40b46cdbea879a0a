"""The model in one of Ray's actors: batches in, embeddings out.

Index letters: B batch, M captions of a batch, C channels, H and W pixels, L caption positions, D embedding.
"""

from typing import Any

import numpy as np
import torch

from gapctl.encoding.open_model import open_model
from gapctl.encoding.read_batches import BATCH
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
        """The row with embeddings (B, D) and (M, D) as bytes in place of its images and tokens.

        Texts are encoded `BATCH` at a time, so that captions of one each are batched as their images are.
        """
        count = len(row["images"]) // (4 * int(np.prod(self._image_shape)))
        images = np.frombuffer(row.pop("images"), np.float32).reshape(count, *self._image_shape)
        tokens, texts = np.frombuffer(row.pop("tokens"), np.int64), row.pop("texts")
        if not count:
            return {**row, "image": b"", "text": b""}
        image_BD = self._model.encode_image(self._on_device(images), normalize=True)
        parts = torch.split(self._on_device(tokens.reshape(texts, -1)), BATCH)
        text_MD = torch.cat([self._model.encode_text(part, normalize=True) for part in parts])
        return {**row, "image": _bytes(image_BD), "text": _bytes(text_MD)}

    def _on_device(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array.copy()).to(self._device)


def _bytes(embedding_BD: torch.Tensor) -> bytes:
    return embedding_BD.float().cpu().numpy().tobytes()
