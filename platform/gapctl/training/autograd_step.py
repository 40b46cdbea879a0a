"""One step of training any of open_clip's models, by autograd, on one worker or many, a batch at once or in parts.

Index letters: B pairs of this worker, C colours, H and W pixels, L caption positions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from gapctl.errors import InputError, WorkError
from gapctl.models.build import PixelNormaliser, set_temperature
from gapctl.models.losses import LOCAL_LOSSES, NO_TERMS, GatheredFeatures, LossKind, LossTerms, sum_loss_terms
from gapctl.training.fused_step import MOMENTS, OptimizerState
from gapctl.training.step_options import Precision, StepOptions, TemperatureRate
from gapctl.training.workers import SINGLE_WORKER, WorkerGroup


class TowerOutputs(NamedTuple):
    """L2-normalised features (B, E) in the parameters' format, and the loss's scalars as outputs like them.

    Being outputs, the scalars get their gradients where the features do.
    """

    image_BE: Tensor
    text_BE: Tensor
    scalars: tuple[Tensor, ...]


class AutogradTowers(nn.Module):
    """Both towers and the loss's scalars, bfloat16 by autocast where asked."""

    def __init__(self, model: CLIP, precision: Precision, *, compiled: bool) -> None:
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
            self._normalize_features(image_BE),
            self._normalize_features(text_BE),
            tuple(value.clone() for value in scalars if value is not None),
        )

    def used(self, token_BL: Tensor) -> Tensor:
        """Captions up to the longest one's end, which is all that a causal text tower sees; reads `token_BL`."""
        if self.model.attn_mask is None:
            return token_BL
        last = int(_find_caption_ends(self.model, token_BL).max())
        return token_BL[:, : last + 1]

    def _normalize_features(self, feature_BE: Tensor) -> Tensor:
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


def _find_caption_ends(model: CLIP, token_BL: Tensor) -> Tensor:
    """Where each caption is pooled (B)."""
    return ((token_BL == model.text_eos_id).int() if model.text_pool_type == "eos" else token_BL).argmax(dim=1)


class AutogradOptimizer:
    """Decays matrices and no vector, as open_clip does: gains, biases and the logit scale are none."""

    def __init__(self, model: nn.Module, rule: StepOptions) -> None:
        trained = [value for value in model.parameters() if value.requires_grad]
        self._kinds = (
            [value for value in trained if value.ndim >= 2],
            [value for value in trained if value.ndim < 2],
        )
        decays = (rule.weight_decay, 0.0)
        groups = [
            {"params": kind, "weight_decay": decay} for kind, decay in zip(self._kinds, decays, strict=True) if kind
        ]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, betas=rule.betas, eps=rule.eps, fused=True)

    def forget_gradients(self) -> None:
        """Before gradients are added up anew."""
        self._adamw.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Takes one step at a learning rate."""
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.step()

    def state(self) -> OptimizerState:
        """Moments of all matrices and of all vectors in a row each, on the CPU."""
        groups = [{**group, "params": [place]} for place, group in enumerate(self._adamw.state_dict()["param_groups"])]
        state = {place: self._join_moments(kind) for place, kind in enumerate(self._kinds) if self._has_moments(kind)}
        return {"state": state, "param_groups": groups}

    def load(self, state: OptimizerState | None) -> None:
        """Continues from a state, of either step, or begins anew where there is none."""
        for place, kept in (state["state"] if state else {}).items():
            self._load_moments(self._kinds[place], kept)

    def _has_moments(self, kind: Sequence[nn.Parameter]) -> bool:
        return bool(kind) and "step" in self._adamw.state[kind[0]]

    def _join_moments(self, kind: Sequence[nn.Parameter]) -> dict[str, Tensor]:
        states = [self._adamw.state[value] for value in kind]
        rows = {name: torch.cat([state[name].detach().cpu().flatten() for state in states]) for name in MOMENTS}
        return {"step": states[0]["step"].detach().cpu().clone(), **rows}

    def _load_moments(self, kind: Sequence[nn.Parameter], kept: dict[str, Tensor]) -> None:
        sizes = [value.numel() for value in kind]
        parts = {name: torch.split(kept[name], sizes) for name in MOMENTS}
        for index, value in enumerate(kind):
            moments = {name: torch.empty_like(value).copy_(parts[name][index].view(value.shape)) for name in MOMENTS}
            self._adamw.state[value] = {"step": kept["step"].clone().to(value.device), **moments}


class FeatureGradients(NamedTuple):
    """The global batch's loss (1,), and gradients by image (B, E), text (B, E) and scalars.

    The gradient of the global loss by a parameter is the mean over workers of what each gets from these through its
    towers; the mean is what DistributedDataParallel takes.
    """

    loss: Tensor
    image_BE: Tensor
    text_BE: Tensor
    scalars: tuple[Tensor, ...]


class FeatureLoss:
    """A contrastive loss over the workers of a group, and what is added to it."""

    def __init__(self, kind: LossKind, group: WorkerGroup, terms: LossTerms = NO_TERMS) -> None:
        self._loss = LOCAL_LOSSES[kind]
        self._terms = terms
        self._group = group

    @torch.enable_grad()
    def __call__(self, image_BE: Tensor, text_BE: Tensor, scalars: Sequence[Tensor]) -> FeatureGradients:
        """Of L2-normalised features; `scalars` are the log of the logit scale and, where a model has it, the bias."""
        own_BF = _make_leaf(torch.cat([image_BE, text_BE], dim=1))
        all_AF = _make_leaf(self._group.gather_rows(own_BF.detach()))
        leaves = [_make_leaf(value) for value in scalars]
        rows = GatheredFeatures.of(own_BF, all_AF, first=self._group.rank * len(image_BE))
        loss = self._loss(rows, leaves[0].exp(), *leaves[1:])
        if self._terms != NO_TERMS:  # of all pairs on every worker, as a log of a mean is no mean of the workers'
            loss = loss + sum_loss_terms(self._terms, rows.image_AE, rows.text_AE)
        own_grad_BF, all_grad_AF, *rest = torch.autograd.grad(loss, [own_BF, all_AF, *leaves], materialize_grads=True)
        image_grad_BE, text_grad_BE = (own_grad_BF + self._group.reduce_to_own_rows(all_grad_AF)).chunk(2, dim=1)
        return FeatureGradients(self._group.mean(loss.detach().view(1)), image_grad_BE, text_grad_BE, tuple(rest))


def _make_leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_()


@contextmanager
def explain_compile_errors() -> Iterator[None]:
    """WorkError where torch.compile fails: it needs a C++ compiler on a CPU, Triton and a C compiler on a GPU."""
    try:
        yield
    except TorchDynamoException as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        found = lines[0] if lines else type(error).__name__
        raise WorkError(
            f"torch.compile could not compile the model on this machine: {found}\n"
            "It needs a C++ compiler (g++, or the one that the variable CXX names), and Triton on a GPU. Install it, "
            "or train without compile: the numbers are the same but for rounding."
        ) from error


class MicroBatch(NamedTuple):
    """Images and captions that go through the towers together."""

    image_BCHW: Tensor
    token_BL: Tensor


class AutogradStep:
    """Trains a model in place; the optimiser's state, for checkpoints, is its own.

    Several workers, each with its part of the batch in the order of ranks, take the step that one would take with all
    of it. So does a batch in micro-batches, at the price of passing all but one of them through the towers twice.
    Batch normalisation is the exception to both: each worker's micro-batch is normalised by its own statistics, as in
    open_clip's trainings, and the running ones, those of the first worker, move once per micro-batch.
    """

    def __init__(self, model: CLIP, rule: StepOptions, device: torch.device, group: WorkerGroup | None = None) -> None:
        """The model is moved to the device; workers begin from the first one's weights.

        On a GPU convolutions are tried out for the fastest algorithm, for the whole process.
        """
        group = group or SINGLE_WORKER
        self.model = model.to(device)
        self._rule = rule
        self._device = device
        if device.type == "cuda" and isinstance(model.visual, ModifiedResNet):
            model.visual.to(memory_format=torch.channels_last)
            torch.backends.cudnn.benchmark = True
        self._towers = AutogradTowers(model, rule.precision, compiled=rule.compile)
        self._shared = _distribute_towers(self._towers, device, group)
        self._loss = FeatureLoss(rule.loss, group, rule.terms)
        self._pixels = PixelNormaliser(rule.mean, rule.std, device)
        self._optimizer = AutogradOptimizer(model, rule)
        self._temperature = TemperatureRate([model], rule)
        self._norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]

    def load(self, state: OptimizerState | None) -> None:
        """To be called after a checkpoint was read into the model, with what it kept of the optimiser."""
        self._optimizer.load(state)

    def optimizer_state(self) -> OptimizerState:
        """What a checkpoint keeps of the optimiser: the same on every worker, and what `TrainingStep` keeps too."""
        return self._optimizer.state()

    def __call__(self, image_BCHW: Tensor, token_BL: Tensor, rate: float, temperature: float | None = None) -> Tensor:
        """Takes one step on this worker's pairs, uint8 and int64, and returns the global batch's loss before it (1,).

        `temperature` is set before the step where it follows a schedule. InputError where a worker's pairs are fewer
        than its micro-batches, WorkError where the model cannot be compiled.
        """
        if temperature is not None:
            set_temperature(self.model, temperature)
        if not self.model.training:
            self.model.train()
        loss = self.gradients(image_BCHW, token_BL)
        self._temperature.take_scaled_step(lambda: self._optimizer.step(rate))
        return loss

    def gradients(self, image_BCHW: Tensor, token_BL: Tensor) -> Tensor:
        """The global batch's loss (1,); every parameter's gradient by it is written, the same on every worker."""
        parts = self._parts(image_BCHW, token_BL)
        self._optimizer.forget_gradients()
        with explain_compile_errors() if self._rule.compile else nullcontext():
            return self._backpropagate_parts(*parts)

    def _backpropagate_parts(self, first: MicroBatch, *others: MicroBatch) -> Tensor:
        """The loss needs all outputs; only the first part's are kept with what they were computed from."""
        seen = [self._looked_at(part) for part in others]
        with self._skip_gradient_sync(unless=not others):
            kept = self._encode_part(self._shared, first)
            found = self._compute_feature_gradients([kept, *seen])
            gradient, *later = _split_gradients(found, [len(part.token_BL) for part in (first, *others)])
            _run_backward(kept, gradient)
        for part, gradient in zip(others, later, strict=True):
            with self._skip_gradient_sync(unless=part is others[-1]):
                _run_backward(self._encode_part(self._shared, part), gradient)
        return found.loss

    def _parts(self, image_BCHW: Tensor, token_BL: Tensor) -> list[MicroBatch]:
        """The micro-batches, on the device."""
        number = self._rule.micro_batches
        if len(image_BCHW) < number:
            raise InputError(
                f"a worker's {len(image_BCHW)} pairs cannot be cut into {number} micro-batches: make train.batch_size "
                f"at least {number} for each worker, or train.micro_batches smaller"
            )
        if self._device.type == "cpu" and not self._rule.compile:  # a GPU, and a compiled pass, want steps of one shape
            token_BL = self._towers.used(token_BL)
        images = image_BCHW.to(self._device, non_blocking=True).tensor_split(number)
        tokens = token_BL.to(self._device, non_blocking=True).tensor_split(number)
        return [MicroBatch(*pair) for pair in zip(images, tokens, strict=True)]

    def _encode_part(self, towers: nn.Module, part: MicroBatch) -> TowerOutputs:
        image_BCHW = self._pixels.images(part.image_BCHW).to(self.model.logit_scale.dtype)
        if self._device.type == "cuda" and self._norms:
            image_BCHW = image_BCHW.contiguous(memory_format=torch.channels_last)
        outputs: TowerOutputs = towers(image_BCHW, part.token_BL)
        return outputs

    @torch.no_grad()
    def _looked_at(self, part: MicroBatch) -> TowerOutputs:
        """The outputs alone; what they were computed from is computed again when their gradients are known."""
        with _pause_norm_tracking(self._norms):
            return self._encode_part(self._towers, part)

    def _compute_feature_gradients(self, outputs: Sequence[TowerOutputs]) -> FeatureGradients:
        image_BE = torch.cat([each.image_BE.detach() for each in outputs])
        text_BE = torch.cat([each.text_BE.detach() for each in outputs])
        return self._loss(image_BE, text_BE, outputs[0].scalars)

    def _skip_gradient_sync(self, *, unless: bool) -> AbstractContextManager[None]:
        """Workers exchange gradients with the last micro-batch alone."""
        if unless or not isinstance(self._shared, DistributedDataParallel):
            return nullcontext()
        return self._shared.no_sync()


def _distribute_towers(towers: AutogradTowers, device: torch.device, group: WorkerGroup) -> nn.Module:
    """The towers as all workers share them: backward passes take the mean of their gradients, bucket by bucket."""
    if group.size == 1:
        return towers
    places = None if device.type == "cpu" else [device]
    return DistributedDataParallel(towers, device_ids=places, process_group=group.handle, gradient_as_bucket_view=True)


def _split_gradients(found: FeatureGradients, sizes: list[int]) -> list[TowerOutputs]:
    """Each part's gradients by its outputs; the scalars' come once, with the last part."""
    images, texts = torch.split(found.image_BE, sizes), torch.split(found.text_BE, sizes)
    scalars = [()] * (len(sizes) - 1) + [found.scalars]
    return [TowerOutputs(*gradients) for gradients in zip(images, texts, scalars, strict=True)]


def _run_backward(outputs: TowerOutputs, gradient: TowerOutputs) -> None:
    """Through the towers, but for outputs that come from what is frozen."""
    pairs = [(outputs.image_BE, gradient.image_BE), (outputs.text_BE, gradient.text_BE)]
    if gradient.scalars:
        pairs += zip(outputs.scalars, gradient.scalars, strict=True)
    trained = [(output, value) for output, value in pairs if output.requires_grad]
    torch.autograd.backward([output for output, _ in trained], [value for _, value in trained])


@contextmanager
def _pause_norm_tracking(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Batch statistics are used and not remembered."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
