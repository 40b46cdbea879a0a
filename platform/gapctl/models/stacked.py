"""The layers that multiply by parameters, for several models of one shape at once.

Numbers are those of `layers`, summed in another order. Rows of all models follow one another, model by model.

Index letters: M models, R = M * Q rows (Q of each model), I and O input and output channels, D channels,
S = M * Z samples, T tokens of a sample, P patches, V vocabulary.
"""

import torch
from torch import Tensor

from gapctl.models.layer import Layer
from gapctl.models.weight import Weight


def by_model(x_RI: Tensor, models: int) -> Tensor:
    """Rows as (M, Q, I)."""
    return x_RI.view(models, -1, x_RI.shape[-1])


def linear(x_RI: Tensor, weight: Weight, bias: Weight) -> Layer:
    """x W^T + b, each row by its model's W (M, O, I) and b (M, O)."""
    x_MQI = by_model(x_RI, weight.models)
    output_MQO = torch.baddbmm(bias.fast.unsqueeze(1), x_MQI, weight.fast.mT)

    def pullback(grad_RO: Tensor) -> Tensor:
        grad_MQO = by_model(grad_RO, weight.models)
        weight.grad.copy_(torch.bmm(grad_MQO.mT, x_MQI))
        bias.grad.copy_(grad_MQO.sum(1))
        return torch.bmm(grad_MQO, weight.fast).flatten(0, 1)

    return Layer(output_MQO.flatten(0, 1), pullback)


def project(x_RI: Tensor, weight: Weight) -> Layer:
    """x W in the master's format, each row by its model's W (M, I, O)."""
    x_MQI = by_model(x_RI, weight.models)

    def pullback(grad_RO: Tensor) -> Tensor:
        grad_MQO = by_model(grad_RO, weight.models)
        weight.grad.copy_(torch.bmm(x_MQI.mT, grad_MQO))
        return torch.bmm(grad_MQO, weight.exact.mT).flatten(0, 1)

    return Layer(torch.bmm(x_MQI, weight.exact).flatten(0, 1), pullback)


def layer_norm(x_RD: Tensor, gain: Weight, bias: Weight, eps: float) -> Layer:
    """Normalised rows times their model's gain plus its bias (M, D), all in the master's format."""
    shape = [x_RD.shape[-1]]
    normal_RD, mean_R1, rstd_R1 = torch.native_layer_norm(x_RD, shape, None, None, eps)
    normal_MQD, gain_M1D = by_model(normal_RD, gain.models), gain.exact.unsqueeze(1)

    def pullback(grad_RD: Tensor) -> Tensor:
        grad_MQD = by_model(grad_RD, gain.models)
        gain.grad.copy_((grad_MQD * normal_MQD).sum(1))
        bias.grad.copy_(grad_MQD.sum(1))
        inner_RD = (grad_MQD * gain_M1D).flatten(0, 1)
        grad_x_RD: Tensor = torch.ops.aten.native_layer_norm_backward(
            inner_RD, x_RD, shape, mean_R1, rstd_R1, None, None, [True, False, False]
        )[0]
        return grad_x_RD

    return Layer(torch.addcmul(bias.exact.unsqueeze(1), normal_MQD, gain_M1D).flatten(0, 1), pullback)


def embed_patches(patch_RI: Tensor, samples: int, convolution: Weight, first: Weight, position: Weight) -> Layer:
    """Rows (S * T, D) of patches behind a class token; the convolution is (M, D, C, H, W)."""
    models = position.models
    patch_MQI, kernel_MDI = by_model(patch_RI, models), convolution.fast.flatten(2)
    x_MZTD = position.exact.unsqueeze(1).repeat(1, samples // models, 1, 1)
    x_MZTD[:, :, 0] += first.exact.unsqueeze(1)
    x_MZTD[:, :, 1:] += torch.bmm(patch_MQI, kernel_MDI.mT).view(models, samples // models, -1, x_MZTD.shape[3])

    def pullback(grad_RD: Tensor) -> Tensor:
        grad_MZTD = grad_RD.view(x_MZTD.shape)
        position.grad.copy_(grad_MZTD.sum(1))
        first.grad.copy_(position.grad[:, 0])
        grad_MQD = grad_MZTD[:, :, 1:].to(patch_RI.dtype).reshape(models, -1, x_MZTD.shape[3])
        convolution.grad.copy_(torch.bmm(grad_MQD.mT, patch_MQI).view(convolution.grad.shape))
        return grad_RD

    return Layer(x_MZTD.view(-1, x_MZTD.shape[3]), pullback)


def embed_tokens(token_ST: Tensor, table: Weight, position: Weight) -> Layer:
    """Rows (S * T, D) of token and position embeddings; the table is (M, V, D)."""
    models, vocabulary, width = table.exact.shape
    tokens = token_ST.shape[1]
    offset_M1 = torch.arange(0, models * vocabulary, vocabulary, device=token_ST.device).unsqueeze(1)
    token_R = (token_ST.reshape(models, -1) + offset_M1).flatten()
    embedded_RD = torch.nn.functional.embedding(token_R, table.exact.reshape(-1, width))
    x_MZTD = embedded_RD.view(models, -1, tokens, width) + position.exact[:, :tokens].unsqueeze(1)

    def pullback(grad_RD: Tensor) -> Tensor:
        position.grad[:, :tokens].copy_(grad_RD.view(x_MZTD.shape).sum(1))
        position.grad[:, tokens:].zero_()
        table.grad.copy_(
            torch.ops.aten.embedding_dense_backward(grad_RD, token_R, models * vocabulary, -1, False).view(
                table.grad.shape
            )
        )
        return grad_RD

    return Layer(x_MZTD.view(-1, width), pullback)
