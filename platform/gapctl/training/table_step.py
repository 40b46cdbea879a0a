"""Take one training step of embedding tables, one or hundreds together: the loss of a batch, and AdamW on its rows.

1. `TableStep` gathers all tables' rows in one array, of which the models' parameters become views.
2. `LikelihoodRatios` returns what each image and each caption of a batch should match, where that is the posterior.
3. `compute_unit_gradients` returns the loss and its gradients by unit embeddings: CLIP's by hand, others by autograd.
4. `_RowMoments` moves the rows that the batch shows, each by as many steps as it was shown.

A table gets the same numbers alone and among others, to the last bit on one thread of a CPU: no sum goes over tables,
and element by element only operations are used that round once.

Index letters: P tables, B pairs of a table's batch, S = 2 P B rows that a step shows, R rows of all tables,
E embedding.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from gapctl.models.build import MAX_LOG_SCALE, set_scheduled_temperatures
from gapctl.models.losses import NO_TERMS, make_contrastive_loss
from gapctl.models.table import EmbeddingTable
from gapctl.training.optimizer import MOMENTS, OptimizerState
from gapctl.training.step_options import StepOptions


class UnitGradients(NamedTuple):
    """The loss of each table (P,), and its gradients by unit embeddings (P, B, E), log scales and biases (P,)."""

    loss_P: Tensor
    image_PBE: Tensor
    text_PBE: Tensor
    log_scale_P: Tensor
    bias_P: Tensor | None


def compute_unit_gradients(
    rule: StepOptions,
    image_PBE: Tensor,
    text_PBE: Tensor,
    log_scale_P: Tensor,
    bias_P: Tensor | None,
    target_PBB: Tensor | None = None,
) -> UnitGradients:
    """Return the loss that `rule` names and its gradients, for each table from its own batch.

    `target_PBB` is the sum of both directions' targets; without it, pairs on the diagonal match.
    """
    if rule.loss == "clip" and rule.terms == NO_TERMS:
        return _compute_clip_gradients(image_PBE, text_PBE, log_scale_P.exp(), target_PBB)
    loss = make_contrastive_loss(rule.loss, rule.terms)
    inputs = (image_PBE, text_PBE, log_scale_P, *([] if bias_P is None else [bias_P]))

    def compute_loss(image_BE: Tensor, text_BE: Tensor, log_scale: Tensor, *bias: Tensor) -> Tensor:
        return loss(image_BE, text_BE, log_scale.exp(), *bias)

    each = torch.func.grad_and_value(compute_loss, argnums=tuple(range(len(inputs))))
    (image, text, log_scale, *bias), loss_P = torch.func.vmap(each)(*inputs)
    return UnitGradients(loss_P, image, text, log_scale, bias[0] if bias else None)


def _compute_clip_gradients(
    image_PBE: Tensor, text_PBE: Tensor, scale_P: Tensor, target_PBB: Tensor | None
) -> UnitGradients:
    """Return CLIP's loss with its gradients, for which autograd would compute twice as many products."""
    scale_P11 = scale_P[:, None, None]
    cosine_PBB = image_PBE @ text_PBE.mT
    of_image_PBB = (cosine_PBB * scale_P11).log_softmax(dim=-1)
    of_text_PBB = (cosine_PBB.mT * scale_P11).contiguous().log_softmax(dim=-1)
    matched_PB = of_image_PBB.diagonal(dim1=1, dim2=2) + of_text_PBB.diagonal(dim1=1, dim2=2)
    loss_P = matched_PB.mean(dim=-1) / -2
    slope_PBB = of_image_PBB.exp_().add_(of_text_PBB.exp_().mT)
    if target_PBB is None:
        slope_PBB.diagonal(dim1=1, dim2=2).sub_(2)
    else:
        slope_PBB.sub_(target_PBB)
    slope_PBB.mul_(scale_P11 / (2 * image_PBE.shape[1]))
    log_scale_P = (slope_PBB * cosine_PBB).sum(dim=-1).sum(dim=-1)
    return UnitGradients(loss_P, slope_PBB @ text_PBE, slope_PBB.mT @ image_PBE, log_scale_P, None)


class TableStep:
    """Trains tables in place; it owns the optimiser's state."""

    def __init__(self, models: Sequence[EmbeddingTable], rule: StepOptions) -> None:
        """Take over tables of one width that are trained with the same options."""
        self.models = models
        self._rule = rule
        first = models[0]
        self._device = first.logit_scale.device
        sides = [side for model in models for side in (model.image_rows, model.text_rows)]
        self._rows_RE = torch.cat([side.detach() for side in sides])
        starts = torch.tensor([0] + [len(side) for side in sides]).cumsum(dim=0).tolist()
        for side, start, stop in zip(sides, starts[:-1], starts[1:], strict=True):
            side.data = self._rows_RE[start:stop]
        self._blocks = [slice(start, stop) for start, stop in zip(starts[:-1:2], starts[2::2], strict=True)]
        self._first_P2 = torch.tensor(starts[:-1], device=self._device).view(-1, 2, 1)
        self._log_scale_P = torch.stack([model.logit_scale.detach() for model in models])
        self._bias_P = None
        if first.logit_bias is not None:
            self._bias_P = torch.stack([model.logit_bias.detach() for model in models if model.logit_bias is not None])
        for index, model in enumerate(models):
            model.logit_scale.data = self._log_scale_P[index]
            if self._bias_P is not None and model.logit_bias is not None:
                model.logit_bias.data = self._bias_P[index]
        learned_P = torch.tensor([model.logit_scale.requires_grad for model in models], device=self._device)
        self._learned_P = learned_P.float()
        self._longest_P = torch.where(learned_P, MAX_LOG_SCALE, math.inf)
        self._shortest_P = torch.where(learned_P, 0.0, -math.inf)
        self._row_moments = _RowMoments(self._rows_RE, rule)
        self._scalar_moments = _RowMoments(torch.zeros(len(models), 2, device=self._device), rule)
        self._last = (torch.zeros(0), torch.zeros(0), torch.zeros(0))
        self._ratios = LikelihoodRatios(models) if first.likelihood_ratios is not None else None

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """Load an optimiser state for each model; call it after the models' weights were restored."""
        for index, (block, state) in enumerate(zip(self._blocks, states, strict=True)):
            if state is not None:
                self._row_moments.load(block, state["state"][0])
                self._scalar_moments.load(slice(index, index + 1), state["state"][1])

    def optimizer_state(self, index: int = 0) -> OptimizerState:
        """Return the optimiser state of the model at `index`, for its checkpoint: of its rows, then of its scalars."""
        rows = self._row_moments.export_state(self._blocks[index])
        scalars = self._scalar_moments.export_state(slice(index, index + 1))
        return {"state": {0: rows, 1: scalars}, "param_groups": []}

    def compute_gradient_norms(self) -> Tensor:
        """Return the length of each model's gradient at the last step (P,)."""
        grad_SE, total_SE, scalar_P2 = self._last
        # Summed over places, place times row is the square of each row once.
        square_P = (grad_SE * total_SE).view(len(self.models), -1).sum(dim=-1) + scalar_P2.square().sum(dim=-1)
        return square_P.sqrt()

    @torch.no_grad()
    def __call__(
        self, image_S: Tensor, second_S: Tensor, rate: float, temperatures: Sequence[float | None] = ()
    ) -> Tensor:
        """Set scheduled temperatures, take one step, and return each model's loss before it (P,).

        `image_S` are the numbers of factor combinations, `second_S` the rows of captions, table by table.
        """
        set_scheduled_temperatures(self.models, temperatures)
        tables = len(self.models)
        shown_P2B = torch.stack([side.to(self._device).view(tables, -1) for side in (image_S, second_S)], dim=1)
        place_S = (shown_P2B + self._first_P2).flatten()
        row_SE = self._rows_RE.index_select(0, place_S)
        length_S1 = torch.linalg.vector_norm(row_SE, dim=-1, keepdim=True)
        unit_SE = row_SE / length_S1
        unit_P2BE = unit_SE.view(tables, 2, -1, unit_SE.shape[-1])
        target_PBB = None if self._ratios is None else self._ratios.find_targets(shown_P2B)
        found = compute_unit_gradients(
            self._rule, unit_P2BE[:, 0], unit_P2BE[:, 1], self._log_scale_P, self._bias_P, target_PBB
        )
        slope_SE = torch.stack([found.image_PBE, found.text_PBE], dim=1).view_as(unit_SE)
        along_S1 = (slope_SE * unit_SE).sum(dim=-1, keepdim=True)
        grad_SE = (slope_SE - along_S1 * unit_SE) / length_S1
        total_SE = self._row_moments.sum_by_row(place_S, grad_SE)
        change_SE = self._row_moments.compute_changes(place_S, total_SE)
        kept = 1.0 - rate * self._rule.weight_decay
        self._rows_RE.index_copy_(0, place_S, row_SE.mul_(kept).sub_(change_SE.mul_(rate)))
        scalar_P2 = self._move_scalars(found, rate)
        self._last = (grad_SE, total_SE, scalar_P2)
        return found.loss_P

    def _move_scalars(self, found: UnitGradients, rate: float) -> Tensor:
        """Move temperatures and biases, and return their gradients (P, 2); what is not learned has none."""
        bias_P = torch.zeros_like(found.log_scale_P) if found.bias_P is None else found.bias_P
        grad_P2 = torch.stack([found.log_scale_P * self._learned_P, bias_P], dim=1)
        change_P2 = self._scalar_moments.compute_changes(torch.arange(len(grad_P2), device=self._device), grad_P2)
        moved_P = self._log_scale_P - change_P2[:, 0] * (self._rule.temperature_speed * rate)
        self._log_scale_P.copy_(moved_P.clamp(self._shortest_P, self._longest_P))
        if self._bias_P is not None:
            self._bias_P.sub_(change_P2[:, 1] * rate)
        return grad_P2


class LikelihoodRatios:
    """p(caption | image) / p(caption) of several tables in one array, from which a batch's posteriors follow."""

    def __init__(self, models: Sequence[EmbeddingTable]) -> None:
        """Join the ratios of tables that have them; those that are one array are kept once."""
        parts = {id(each): each for model in models if (each := model.likelihood_ratios) is not None}
        self._ratios = torch.cat([each.flatten() for each in parts.values()])
        device = self._ratios.device
        ends = torch.tensor([0] + [each.numel() for each in parts.values()], device=device).cumsum(dim=0)
        self._starts = ends[:-1]
        self._widths = torch.tensor([each.shape[1] for each in parts.values()], device=device)
        part_P = [list(parts).index(id(model.likelihood_ratios)) for model in models]
        self._start_P = self._starts[part_P]

    def find_targets(self, shown_P2B: Tensor) -> Tensor:
        """Return how probable each caption is as an image's, plus how probable the image is as the caption's (P, B, B).

        Given an image and a batch's captions in any order, one of which was drawn for it and the others for others, its
        own is each with the probability of its ratio over the sum of all ratios.
        """
        if shown_P2B.device.type != "cpu":
            return self._compute_targets(shown_P2B, self._start_P)
        # Tables of one seed and kind of captions are shown the same batch.
        shown = zip(self._start_P.tolist(), shown_P2B.numpy(), strict=True)
        first_of: dict[tuple[int, bytes], int] = {}
        same_P = [first_of.setdefault((start, each.tobytes()), len(first_of)) for start, each in shown]
        first_U = [same_P.index(place) for place in range(len(first_of))]
        target_UBB = self._compute_targets(shown_P2B[first_U], self._start_P[first_U])
        return target_UBB[same_P]

    def _compute_targets(self, shown_P2B: Tensor, start_P: Tensor) -> Tensor:
        width_P = self._widths[torch.searchsorted(self._starts, start_P)]
        first_PB = shown_P2B[:, 0] * width_P[:, None] + start_P[:, None]
        place_PBB = first_PB.unsqueeze(2) + shown_P2B[:, 1].unsqueeze(1)
        ratio_PBB = self._ratios.index_select(0, place_PBB.flatten()).view(place_PBB.shape)
        of_image_PBB = ratio_PBB / ratio_PBB.sum(dim=-1, keepdim=True)
        return of_image_PBB + ratio_PBB / ratio_PBB.mT.contiguous().sum(dim=-1).unsqueeze(1)


FIRST, SECOND = MOMENTS
VISITS: Final = "visits"
"""The number of steps that showed a row."""


class _RowMoments:
    """AdamW's moments of rows (R, E), of which each step moves some, and how often each was moved.

    A row that a step does not show stays as it is, moments included. Bias is corrected by the row's own steps.
    """

    def __init__(self, rows_RE: Tensor, rule: StepOptions) -> None:
        self._first_RE, self._second_RE = torch.zeros_like(rows_RE), torch.zeros_like(rows_RE)
        self._sum_RE = torch.zeros_like(rows_RE)
        self._visits_R = torch.zeros(len(rows_RE), dtype=torch.int64, device=rows_RE.device)
        self._betas, self._epsilon = rule.betas, rule.eps

    def sum_by_row(self, place_S: Tensor, grad_SE: Tensor) -> Tensor:
        """Return for each place the sum of gradients over all places of its row (S, E)."""
        self._sum_RE.index_add_(0, place_S, grad_SE)
        total_SE = self._sum_RE.index_select(0, place_S)
        self._sum_RE.index_fill_(0, place_S, 0.0)
        return total_SE

    def compute_changes(self, place_S: Tensor, grad_SE: Tensor) -> Tensor:
        """Update moments and return what the rate is multiplied by (S, E); places of one row have one gradient."""
        (first, second), visit_S = self._betas, self._visits_R[place_S] + 1
        first_SE = self._first_RE.index_select(0, place_S).mul_(first).add_(grad_SE * (1 - first))
        square_SE = (grad_SE * grad_SE).mul_(1 - second)
        second_SE = self._second_RE.index_select(0, place_S).mul_(second).add_(square_SE)
        self._first_RE.index_copy_(0, place_S, first_SE)
        self._second_RE.index_copy_(0, place_S, second_SE)
        self._visits_R.index_copy_(0, place_S, visit_S)
        # In float64, whose rounding to float32 does not depend on the processor's pow.
        visit_S1 = visit_S.double()[:, None]
        root_SE = second_SE.div_((1 - second**visit_S1).float()).sqrt_().add_(self._epsilon)
        return first_SE.div_((1 - first**visit_S1).float()).div_(root_SE)

    def load(self, block: slice, state: dict[str, Tensor]) -> None:
        """Continue a table's rows from its state."""
        for array, name in ((self._first_RE, FIRST), (self._second_RE, SECOND), (self._visits_R, VISITS)):
            array[block] = state[name].to(array.device)

    def export_state(self, block: slice) -> dict[str, Tensor]:
        """Return the state of a table's rows on the CPU."""
        arrays = ((self._first_RE, FIRST), (self._second_RE, SECOND), (self._visits_R, VISITS))
        return {name: array[block].cpu().clone() for array, name in arrays}
