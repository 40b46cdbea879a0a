"""Run both towers of an open_clip CLIP with hand-written backward passes, on the model's own parameters.

1. `ImageTower` and `TextTower` embed patches or tokens, run `ResidualBlock`s, and project one pooled row per sample.
2. Each layer returns a `WithVJP`: its output, and a pullback that writes the gradients of its `Weight`s.
3. Layers whose weights are stacked (`apply_stacked_...`) serve several models at once, samples model by model.

Outputs and gradients are those of `encode_image` and `encode_text` before normalisation. Work without influence on them
is left out: rows of a tower's last block that nothing reads, and padding after a caption's end, which causal attention
hides.

Index letters: S samples, C colour channels, H and W pixels, P patches of an image, I values of a patch, L caption
positions, T tokens of a sample, R = S * T rows, V tokens of the vocabulary, D width, E embedding, K keys, G groups (a
head of a sample).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, empty_like, nn

from gapctl.config.presets import PatchTower, Tower

Pullback = Callable[[Tensor], Tensor]
EPSILON = 1e-5
"""torch's default, which open_clip's layer norms use."""


class WithVJP(NamedTuple):
    """A layer's output, and its pullback from the output's gradient to the input's."""

    output: Tensor
    pullback: Pullback


class Weight(NamedTuple):
    """One parameter: its exact value, its value in the format of products, and its gradient.

    `exact` and `grad` have the master weights' format; `fast` is `exact` itself if both formats are the same. A
    backward pass overwrites `grad` and does not add to it. If `stacked`, each has a first dimension of models.
    """

    exact: Tensor
    fast: Tensor
    grad: Tensor
    stacked: bool = False

    @property
    def models(self) -> int:
        """The number of models that the parameter is stacked for."""
        return len(self.exact) if self.stacked else 1

    def rows(self, start: int, stop: int) -> "Weight":
        """Return the part of the parameter in these rows, gradient included."""
        part = (slice(None), slice(start, stop)) if self.stacked else (slice(start, stop),)
        return Weight(self.exact[part], self.fast[part], self.grad[part], self.stacked)


WeightMap = Mapping[str, Weight]


def collect_forward_weights(model: nn.Module) -> WeightMap:
    """Return a model's parameters for forward passes alone, in their own format, with gradients that are never read."""
    every = model.named_parameters(remove_duplicate=False)
    parameters = {name: parameter.detach() for name, parameter in every}
    return {name: Weight(exact=value, fast=value, grad=empty_like(value)) for name, value in parameters.items()}


def split_by_model(x_RI: Tensor, models: int) -> Tensor:
    """Return rows as (M, Q, I), one block per model."""
    return x_RI.view(models, -1, x_RI.shape[-1])


def apply_stacked_linear(x_RI: Tensor, weight: Weight, bias: Weight) -> WithVJP:
    """Return x W^T + b, each row with its model's W (M, O, I) and b (M, O)."""
    x_MQI = split_by_model(x_RI, weight.models)
    output_MQO = torch.baddbmm(bias.fast.unsqueeze(1), x_MQI, weight.fast.mT)

    def pullback(grad_RO: Tensor) -> Tensor:
        grad_MQO = split_by_model(grad_RO, weight.models)
        weight.grad.copy_(torch.bmm(grad_MQO.mT, x_MQI))
        bias.grad.copy_(grad_MQO.sum(1))
        return torch.bmm(grad_MQO, weight.fast).flatten(0, 1)

    return WithVJP(output_MQO.flatten(0, 1), pullback)


def apply_stacked_projection(x_RI: Tensor, weight: Weight) -> WithVJP:
    """Return x W in the master weights' format, each row with its model's W (M, I, O)."""
    x_MQI = split_by_model(x_RI, weight.models)

    def pullback(grad_RO: Tensor) -> Tensor:
        grad_MQO = split_by_model(grad_RO, weight.models)
        weight.grad.copy_(torch.bmm(x_MQI.mT, grad_MQO))
        return torch.bmm(grad_MQO, weight.exact.mT).flatten(0, 1)

    return WithVJP(torch.bmm(x_MQI, weight.exact).flatten(0, 1), pullback)


def apply_stacked_layer_norm(x_RD: Tensor, gain: Weight, bias: Weight, eps: float) -> WithVJP:
    """Return normalised rows times their model's gain plus its bias (M, D), in the master weights' format."""
    shape = [x_RD.shape[-1]]
    normal_RD, mean_R1, rstd_R1 = torch.native_layer_norm(x_RD, shape, None, None, eps)
    normal_MQD, gain_M1D = split_by_model(normal_RD, gain.models), gain.exact.unsqueeze(1)

    def pullback(grad_RD: Tensor) -> Tensor:
        grad_MQD = split_by_model(grad_RD, gain.models)
        gain.grad.copy_((grad_MQD * normal_MQD).sum(1))
        bias.grad.copy_(grad_MQD.sum(1))
        inner_RD = (grad_MQD * gain_M1D).flatten(0, 1)
        grad_x_RD: Tensor = torch.ops.aten.native_layer_norm_backward(
            inner_RD, x_RD, shape, mean_R1, rstd_R1, None, None, [True, False, False]
        )[0]
        return grad_x_RD

    return WithVJP(torch.addcmul(bias.exact.unsqueeze(1), normal_MQD, gain_M1D).flatten(0, 1), pullback)


def embed_patches(patch_RI: Tensor, samples: int, convolution: Weight, first: Weight, position: Weight) -> WithVJP:
    """Return rows (S * T, D) of patches after a class token; the convolution is (M, D, C, H, W)."""
    models = position.models
    patch_MQI, kernel_MDI = split_by_model(patch_RI, models), convolution.fast.flatten(2)
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

    return WithVJP(x_MZTD.view(-1, x_MZTD.shape[3]), pullback)


def embed_tokens(token_ST: Tensor, table: Weight, position: Weight) -> WithVJP:
    """Return rows (S * T, D) of token and position embeddings; the table is (M, V, D)."""
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

    return WithVJP(x_MZTD.view(-1, width), pullback)


class AttentionProjections(NamedTuple):
    """Queries (G, Q, C), keys and values (G, K, C) of attention, or the room for their gradients."""

    query_GQC: Tensor
    key_GKC: Tensor
    value_GKC: Tensor


class AttentionWithVJP(NamedTuple):
    """The output of attention (G, Q, C), and a pullback that fills its projections' gradients."""

    output_GQC: Tensor
    pullback: Callable[[Tensor, AttentionProjections], None]


def apply_linear(x_RI: Tensor, weight: Weight, bias: Weight) -> WithVJP:
    """Return x W^T + b for `x_RI` in the format of products."""
    if weight.stacked:
        return apply_stacked_linear(x_RI, weight, bias)
    if x_RI.dtype == torch.bfloat16 and x_RI.device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        # oneDNN adds the bias within the product; addmm would first write it to every row, a tenth of the time.
        output_RO: Tensor = torch.ops.mkldnn._linear_pointwise(x_RI, weight.fast, bias.fast, "none", [], "")
    else:
        output_RO = torch.addmm(bias.fast, x_RI, weight.fast.t())

    def pullback(grad_RO: Tensor) -> Tensor:
        # The product is faster with its longer side first.
        wide = x_RI.shape[1] > grad_RO.shape[1]
        weight.grad.copy_((x_RI.t() @ grad_RO).t() if wide else grad_RO.t() @ x_RI)
        bias.grad.copy_(grad_RO.sum(0))
        return grad_RO @ weight.fast

    return WithVJP(output_RO, pullback)


def apply_projection(x_RI: Tensor, weight: Weight) -> WithVJP:
    """Return x W in the master weights' format."""
    if weight.stacked:
        return apply_stacked_projection(x_RI, weight)

    def pullback(grad_RO: Tensor) -> Tensor:
        torch.mm(x_RI.t(), grad_RO, out=weight.grad)
        return grad_RO @ weight.exact.t()

    return WithVJP(x_RI @ weight.exact, pullback)


def add_residual(x_RD: Tensor, branch_RD: Tensor) -> Tensor:
    """Return x + branch in the format of x; a cast and an addition in place are faster than one mixed addition."""
    if branch_RD.dtype == x_RD.dtype:
        return x_RD + branch_RD
    return branch_RD.to(x_RD.dtype).add_(x_RD)


def layer_norm(x_RD: Tensor, gain: Weight, bias: Weight, eps: float) -> WithVJP:
    """Return normalised rows, all in the master weights' format."""
    if gain.stacked:
        return apply_stacked_layer_norm(x_RD, gain, bias, eps)
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

    return WithVJP(output_RD, pullback)


def gelu(x_RD: Tensor) -> WithVJP:
    """Return the exact GELU, by the error function."""
    return WithVJP(
        torch.nn.functional.gelu(x_RD),
        lambda grad_RD: torch.ops.aten.gelu_backward(grad_RD, x_RD),
    )


def compute_attention(
    projections: AttentionProjections, mask_GKQ: Tensor | None, exact: torch.dtype
) -> AttentionWithVJP:
    """Compute softmax attention, with the softmax in the format `exact`.

    `mask_GKQ` is added to the scores and broadcasts over them. Scores have keys before queries: a CPU's softmax over
    the middle of three dimensions runs at twice the speed of one over the last if sequences are short.
    """
    query_GQC, key_GKC, value_GKC = projections
    scale = query_GQC.shape[-1] ** -0.5
    score_GKQ = torch.bmm(key_GKC, query_GQC.transpose(1, 2)).to(exact).mul_(scale)
    if mask_GKQ is not None:
        score_GKQ.add_(mask_GKQ)
    share_GKQ = score_GKQ.softmax(dim=1)
    fast_share_GKQ = share_GKQ.to(value_GKC.dtype)

    def pullback(grad_GQC: Tensor, into: AttentionProjections) -> None:
        grad_GKQ = torch.bmm(value_GKC, grad_GQC.transpose(1, 2)).to(exact)
        mean_G1Q = (grad_GKQ * share_GKQ).sum(dim=1, keepdim=True)
        grad_GKQ = grad_GKQ.sub_(mean_G1Q).mul_(share_GKQ).mul_(scale).to(value_GKC.dtype)
        torch.bmm(grad_GKQ.transpose(1, 2), key_GKC, out=into.query_GQC)
        torch.bmm(grad_GKQ, query_GQC, out=into.key_GKC)
        torch.bmm(fast_share_GKQ, grad_GQC, out=into.value_GKC)

    return AttentionWithVJP(torch.bmm(fast_share_GKQ.transpose(1, 2), value_GKC), pullback)


class HeadLayout(NamedTuple):
    """The layout of a tower's rows: `samples` of equal length, and `heads` that attend separately."""

    samples: int
    heads: int

    def split_heads(self, rows_RE: Tensor, parts: int) -> Tensor:
        """Return rows of `parts` projections side by side as (parts, G, T, C)."""
        split = rows_RE.view(self.samples, -1, parts, self.heads, rows_RE.shape[1] // (parts * self.heads))
        return split.permute(2, 3, 0, 1, 4).reshape(parts, self.heads * self.samples, split.shape[1], -1)

    def merge_heads(self, parts_NGTC: Tensor) -> Tensor:
        """Return the inverse of `split_heads`: rows with the parts side by side."""
        parts, _, tokens, channels = parts_NGTC.shape
        split = parts_NGTC.view(parts, self.heads, self.samples, tokens, channels)
        return split.permute(2, 3, 0, 1, 4).reshape(self.samples * tokens, -1)


class Pooling(NamedTuple):
    """The row of each sample that a tower reads in the end, and the keys that this row may not attend to."""

    row_P: Tensor
    mask_GK1: Tensor | None


class ResidualBlock:
    """One residual block, under open_clip's names for its parameters."""

    def __init__(self, weights: WeightMap, prefix: str) -> None:
        self._weights = weights
        self._prefix = prefix

    def __call__(self, x_RD: Tensor, layout: HeadLayout, mask_KQ: Tensor | None) -> WithVJP:
        """Return all rows after the block; `mask_KQ` is added to the attention scores."""
        mixed = self._attend_all(x_RD, layout, mask_KQ)
        return _compose_layers(mixed, self._apply_mlp(mixed.output))

    def forward_pooled(self, x_RD: Tensor, layout: HeadLayout, pooling: Pooling) -> WithVJP:
        """Return the pooled rows alone (P, D), with the same numbers; nothing reads the last block's other rows."""
        mixed = self._attend_pooled(x_RD, layout, pooling)
        return _compose_layers(mixed, self._apply_mlp(mixed.output))

    def _attend_all(self, x_RD: Tensor, layout: HeadLayout, mask_KQ: Tensor | None) -> WithVJP:
        normal = self._apply_layer_norm("ln_1", x_RD)
        joint = apply_linear(
            normal.output, self._get_weight("attn.in_proj_weight"), self._get_weight("attn.in_proj_bias")
        )
        joint_3GTC = layout.split_heads(joint.output, 3)
        heads = compute_attention(AttentionProjections(*joint_3GTC), mask_KQ, x_RD.dtype)
        out = self._apply_linear("attn.out_proj", layout.merge_heads(heads.output_GQC[None]))

        def pullback(grad_RD: Tensor) -> Tensor:
            grad_GQC = layout.split_heads(out.pullback(grad_RD.to(out.output.dtype)), 1)[0]
            grad_3GTC = torch.empty_like(joint_3GTC)
            heads.pullback(grad_GQC, AttentionProjections(*grad_3GTC))
            return normal.pullback(joint.pullback(layout.merge_heads(grad_3GTC))).add_(grad_RD)

        return WithVJP(add_residual(x_RD, out.output), pullback)

    def _attend_pooled(self, x_RD: Tensor, layout: HeadLayout, pooling: Pooling) -> WithVJP:
        width = x_RD.shape[1]
        weight, bias = self._get_weight("attn.in_proj_weight"), self._get_weight("attn.in_proj_bias")
        normal = self._apply_layer_norm("ln_1", x_RD)
        query = apply_linear(normal.output.index_select(0, pooling.row_P), weight.rows(0, width), bias.rows(0, width))
        rest = apply_linear(normal.output, weight.rows(width, 3 * width), bias.rows(width, 3 * width))
        query_1GQC, rest_2GKC = layout.split_heads(query.output, 1), layout.split_heads(rest.output, 2)
        heads = compute_attention(AttentionProjections(*query_1GQC, *rest_2GKC), pooling.mask_GK1, x_RD.dtype)
        out = self._apply_linear("attn.out_proj", layout.merge_heads(heads.output_GQC[None]))

        def pullback(grad_PD: Tensor) -> Tensor:
            grad_GQC = layout.split_heads(out.pullback(grad_PD.to(out.output.dtype)), 1)[0]
            grad_1GQC, grad_2GKC = torch.empty_like(query_1GQC), torch.empty_like(rest_2GKC)
            heads.pullback(grad_GQC, AttentionProjections(*grad_1GQC, *grad_2GKC))
            grad_RD = rest.pullback(layout.merge_heads(grad_2GKC))
            grad_RD[pooling.row_P] += query.pullback(layout.merge_heads(grad_1GQC))
            grad_x_RD = normal.pullback(grad_RD)
            grad_x_RD[pooling.row_P] += grad_PD
            return grad_x_RD

        return WithVJP(add_residual(x_RD.index_select(0, pooling.row_P), out.output), pullback)

    def _apply_mlp(self, x_RD: Tensor) -> WithVJP:
        normal = self._apply_layer_norm("ln_2", x_RD)
        wide = self._apply_linear("mlp.c_fc", normal.output)
        active = gelu(wide.output)
        narrow = self._apply_linear("mlp.c_proj", active.output)

        def pullback(grad_RD: Tensor) -> Tensor:
            grad = active.pullback(narrow.pullback(grad_RD.to(narrow.output.dtype)))
            return normal.pullback(wide.pullback(grad)).add_(grad_RD)

        return WithVJP(add_residual(x_RD, narrow.output), pullback)

    def _apply_layer_norm(self, name: str, x_RD: Tensor) -> WithVJP:
        """Apply a layer norm whose output has the format of products."""
        gain = self._get_weight(f"{name}.weight")
        normal = layer_norm(x_RD, gain, self._get_weight(f"{name}.bias"), EPSILON)
        return WithVJP(
            normal.output.to(gain.fast.dtype),
            lambda grad_RD: normal.pullback(grad_RD.to(x_RD.dtype)),
        )

    def _apply_linear(self, name: str, x_RI: Tensor) -> WithVJP:
        return apply_linear(x_RI, self._get_weight(f"{name}.weight"), self._get_weight(f"{name}.bias"))

    def _get_weight(self, name: str) -> Weight:
        return self._weights[f"{self._prefix}.{name}"]


def _compose_layers(first: WithVJP, second: WithVJP) -> WithVJP:
    return WithVJP(second.output, lambda grad: first.pullback(second.pullback(grad)))


class CaptionTokens(NamedTuple):
    """Token ids (S, T) up to the longest caption's end, and where each caption ends (S)."""

    token_ST: Tensor
    end_S: Tensor


def cut_captions(token_SL: Tensor, end: int, *, whole: bool = False) -> CaptionTokens:
    """Cut the padding that all captions share, unless `whole`; each caption must hold the token `end`."""
    end_S = (token_SL == end).int().argmax(dim=1)
    if whole:
        return CaptionTokens(token_SL, end_S)
    return CaptionTokens(token_SL[:, : int(end_S.max()) + 1], end_S)


def cut_patches(image_SCHW: Tensor, size: int) -> Tensor:
    """Return square patches row by row (S * P, I), values in a convolution's order and in the images' format."""
    samples, colours, height, width = image_SCHW.shape
    grid = image_SCHW.view(samples, colours, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, colours * size * size)


class ImageTower:
    """The open_clip VisionTransformer with a pooled class token; `name` is the model's name for it."""

    def __init__(self, weights: WeightMap, tower: PatchTower, name: str = "visual") -> None:
        start = f"{name}."
        self._weights = {key.removeprefix(start): weight for key, weight in weights.items() if key.startswith(start)}
        self._tower = tower
        self._blocks = _build_blocks(self._weights, "transformer", tower.layers)

    def __call__(self, patch_NI: Tensor) -> WithVJP:
        """Return embeddings (S, E) of the images with these patches, which are in the format of products."""
        tokens = self._tower.tokens
        samples = len(patch_NI) // (tokens - 1)
        embedded = self._embed_patches(patch_NI, samples)
        gain, bias = self._weights["ln_pre.weight"], self._weights["ln_pre.bias"]
        normal = layer_norm(embedded.output, gain, bias, EPSILON)
        row_S = torch.arange(0, samples * tokens, tokens, device=patch_NI.device)
        pullbacks = [embedded.pullback, normal.pullback]
        layout = HeadLayout(samples, self._tower.heads)
        x_SD = _run_blocks(self._blocks, normal.output, layout, None, Pooling(row_S, None), pullbacks)
        return _project_pooled(x_SD, self._weights, "ln_post", "proj", pullbacks)

    def _embed_patches(self, patch_NI: Tensor, samples: int) -> WithVJP:
        convolution = self._weights["conv1.weight"]
        first, position = self._weights["class_embedding"], self._weights["positional_embedding"]
        if position.stacked:
            return embed_patches(patch_NI, samples, convolution, first, position)
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

        return WithVJP(x_STD.view(-1, x_STD.shape[2]), pullback)


class TextTower:
    """The open_clip causal text transformer, pooled at a caption's end."""

    def __init__(self, weights: WeightMap, tower: Tower) -> None:
        self._weights = weights
        self._tower = tower
        self._blocks = _build_blocks(weights, "transformer", tower.layers)

    def __call__(self, captions: CaptionTokens) -> WithVJP:
        """Return embeddings (S, E) of captions, in the master weights' format."""
        samples, tokens = captions.token_ST.shape
        embedded = self._embed_tokens(captions.token_ST)
        # Minus infinity is added to the score of a key that comes after the query.
        mask_KQ = embedded.output.new_full((tokens, tokens), float("-inf")).tril(-1)
        start_S = torch.arange(0, samples * tokens, tokens, device=captions.end_S.device)
        mask_GK1 = mask_KQ[:, captions.end_S].t().repeat(self._tower.heads, 1).unsqueeze(2)
        pooling = Pooling(start_S + captions.end_S, mask_GK1)
        pullbacks = [embedded.pullback]
        layout = HeadLayout(samples, self._tower.heads)
        x_SD = _run_blocks(self._blocks, embedded.output, layout, mask_KQ, pooling, pullbacks)
        return _project_pooled(x_SD, self._weights, "ln_final", "text_projection", pullbacks)

    def _embed_tokens(self, token_ST: Tensor) -> WithVJP:
        table, position = self._weights["token_embedding.weight"], self._weights["positional_embedding"]
        if position.stacked:
            return embed_tokens(token_ST, table, position)
        tokens = token_ST.shape[1]
        x_STD = torch.nn.functional.embedding(token_ST, table.exact) + position.exact[:tokens]

        def pullback(grad_RD: Tensor) -> Tensor:
            torch.sum(grad_RD.view(x_STD.shape), dim=0, out=position.grad[:tokens])
            position.grad[tokens:].zero_()
            token_R = token_ST.flatten()
            if table.grad.is_cuda:
                into_VD = torch.ops.aten.embedding_dense_backward(grad_RD, token_R, len(table.grad), -1, False)
                table.grad.copy_(into_VD)
            else:  # in a sixth of the time; a GPU would sum in any order
                table.grad.zero_().index_add_(0, token_R, grad_RD)
            return grad_RD

        return WithVJP(x_STD.view(-1, x_STD.shape[2]), pullback)


def _build_blocks(weights: WeightMap, prefix: str, layers: int) -> list[ResidualBlock]:
    return [ResidualBlock(weights, f"{prefix}.resblocks.{index}") for index in range(layers)]


def _run_blocks(
    blocks: list[ResidualBlock],
    x_RD: Tensor,
    layout: HeadLayout,
    mask_KQ: Tensor | None,
    pooling: Pooling,
    pullbacks: list[Pullback],
) -> Tensor:
    """Return the pooled rows after all blocks; append their pullbacks in the order of the forward pass."""
    layers = []
    for block in blocks[:-1]:
        layers.append(block(x_RD, layout, mask_KQ))
        x_RD = layers[-1].output
    layers.append(blocks[-1].forward_pooled(x_RD, layout, pooling))
    pullbacks.extend(layer.pullback for layer in layers)
    return layers[-1].output


def _project_pooled(x_SD: Tensor, weights: WeightMap, norm: str, projection: str, pullbacks: list[Pullback]) -> WithVJP:
    """Return the last layer norm and projection, in the master weights' format, with the pullback of the tower."""
    normal = layer_norm(x_SD, weights[f"{norm}.weight"], weights[f"{norm}.bias"], EPSILON)
    projected = apply_projection(normal.output, weights[projection])

    def pullback(grad_SE: Tensor) -> Tensor:
        grad = normal.pullback(projected.pullback(grad_SE))
        while pullbacks:  # each frees its activations, whose cached memory the next one reuses
            grad = pullbacks.pop()(grad)
        return grad

    return WithVJP(projected.output, pullback)
