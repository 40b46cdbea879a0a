"""Take one training step of any open_clip model by autograd, on one or many workers, a batch at once or in parts.

1. `AutogradStep` cuts a worker's pairs into micro-batches and passes them through `AutogradTowers`.
2. `FeatureLoss` gathers the features of all workers, and computes the loss of all pairs and its gradients.
3. The gradients go back through the towers micro-batch by micro-batch, and `StepOptimizer` takes the step.

Index letters: B pairs of this worker, A pairs of all workers, C colours, H and W pixels, L caption positions, T
positions that are used, E embedding, F = 2 E.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from gapctl.errors import InputError, WorkError, first_line_of_error
from gapctl.models.build import PixelNormaliser, set_scheduled_temperatures
from gapctl.models.losses import NO_TERMS, GatheredFeatures, LossKind, LossTerms, make_worker_loss, sum_loss_terms
from gapctl.training.optimizer import OptimizerState, StepOptimizer
from gapctl.training.step_options import Precision, StepOptions
from gapctl.training.workers import SINGLE_WORKER, WorkerGroup


class TowerOutputs(NamedTuple):
    """L2-normalised features (B, E) in the parameters' format, and copies of the loss's scalars.

    The scalars are outputs of the towers, so that they get their gradients together with the features.
    """

    image_BE: Tensor
    text_BE: Tensor
    scalars: tuple[Tensor, ...]


class MicroBatch(NamedTuple):
    """Images and captions that pass the towers together."""

    image_BCHW: Tensor
    token_BL: Tensor


class AutogradStep:
    """Trains a model in place; it owns the optimiser's state.

    Several workers, each with its part of the batch in the order of ranks, take the step that one would take with all
    of it. So does a batch in micro-batches, at the price of passing all but one of them through the towers twice. Batch
    normalisation is the exception to both: each worker's micro-batch is normalised by its own statistics, as in
    open_clip's trainings, and the running ones, those of the first worker, move once per micro-batch.
    """

    def __init__(self, model: CLIP, rule: StepOptions, device: torch.device, group: WorkerGroup | None = None) -> None:
        """Move the model to the device; all workers start from the first one's weights.

        On a GPU, convolutions search for the fastest algorithm, which is a setting of the whole process.
        """
        group = group or SINGLE_WORKER
        self.model = model.to(device)
        self._rule = rule
        self._device = device
        if device.type == "cuda" and isinstance(model.visual, ModifiedResNet):
            model.visual.to(memory_format=torch.channels_last)
            torch.backends.cudnn.benchmark = True
        self._towers = AutogradTowers(model, rule.precision, compiled=rule.compile)
        self._shared: nn.Module = self._towers
        if group.size > 1:  # backward passes then average the workers' gradients, bucket by bucket
            on_cpu = device.type == "cpu"
            self._shared = DistributedDataParallel(
                self._towers,
                device_ids=None if on_cpu else [device],
                process_group=group.handle,
                gradient_as_bucket_view=True,
                # All are used. But else the buckets change after a process's first step, and with them the order in
                # which three workers or more add: a trial that goes on would have other last bits.
                find_unused_parameters=on_cpu,
            )
        self._loss = FeatureLoss(rule.loss, group, rule.terms)
        self._pixels = PixelNormaliser(rule.mean, rule.std, device)
        trained = [value for value in model.parameters() if value.requires_grad]
        matrices = [value for value in trained if value.ndim >= 2]
        self._optimizer = StepOptimizer([model], matrices, [value for value in trained if value.ndim < 2], rule)
        self._norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """Load the model's optimiser state; call it after the model's weights were restored."""
        self._optimizer.load(states)

    def optimizer_state(self, index: int = 0) -> OptimizerState:
        """Return the optimiser state for a checkpoint: the same on every worker, and readable by `FusedStep` too."""
        return self._optimizer.export_state(index)

    def compute_gradient_norms(self) -> Tensor:
        """Return the length of each model's gradient at the last step (M,)."""
        return self._optimizer.compute_gradient_norms()

    def __call__(
        self, image_SCHW: Tensor, second: Tensor, rate: float, temperatures: Sequence[float | None] = ()
    ) -> Tensor:
        """Take one step on this worker's pairs (uint8, int64), and return the global batch's loss before it (1,).

        A scheduled temperature is set first. Raise InputError if a worker has fewer pairs than micro-batches, and
        WorkError if the model cannot be compiled.
        """
        set_scheduled_temperatures([self.model], temperatures)
        if not self.model.training:
            self.model.train()
        loss = self.gradients(image_SCHW, second)
        self._optimizer.set_rate(rate)
        self._optimizer.step()
        return loss

    def gradients(self, image_BCHW: Tensor, token_BL: Tensor) -> Tensor:
        """Return the global batch's loss (1,), and write every parameter's gradient, the same on every worker."""
        parts = self._split_batch(image_BCHW, token_BL)
        self.model.zero_grad()
        with explain_compile_errors() if self._rule.compile else nullcontext():
            return self._backpropagate_parts(*parts)

    def _backpropagate_parts(self, first: MicroBatch, *others: MicroBatch) -> Tensor:
        """Backpropagate part by part: the loss needs all outputs, but only the first part's graph is kept in memory."""
        with torch.no_grad(), _pause_norm_tracking(self._norms):  # computed again once their gradients are known
            seen = [self._encode_part(self._towers, part) for part in others]
        with self._skip_gradient_sync(unless=not others):
            kept = self._encode_part(self._shared, first)
            image_BE = torch.cat([each.image_BE.detach() for each in (kept, *seen)])
            text_BE = torch.cat([each.text_BE.detach() for each in (kept, *seen)])
            loss, whole = self._loss(image_BE, text_BE, kept.scalars)
            sizes = [len(part.token_BL) for part in (first, *others)]
            images, texts = torch.split(whole.image_BE, sizes), torch.split(whole.text_BE, sizes)
            scalars = [()] * len(others) + [whole.scalars]  # once, with the last part
            gradient, *later = [TowerOutputs(*part) for part in zip(images, texts, scalars, strict=True)]
            _run_backward(kept, gradient)
        for part, gradient in zip(others, later, strict=True):
            with self._skip_gradient_sync(unless=part is others[-1]):
                _run_backward(self._encode_part(self._shared, part), gradient)
        return loss

    def _split_batch(self, image_BCHW: Tensor, token_BL: Tensor) -> list[MicroBatch]:
        """Return the micro-batches, on the device."""
        number = self._rule.micro_batches
        if len(image_BCHW) < number:
            raise InputError(
                f"a worker's {len(image_BCHW)} pairs cannot be cut into {number} micro-batches: make train.batch_size "
                f"at least {number} for each worker, or train.micro_batches smaller"
            )
        if self._device.type == "cpu" and not self._rule.compile:  # a GPU and a compiled pass need one shape
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

    def _skip_gradient_sync(self, *, unless: bool) -> AbstractContextManager[None]:
        """Skip the workers' exchange of gradients, except with the last micro-batch."""
        if unless or not isinstance(self._shared, DistributedDataParallel):
            return nullcontext()
        return self._shared.no_sync()


class AutogradTowers(nn.Module):
    """Both towers and the loss's scalars; bfloat16 is by autocast."""

    def __init__(self, model: CLIP, precision: Precision, *, compiled: bool) -> None:
        super().__init__()
        self.model = model
        self._precision = precision
        self._image: Callable[[Tensor], Tensor] = self._encode_image
        self._text: Callable[[Tensor], Tensor] = self._encode_text
        if compiled:  # separately, so that one tower's gradients are exchanged during the other's pass
            self._image = torch.compile(self._encode_image, dynamic=False)
            self._text = torch.compile(self._encode_text, dynamic=False)

    def forward(self, image_BCHW: Tensor, token_BT: Tensor) -> TowerOutputs:
        """Return the outputs for normalised images, and for tokens that may be cut after the longest caption."""
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
        """Return the tokens up to the longest caption's end, which are all that a causal text tower uses.

        It reads the values of `token_BL`, so a GPU would have to wait.
        """
        if not _has_plain_text_tower(self.model) or self.model.attn_mask is None:
            return token_BL
        pooled_BL = (token_BL == self.model.text_eos_id).int() if self.model.text_pool_type == "eos" else token_BL
        last = int(pooled_BL.argmax(dim=1).max())
        return token_BL[:, : last + 1]

    def _normalize_features(self, feature_BE: Tensor) -> Tensor:
        return normalize(feature_BE.to(self.model.logit_scale.dtype), dim=-1)

    def _encode_image(self, image_BCHW: Tensor) -> Tensor:
        feature_BE: Tensor = self.model.encode_image(image_BCHW)
        return feature_BE

    def _encode_text(self, token_BT: Tensor) -> Tensor:
        """Return the output of open_clip's `encode_text` for captions that may be cut."""
        model, tokens = self.model, token_BT.shape[1]
        if not _has_plain_text_tower(model):
            encoded_BE: Tensor = model.encode_text(token_BT)
            return encoded_BE
        mask_TT = None if model.attn_mask is None else model.attn_mask[:tokens, :tokens]
        x_BTD = model.token_embedding(token_BT) + model.positional_embedding[:tokens]
        x_BTD = model.ln_final(model.transformer(x_BTD, attn_mask=mask_TT))
        x_BD: Tensor = text_global_pool(x_BTD, token_BT, model.text_pool_type, model.text_eos_id)
        if isinstance(model.text_projection, nn.Linear):
            projected_BE: Tensor = model.text_projection(x_BD)
            return projected_BE
        return x_BD if model.text_projection is None else x_BD @ model.text_projection


def _has_plain_text_tower(model: nn.Module) -> bool:
    """Return whether the text tower's parts are the model's own, as in CLIP, and not those of a module `text`."""
    return hasattr(model, "token_embedding")


def _run_backward(outputs: TowerOutputs, gradient: TowerOutputs) -> None:
    """Backpropagate through the towers, except from outputs of frozen parameters."""
    pairs = [(outputs.image_BE, gradient.image_BE), (outputs.text_BE, gradient.text_BE)]
    if gradient.scalars:
        pairs += zip(outputs.scalars, gradient.scalars, strict=True)
    trained = [(output, value) for output, value in pairs if output.requires_grad]
    torch.autograd.backward([output for output, _ in trained], [value for _, value in trained])


@contextmanager
def _pause_norm_tracking(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Use batch statistics without updating the running ones."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class FeatureLoss:
    """A contrastive loss with its added terms, over the pairs of all workers of a group."""

    def __init__(self, kind: LossKind, group: WorkerGroup, terms: LossTerms = NO_TERMS) -> None:
        self._loss = make_worker_loss(kind)
        self._terms = terms
        self._group = group

    @torch.enable_grad()
    def __call__(self, image_BE: Tensor, text_BE: Tensor, scalars: Sequence[Tensor]) -> tuple[Tensor, TowerOutputs]:
        """Return the global batch's loss (1,), and its gradients by L2-normalised features (B, E) and scalars.

        `scalars` are the log of the logit scale and, if the model has it, the bias. A parameter's gradient of the
        global loss is the mean over workers of what each backpropagates from these, which DistributedDataParallel
        takes.
        """
        own_BF = _make_leaf(torch.cat([image_BE, text_BE], dim=1))
        all_AF = _make_leaf(self._group.gather_rows(own_BF.detach()))
        leaves = [_make_leaf(value) for value in scalars]
        rows = GatheredFeatures.of(own_BF, all_AF, first=self._group.rank * len(image_BE))
        loss = self._loss(rows, leaves[0].exp(), *leaves[1:])
        if self._terms != NO_TERMS:  # over all pairs, as the log of a mean is not the mean of workers' logs
            loss = loss + sum_loss_terms(self._terms, rows.image_AE, rows.text_AE)
        own_grad_BF, all_grad_AF, *rest = torch.autograd.grad(loss, [own_BF, all_AF, *leaves], materialize_grads=True)
        image_grad_BE, text_grad_BE = (own_grad_BF + self._group.reduce_to_own_rows(all_grad_AF)).chunk(2, dim=1)
        return self._group.mean(loss.detach().view(1)), TowerOutputs(image_grad_BE, text_grad_BE, tuple(rest))


def _make_leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_()


@contextmanager
def explain_compile_errors() -> Iterator[None]:
    """Raise WorkError with a remedy if torch.compile fails for lack of a compiler."""
    try:
        yield
    except RuntimeError as error:
        # The base class of torch.compile's errors is not public, so it is known by its name.
        if not any(base.__name__ == "TorchDynamoException" for base in type(error).__mro__):
            raise
        raise WorkError(
            f"torch.compile could not compile the model on this machine: {first_line_of_error(error)}\n"
            "It needs a C++ compiler (g++, or the one that the variable CXX names), and Triton on a GPU. Install it, "
            "or train without compile: the numbers are the same but for rounding."
        ) from error
