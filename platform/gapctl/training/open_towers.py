"""An open_clip model's features as a training step needs them; what DistributedDataParallel wraps.

Index letters: B pairs, C colours, H and W pixels, L caption positions, T positions that are used, D width,
E embedding.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from open_clip.model import CLIP
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize

from gapctl.training.precision import Resolved


class TowerOutputs(NamedTuple):
    """L2-normalised features (B, E) in the parameters' format, and the loss's scalars as outputs like them.

    Being outputs, the scalars get their gradients where the features do.
    """

    image_BE: Tensor
    text_BE: Tensor
    scalars: tuple[Tensor, ...]


class OpenTowers(nn.Module):
    """Both towers and the loss's scalars, bfloat16 by autocast where asked."""

    def __init__(self, model: CLIP, precision: Resolved, *, compiled: bool) -> None:
        super().__init__()
        self.model = model
        self._precision = precision
        self._image: Callable[[Tensor], Tensor] = self._encode_image
        self._text: Callable[[Tensor], Tensor] = self._encode_text
        if compiled:  # each by itself, so that one's gradients travel while the other's are computed
            self._image = torch.compile(self._encode_image, dynamic=False)
            self._text = torch.compile(self._encode_text, dynamic=False)

    def forward(self, image_BCHW: Tensor, token_BT: Tensor) -> TowerOutputs:
        """Of normalised images and tokens that may be cut after the longest caption."""
        device = self.model.logit_scale.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._precision == "bfloat16"):
            image_BE, text_BE = self._image(image_BCHW), self._text(token_BT)
        scalars = (self.model.logit_scale, self.model.logit_bias)
        return TowerOutputs(
            self._unit(image_BE), self._unit(text_BE), tuple(value.clone() for value in scalars if value is not None)
        )

    def used(self, token_BL: Tensor) -> Tensor:
        """Captions up to the longest one's end, which is all that a causal text tower sees; reads `token_BL`."""
        if self.model.attn_mask is None:
            return token_BL
        last = int(_ends(self.model, token_BL).max())
        return token_BL[:, : last + 1]

    def _unit(self, feature_BE: Tensor) -> Tensor:
        return normalize(feature_BE.to(self.model.logit_scale.dtype), dim=-1)

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        feature_BE: Tensor = self.model.encode_image(image_BCHW)
        return feature_BE

    def _encode_text(self, token_BT: Tensor) -> Tensor:
        """What open_clip's `encode_text` gives, of captions that may be cut."""
        model, tokens = self.model, token_BT.shape[1]
        mask_TT = None if model.attn_mask is None else model.attn_mask[:tokens, :tokens]
        x_BTD = model.token_embedding(token_BT) + model.positional_embedding[:tokens]
        x_BTD = model.ln_final(model.transformer(x_BTD, attn_mask=mask_TT))
        x_BD: Tensor = text_global_pool(x_BTD, token_BT, model.text_pool_type, model.text_eos_id)
        if isinstance(model.text_projection, nn.Linear):
            projected_BE: Tensor = model.text_projection(x_BD)
            return projected_BE
        return x_BD if model.text_projection is None else x_BD @ model.text_projection


def _ends(model: CLIP, token_BL: Tensor) -> Tensor:
    """Where each caption is pooled (B)."""
    return ((token_BL == model.text_eos_id).int() if model.text_pool_type == "eos" else token_BL).argmax(dim=1)
