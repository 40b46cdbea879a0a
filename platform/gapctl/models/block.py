"""A pre-norm transformer block of open_clip by hand: attention and feed-forward, each with its pullback.

Index letters: S samples, T tokens of a sample, R = S * T rows, P pooled rows (one of each sample), D channels,
H heads, G = H * S groups, C = D / H channels of a head, J the projections (query, key, value), K keys, Q queries.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gapctl.models.layer import Layer
from gapctl.models.layers import Projections, attention, gelu, layer_norm, linear, residual
from gapctl.models.weight import Weight, Weights

EPSILON = 1e-5
"""open_clip's layer norms leave torch's default."""


class Layout(NamedTuple):
    """How a tower's rows divide: `samples` of equal length, and `heads` that attend apart."""

    samples: int
    heads: int

    def grouped(self, rows_RE: Tensor, parts: int) -> Tensor:
        """Rows of `parts` projections side by side as (parts, G, T, C)."""
        split = rows_RE.view(self.samples, -1, parts, self.heads, rows_RE.shape[1] // (parts * self.heads))
        return split.permute(2, 3, 0, 1, 4).reshape(parts, self.heads * self.samples, split.shape[1], -1)

    def ungrouped(self, parts_NGTC: Tensor) -> Tensor:
        """The inverse of `grouped`: rows with the parts side by side."""
        parts, _, tokens, channels = parts_NGTC.shape
        split = parts_NGTC.view(parts, self.heads, self.samples, tokens, channels)
        return split.permute(2, 3, 0, 1, 4).reshape(self.samples * tokens, -1)


class Pooling(NamedTuple):
    """The one row of each sample that a tower reads in the end, and which keys that row may not attend to."""

    row_P: Tensor
    mask_GK1: Tensor | None


class Block:
    """One residual block, under open_clip's names for its parameters."""

    def __init__(self, weights: Weights, prefix: str) -> None:
        self._weights = weights
        self._prefix = prefix

    def __call__(self, x_RD: Tensor, layout: Layout, mask_KQ: Tensor | None) -> Layer:
        """Every row attends to every row of its sample that `mask_KQ` (added to the scores) leaves."""
        mixed = self._attend(x_RD, layout, mask_KQ)
        return _chain(mixed, self._think(mixed.output))

    def pooled(self, x_RD: Tensor, layout: Layout, pooling: Pooling) -> Layer:
        """The pooled rows alone (P, D), to the same numbers: as the last block's other rows are read by nothing."""
        mixed = self._attend_from(x_RD, layout, pooling)
        return _chain(mixed, self._think(mixed.output))

    def _attend(self, x_RD: Tensor, layout: Layout, mask_KQ: Tensor | None) -> Layer:
        normal = self._normal("ln_1", x_RD)
        joint = linear(normal.output, self._get("attn.in_proj_weight"), self._get("attn.in_proj_bias"))
        joint_3GTC = layout.grouped(joint.output, 3)
        heads = attention(Projections(*joint_3GTC), mask_KQ, x_RD.dtype)
        out = self._linear("attn.out_proj", layout.ungrouped(heads.output_GQC[None]))

        def pullback(grad_RD: Tensor) -> Tensor:
            grad_GQC = layout.grouped(out.pullback(grad_RD.to(out.output.dtype)), 1)[0]
            grad_3GTC = torch.empty_like(joint_3GTC)
            heads.pullback(grad_GQC, Projections(*grad_3GTC))
            return normal.pullback(joint.pullback(layout.ungrouped(grad_3GTC))).add_(grad_RD)

        return Layer(residual(x_RD, out.output), pullback)

    def _attend_from(self, x_RD: Tensor, layout: Layout, pooling: Pooling) -> Layer:
        width = x_RD.shape[1]
        weight, bias = self._get("attn.in_proj_weight"), self._get("attn.in_proj_bias")
        normal = self._normal("ln_1", x_RD)
        query = linear(normal.output.index_select(0, pooling.row_P), weight.rows(0, width), bias.rows(0, width))
        rest = linear(normal.output, weight.rows(width, 3 * width), bias.rows(width, 3 * width))
        query_1GQC, rest_2GKC = layout.grouped(query.output, 1), layout.grouped(rest.output, 2)
        heads = attention(Projections(*query_1GQC, *rest_2GKC), pooling.mask_GK1, x_RD.dtype)
        out = self._linear("attn.out_proj", layout.ungrouped(heads.output_GQC[None]))

        def pullback(grad_PD: Tensor) -> Tensor:
            grad_GQC = layout.grouped(out.pullback(grad_PD.to(out.output.dtype)), 1)[0]
            grad_1GQC, grad_2GKC = torch.empty_like(query_1GQC), torch.empty_like(rest_2GKC)
            heads.pullback(grad_GQC, Projections(*grad_1GQC, *grad_2GKC))
            grad_RD = rest.pullback(layout.ungrouped(grad_2GKC))
            grad_RD[pooling.row_P] += query.pullback(layout.ungrouped(grad_1GQC))
            grad_x_RD = normal.pullback(grad_RD)
            grad_x_RD[pooling.row_P] += grad_PD
            return grad_x_RD

        return Layer(residual(x_RD.index_select(0, pooling.row_P), out.output), pullback)

    def _think(self, x_RD: Tensor) -> Layer:
        normal = self._normal("ln_2", x_RD)
        wide = self._linear("mlp.c_fc", normal.output)
        active = gelu(wide.output)
        narrow = self._linear("mlp.c_proj", active.output)

        def pullback(grad_RD: Tensor) -> Tensor:
            grad = active.pullback(narrow.pullback(grad_RD.to(narrow.output.dtype)))
            return normal.pullback(wide.pullback(grad)).add_(grad_RD)

        return Layer(residual(x_RD, narrow.output), pullback)

    def _normal(self, name: str, x_RD: Tensor) -> Layer:
        """A layer norm whose output has the format of products."""
        gain = self._get(f"{name}.weight")
        normal = layer_norm(x_RD, gain, self._get(f"{name}.bias"), EPSILON)
        return Layer(
            normal.output.to(gain.fast.dtype),
            lambda grad_RD: normal.pullback(grad_RD.to(x_RD.dtype)),
        )

    def _linear(self, name: str, x_RI: Tensor) -> Layer:
        return linear(x_RI, self._get(f"{name}.weight"), self._get(f"{name}.bias"))

    def _get(self, name: str) -> Weight:
        return self._weights[f"{self._prefix}.{name}"]


def _chain(first: Layer, second: Layer) -> Layer:
    return Layer(second.output, lambda grad: first.pullback(second.pullback(grad)))


def causal_mask(tokens: int, like: Tensor) -> Tensor:
    """(K, Q) to add to scores: minus infinity where a key comes after the query."""
    return torch.full((tokens, tokens), float("-inf"), dtype=like.dtype, device=like.device).tril(-1)
