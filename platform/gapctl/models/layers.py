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

from gapctl.models.weight import Weight

Pullback = Callable[[Tensor], Tensor]


class Layer(NamedTuple):
    """What a layer gave, and how a gradient goes back through it."""

    output: Tensor
    pullback: Pullback


class Projections(NamedTuple):
    """Queries (G, Q, C), keys and values (G, K, C) of attention, or their gradients."""

    query_GQC: Tensor
    key_GKC: Tensor
    value_GKC: Tensor


class Attention(NamedTuple):
    """What every query of every group attended to (G, Q, C), and the pullback to its projections."""

    output_GQC: Tensor
    pullback: Callable[[Tensor], Projections]


def linear(x_RI: Tensor, weight: Weight, bias: Weight) -> Layer:
    """x W^T + b for `x_RI` in the format of products."""
    output_RO = torch.addmm(bias.fast, x_RI, weight.fast.t())

    def pullback(grad_RO: Tensor) -> Tensor:
        weight_gradient(grad_RO, x_RI, weight, bias)
        return grad_RO @ weight.fast

    return Layer(output_RO, pullback)


def weight_gradient(grad_RO: Tensor, x_RI: Tensor, weight: Weight, bias: Weight) -> None:
    """The gradients of a linear layer's own parameters."""
    weight.grad.copy_(grad_RO.t() @ x_RI)
    bias.grad.copy_(grad_RO.sum(0))


def layer_norm(x_RD: Tensor, gain: Weight, bias: Weight, eps: float) -> Layer:
    """Normalised rows, all in the master's format."""
    shape = [x_RD.shape[-1]]
    output_RD, mean_R1, rstd_R1 = torch.native_layer_norm(x_RD, shape, gain.exact, bias.exact, eps)

    def pullback(grad_RD: Tensor) -> Tensor:
        grad_x_RD, grad_gain_D, grad_bias_D = torch.ops.aten.native_layer_norm_backward(
            grad_RD, x_RD, shape, mean_R1, rstd_R1, gain.exact, bias.exact, [True, True, True]
        )
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

    def pullback(grad_GQC: Tensor) -> Projections:
        grad_GKQ = torch.bmm(value_GKC, grad_GQC.transpose(1, 2)).to(exact)
        mean_G1Q = (grad_GKQ * share_GKQ).sum(dim=1, keepdim=True)
        grad_GKQ = grad_GKQ.sub_(mean_G1Q).mul_(share_GKQ).mul_(scale).to(value_GKC.dtype)
        return Projections(
            torch.bmm(grad_GKQ.transpose(1, 2), key_GKC),
            torch.bmm(grad_GKQ, query_GQC),
            torch.bmm(fast_share_GKQ, grad_GQC),
        )

    return Attention(torch.bmm(fast_share_GKQ.transpose(1, 2), value_GKC), pullback)
