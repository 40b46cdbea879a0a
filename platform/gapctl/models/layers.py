"""A transformer's layers, each giving its output and its pullback: output gradient in, input gradient out.

A pullback writes its weights' gradients on the way and may be called once. Products run in the number format of
`Weight.fast`; layer norms, softmax and the residual stream keep the master's format. Written by hand because
autograd on a small model spends its time between the products: on casts, copies and masks that nothing needs.

Index letters: R rows (tokens of all samples), I and O input and output channels, D channels, G groups (a head of a
sample), K keys, Q queries, C channels of a head.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gapctl.models import stacked
from gapctl.models.layer import Layer
from gapctl.models.weight import Weight


class Projections(NamedTuple):
    """Queries (G, Q, C), keys and values (G, K, C) of attention, or where their gradients go."""

    query_GQC: Tensor
    key_GKC: Tensor
    value_GKC: Tensor


class Attention(NamedTuple):
    """What every query of every group attended to (G, Q, C), and a pullback that fills its projections' gradients."""

    output_GQC: Tensor
    pullback: Callable[[Tensor, Projections], None]


def linear(x_RI: Tensor, weight: Weight, bias: Weight) -> Layer:
    """x W^T + b for `x_RI` in the format of products."""
    if weight.stacked:
        return stacked.linear(x_RI, weight, bias)
    output_RO = _affine(x_RI, weight.fast, bias.fast)

    def pullback(grad_RO: Tensor) -> Tensor:
        weight.grad.copy_(_outer(grad_RO, x_RI))
        bias.grad.copy_(grad_RO.sum(0))
        return grad_RO @ weight.fast

    return Layer(output_RO, pullback)


def _affine(x_RI: Tensor, weight_OI: Tensor, bias_O: Tensor) -> Tensor:
    """oneDNN adds the bias within a bfloat16 product; addmm first writes it to every row, a tenth of the time."""
    if x_RI.dtype == torch.bfloat16 and x_RI.device.type == "cpu" and torch._C._has_mkldnn:
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x_RI, weight_OI, bias_O, "none", [], "")
        return fused
    return torch.addmm(bias_O, x_RI, weight_OI.t())


def _outer(grad_RO: Tensor, x_RI: Tensor) -> Tensor:
    """A weight's gradient (O, I), with the longer side first in the product, which is the faster way round."""
    if x_RI.shape[1] > grad_RO.shape[1]:
        return (x_RI.t() @ grad_RO).t()
    return grad_RO.t() @ x_RI


def project(x_RI: Tensor, weight: Weight) -> Layer:
    """x W in the master's format."""
    if weight.stacked:
        return stacked.project(x_RI, weight)

    def pullback(grad_RO: Tensor) -> Tensor:
        torch.mm(x_RI.t(), grad_RO, out=weight.grad)
        return grad_RO @ weight.exact.t()

    return Layer(x_RI @ weight.exact, pullback)


def residual(x_RD: Tensor, branch_RD: Tensor) -> Tensor:
    """x + branch in the format of x; a cast and an addition in place are faster than one mixed addition."""
    if branch_RD.dtype == x_RD.dtype:
        return x_RD + branch_RD
    return branch_RD.to(x_RD.dtype).add_(x_RD)


def layer_norm(x_RD: Tensor, gain: Weight, bias: Weight, eps: float) -> Layer:
    """Normalised rows, all in the master's format."""
    if gain.stacked:
        return stacked.layer_norm(x_RD, gain, bias, eps)
    shape = [x_RD.shape[-1]]
    output_RD, mean_R1, rstd_R1 = torch.native_layer_norm(x_RD, shape, gain.exact, bias.exact, eps)

    def pullback(grad_RD: Tensor) -> Tensor:
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
            grad_RD, x_RD, shape, mean_R1, rstd_R1, gain.exact, bias.exact, [True, True, True]
        )
        grad_x_RD, grad_gain_D, grad_bias_D = gradients
        gain.grad.copy_(grad_gain_D)
        bias.grad.copy_(grad_bias_D)
        return grad_x_RD

    return Layer(output_RD, pullback)


def gelu(x_RD: Tensor) -> Layer:
    """The exact GELU, by the error function."""
    return Layer(
        torch.nn.functional.gelu(x_RD),
        lambda grad_RD: torch.ops.aten.gelu_backward(grad_RD, x_RD),
    )


def attention(projections: Projections, mask_GKQ: Tensor | None, exact: torch.dtype) -> Attention:
    """Softmax attention, the softmax in the format `exact`.

    `mask_GKQ` is added to the scores and broadcasts over them. Scores have keys before queries: a CPU's softmax over
    the middle of three dimensions runs at twice the speed of one over the last when sequences are short.
    """
    query_GQC, key_GKC, value_GKC = projections
    scale = query_GQC.shape[-1] ** -0.5
    score_GKQ = torch.bmm(key_GKC, query_GQC.transpose(1, 2)).to(exact).mul_(scale)
    if mask_GKQ is not None:
        score_GKQ.add_(mask_GKQ)
    share_GKQ = score_GKQ.softmax(dim=1)
    fast_share_GKQ = share_GKQ.to(value_GKC.dtype)

    def pullback(grad_GQC: Tensor, into: Projections) -> None:
        grad_GKQ = torch.bmm(value_GKC, grad_GQC.transpose(1, 2)).to(exact)
        mean_G1Q = (grad_GKQ * share_GKQ).sum(dim=1, keepdim=True)
        grad_GKQ = grad_GKQ.sub_(mean_G1Q).mul_(share_GKQ).mul_(scale).to(value_GKC.dtype)
        torch.bmm(grad_GKQ.transpose(1, 2), key_GKC, out=into.query_GQC)
        torch.bmm(grad_GKQ, query_GQC, out=into.key_GKC)
        torch.bmm(fast_share_GKQ, grad_GQC, out=into.value_GKC)

    return Attention(torch.bmm(fast_share_GKQ.transpose(1, 2), value_GKC), pullback)
