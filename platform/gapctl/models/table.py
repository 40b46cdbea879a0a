"""A model without encoders: an embedding of its own for each factor combination and each caption.

Trained, it ends where the loss ends that no encoder limits (the "unconstrained features model" of the theory).

Index letters: R rows of one side, N rows that are asked for, D embedding.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gapctl.models.losses import SIGLIP_INITIAL_BIAS, LossKind

CENTRING_ROUNDS = 20
"""Rounds of centring and normalisation, after which the mean of a side's rows is 0 to about 1e-6."""


class TableStart(NamedTuple):
    """Where a table begins: its width, the distance of its sides' means, and the initial temperature."""

    embed_dim: int
    gap: float = 0.0
    temperature: float = 0.07
    learned: bool = True
    loss: LossKind = "clip"


class EmbeddingTable(nn.Module):
    """Embeddings of images and captions by number, with a logit scale and, for SigLIP, a bias.

    Rows have any length; only their directions count.
    """

    def __init__(self, image_rows: int, text_rows: int, start: TableStart, seed: int, unseen_rows: int = 0) -> None:
        """Draw the rows of unit length by the seed: images, then captions, with `start.gap` between their means.

        After the captions come `unseen_rows` more that no training shows.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        axis_D = normalize(torch.randn(start.embed_dim, generator=generator), dim=0)
        sides = [
            draw_rows(rows, axis_D, offset, generator)
            for rows, offset in ((image_rows, start.gap / 2), (text_rows, -start.gap / 2))
        ]
        unseen_RD = draw_rows(unseen_rows, axis_D, -start.gap / 2, generator)
        self.image_rows, self.text_rows = nn.Parameter(sides[0]), nn.Parameter(torch.cat([sides[1], unseen_RD]))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / start.temperature)), requires_grad=start.learned)
        self.logit_bias = nn.Parameter(torch.tensor(SIGLIP_INITIAL_BIAS)) if start.loss == "siglip" else None
        self.likelihood_ratios: Tensor | None = None
        """p(caption | image) / p(caption) by row, where a training's targets follow from it."""

    def encode_image(self, number_N: Tensor) -> Tensor:
        """Return unit embeddings (N, D) of images by the number of their factor combination."""
        return normalize(self.image_rows[number_N], dim=-1)

    def encode_text(self, number_N: Tensor) -> Tensor:
        """Return unit embeddings (N, D) of captions by their row."""
        return normalize(self.text_rows[number_N], dim=-1)


def draw_rows(rows: int, axis_D: Tensor, offset: float, generator: torch.Generator) -> Tensor:
    """Draw unit vectors (R, D) whose mean is `offset` times the unit vector `axis_D`.

    In so few dimensions or with so few rows that they cannot be balanced, the mean is only near it.
    """
    rows_RD = torch.randn(rows, len(axis_D), generator=generator)
    for _ in range(CENTRING_ROUNDS):
        rows_RD = rows_RD - rows_RD.mean(dim=0)
        if offset:
            rows_RD = rows_RD - torch.outer(rows_RD @ axis_D, axis_D)
        rows_RD = normalize(rows_RD, dim=-1)
    return math.sqrt(1 - offset**2) * rows_RD + offset * axis_D
