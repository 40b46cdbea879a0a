"""Both towers of an open_clip CLIP with their backward passes by hand, on the model's own parameters.

They give what `encode_image` and `encode_text` give before normalisation and its gradient for every parameter,
and leave out what cannot influence it: the rows of a tower's last block that nothing reads, and padding after a
caption's end, which causal attention hides. Where the parameters of several models are stacked, samples come model
by model.

Index letters: S samples, C colour channels, H and W pixels, P patches of an image, I values of a patch, L caption
positions, T tokens of a sample, R = S * T rows, V tokens of the vocabulary, D width, E embedding, K keys, G groups (a
head of a sample).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gapctl.models import stacked
from gapctl.models.block import EPSILON, Block, Layout, Pooling, causal_mask
from gapctl.models.layer import Layer, Pullback
from gapctl.models.layers import layer_norm, project
from gapctl.models.weight import Weights
from gapctl.spec.presets import PatchTower, Tower


class Captions(NamedTuple):
    """Token ids (S, T) up to the longest caption's end, and where each caption ends (S)."""

    token_ST: Tensor
    end_S: Tensor


def cut_captions(token_SL: Tensor, end: int, *, whole: bool = False) -> Captions:
    """Without the padding that all captions share, or with it (`whole`); each must hold the token `end`."""
    end_S = (token_SL == end).int().argmax(dim=1)
    if whole:
        return Captions(token_SL, end_S)
    return Captions(token_SL[:, : int(end_S.max()) + 1], end_S)


def patches(image_SCHW: Tensor, size: int) -> Tensor:
    """Square patches row by row as (S * P, I), their values in a convolution's order; the format stays."""
    samples, colours, height, width = image_SCHW.shape
    grid = image_SCHW.view(samples, colours, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, colours * size * size)


class ImageTower:
    """open_clip's VisionTransformer with a class token, pooled there; `name` is what a model calls it."""

    def __init__(self, weights: Weights, tower: PatchTower, name: str = "visual") -> None:
        start = f"{name}."
        self._weights = {key.removeprefix(start): found for key, found in weights.items() if key.startswith(start)}
        self._tower = tower
        self._blocks = _blocks(self._weights, "transformer", tower.layers)

    def __call__(self, patch_NI: Tensor) -> Layer:
        """Embeddings (S, E) of the images whose patches these are, in the format of products."""
        tokens = self._tower.tokens
        samples = len(patch_NI) // (tokens - 1)
        embedded = self._embed(patch_NI, samples)
        gain, bias = self._weights["ln_pre.weight"], self._weights["ln_pre.bias"]
        normal = layer_norm(embedded.output, gain, bias, EPSILON)
        row_S = torch.arange(0, samples * tokens, tokens, device=patch_NI.device)
        pullbacks = [embedded.pullback, normal.pullback]
        layout = Layout(samples, self._tower.heads)
        x_SD = _through(self._blocks, normal.output, layout, None, Pooling(row_S, None), pullbacks)
        return _project(x_SD, self._weights, "ln_post", "proj", pullbacks)

    def _embed(self, patch_NI: Tensor, samples: int) -> Layer:
        convolution = self._weights["conv1.weight"]
        first, position = self._weights["class_embedding"], self._weights["positional_embedding"]
        if position.stacked:
            return stacked.embed_patches(patch_NI, samples, convolution, first, position)
        x_STD = position.exact.expand(samples, -1, -1).clone()
        x_STD[:, 0] += first.exact
        x_STD[:, 1:] += (patch_NI @ convolution.fast.flatten(1).t()).view(samples, -1, x_STD.shape[2])

        def pullback(grad_RD: Tensor) -> Tensor:
            grad_STD = grad_RD.view(x_STD.shape)
            torch.sum(grad_STD, dim=0, out=position.grad)
            first.grad.copy_(position.grad[0])
            grad_ND = grad_STD[:, 1:].to(patch_NI.dtype).reshape(len(patch_NI), -1)
            convolution.grad.copy_((grad_ND.t() @ patch_NI).view(convolution.grad.shape))
            return grad_RD

        return Layer(x_STD.view(-1, x_STD.shape[2]), pullback)


class TextTower:
    """open_clip's causal text transformer, pooled where a caption ends."""

    def __init__(self, weights: Weights, tower: Tower) -> None:
        self._weights = weights
        self._tower = tower
        self._blocks = _blocks(weights, "transformer", tower.layers)

    def __call__(self, captions: Captions) -> Layer:
        """Embeddings (S, E) of captions, in the master's format."""
        samples, tokens = captions.token_ST.shape
        embedded = self._embed(captions.token_ST)
        mask_KQ = causal_mask(tokens, embedded.output)
        start_S = torch.arange(0, samples * tokens, tokens, device=captions.end_S.device)
        mask_GK1 = mask_KQ[:, captions.end_S].t().repeat(self._tower.heads, 1).unsqueeze(2)
        pooling = Pooling(start_S + captions.end_S, mask_GK1)
        pullbacks = [embedded.pullback]
        layout = Layout(samples, self._tower.heads)
        x_SD = _through(self._blocks, embedded.output, layout, mask_KQ, pooling, pullbacks)
        return _project(x_SD, self._weights, "ln_final", "text_projection", pullbacks)

    def _embed(self, token_ST: Tensor) -> Layer:
        table, position = self._weights["token_embedding.weight"], self._weights["positional_embedding"]
        if position.stacked:
            return stacked.embed_tokens(token_ST, table, position)
        tokens = token_ST.shape[1]
        x_STD = torch.nn.functional.embedding(token_ST, table.exact) + position.exact[:tokens]

        def pullback(grad_RD: Tensor) -> Tensor:
            torch.sum(grad_RD.view(x_STD.shape), dim=0, out=position.grad[:tokens])
            position.grad[tokens:].zero_()
            _sum_by_token(grad_RD, token_ST.flatten(), table.grad)
            return grad_RD

        return Layer(x_STD.view(-1, x_STD.shape[2]), pullback)


def _sum_by_token(grad_RD: Tensor, token_R: Tensor, into_VD: Tensor) -> None:
    """Each token's rows added up; index_add_ takes a CPU a sixth of the time, but sums in any order on a GPU."""
    if into_VD.is_cuda:
        into_VD.copy_(torch.ops.aten.embedding_dense_backward(grad_RD, token_R, len(into_VD), -1, False))
    else:
        into_VD.zero_().index_add_(0, token_R, grad_RD)


def _blocks(weights: Weights, prefix: str, layers: int) -> list[Block]:
    return [Block(weights, f"{prefix}.resblocks.{index}") for index in range(layers)]


def _through(
    blocks: list[Block],
    x_RD: Tensor,
    layout: Layout,
    mask_KQ: Tensor | None,
    pooling: Pooling,
    pullbacks: list[Pullback],
) -> Tensor:
    """The pooled rows after all blocks; their pullbacks are appended in the order of the forward pass."""
    layers = []
    for block in blocks[:-1]:
        layers.append(block(x_RD, layout, mask_KQ))
        x_RD = layers[-1].output
    layers.append(blocks[-1].pooled(x_RD, layout, pooling))
    pullbacks.extend(layer.pullback for layer in layers)
    return layers[-1].output


def _project(x_SD: Tensor, weights: Weights, norm: str, projection: str, pullbacks: list[Pullback]) -> Layer:
    """The last layer norm and the projection, in the master's format, and the way back through everything."""
    normal = layer_norm(x_SD, weights[f"{norm}.weight"], weights[f"{norm}.bias"], EPSILON)
    projected = project(normal.output, weights[projection])

    def pullback(grad_SE: Tensor) -> Tensor:
        grad = normal.pullback(projected.pullback(grad_SE))
        while pullbacks:  # one that is done frees its activations, and the next one's gradients lie there, in cache
            grad = pullbacks.pop()(grad)
        return grad

    return Layer(projected.output, pullback)
