"""Take one training step by hand: features of both towers, contrastive loss, gradients, AdamW on the master weights.

1. `MasterWeights` gathers the models' parameters in two flat arrays, with gradients and a copy in the products' format.
2. `FusedStep.gradients` runs the towers of `models.fused`, the loss, and the towers' pullbacks.
3. `StepOptimizer` updates the master weights; on a GPU, `CudaGraph` replays the whole step.

Several trials of one shape may take their steps together ("packed"): their parameters are stacked, and one pass does
the products of all. Numbers are the same but for the order of sums.

Index letters: M models, S samples of all models, Z = S / M samples of a model, E embedding, N patches of all samples, I
values of a patch, L caption positions, T the positions that are used.
"""

import ctypes
import gc
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, NamedTuple

import torch
from open_clip.model import CLIP
from torch import Tensor, nn
from torch.nn.functional import normalize

from gapctl.config.presets import PatchTower, Preset
from gapctl.models.build import (
    SECOND_ENCODER,
    PixelNormaliser,
    TiedGradients,
    is_image_image,
    map_tied_parameter_names,
    set_scheduled_temperatures,
)
from gapctl.models.fused import (
    CaptionTokens,
    ImageTower,
    TextTower,
    Weight,
    WeightMap,
    WithVJP,
    cut_captions,
    split_by_model,
)
from gapctl.models.losses import find_equal_captions, make_contrastive_loss
from gapctl.training.optimizer import OptimizerState, StepOptimizer
from gapctl.training.step_options import StepOptions, choose_product_dtype

WARM_UP_STEPS = 3
"""Steps before the recording, which must not contain first allocations or choices of kernels."""

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
MADV_HUGEPAGE: Final = 14
"""Constants of glibc's malloc.h and Linux's mman.h."""

LARGEST_INT: Final = 2**31 - 1
HEAP_BLOCK: Final = 2**30
"""Largest block that is allocated on the heap, which keeps freed memory."""
LARGE_PAGE: Final = 2**21
LARGE_PAGES_BYTES: Final = 2**27
"""Address space for one step of the presets; untouched pages take no memory."""


class FusedStep:
    """Trains models in place by the hand-written pass; it owns the optimiser's state."""

    def __init__(self, models: Sequence[CLIP], preset: Preset, rule: StepOptions) -> None:
        """Take over models that were built from one preset and are trained with the same options, in whole batches.

        Raise ValueError for a preset that is not a vision transformer.
        """
        if not isinstance(preset.image, PatchTower):
            raise ValueError("the hand-written pass is for vision transformers; AutogradStep trains all models")
        self.models = models
        self._format = choose_product_dtype(rule.precision)
        self._masters = MasterWeights(models, self._format)
        self._device = models[0].logit_scale.device
        self._on_gpu = self._device.type == "cuda"
        matrices, vectors = [self._masters.matrices.exact], [self._masters.vectors.exact]
        self._optimizer = StepOptimizer(models, matrices, vectors, rule, capturable=self._on_gpu)
        self._second_uses = TiedGradients(self._masters.weights, map_tied_parameter_names(models[0]))
        weights = {**self._masters.weights, **self._second_uses.weights}
        self._images_twice = is_image_image(models[0])
        self._image = ImageTower(weights, preset.image)
        self._second: Callable[..., WithVJP] = (
            ImageTower(weights, preset.image, SECOND_ENCODER) if self._images_twice else TextTower(weights, preset.text)
        )
        self._patch_size = preset.image.patch_size
        self._end = models[0].text_eos_id
        self._loss = make_contrastive_loss(rule.loss, rule.terms, masked=rule.masked)
        self._masked = rule.masked
        self._pixels = PixelNormaliser(rule.mean, rule.std, self._device)
        self._take = CudaGraph(self._run_step) if self._on_gpu else self._run_step

    @property
    def weights(self) -> WeightMap:
        """The trainable parameters by open_clip's names, each with the gradient of the last step."""
        return self._masters.weights

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """Load an optimiser state for each model; call it after the models' weights were restored."""
        self._optimizer.load(states)
        self._masters.refresh()

    def optimizer_state(self, index: int = 0) -> OptimizerState:
        """Return the optimiser state of the model at `index`, for its checkpoint."""
        return self._optimizer.export_state(index)

    def compute_gradient_norms(self) -> Tensor:
        """Return the length of each model's gradient at the last step (M,)."""
        return self._optimizer.compute_gradient_norms()

    def __call__(
        self, image_SCHW: Tensor, second: Tensor, rate: float, temperatures: Sequence[float | None] = ()
    ) -> Tensor:
        """Set scheduled temperatures, take one step, and return each model's loss before it (M,).

        Images are uint8 and `second` are tokens (int64), or images where both sides are images.
        """
        set_scheduled_temperatures(self.models, temperatures)
        self._optimizer.set_rate(rate)
        return self._take(image_SCHW.to(self._device), second.to(self._device))

    def _run_step(self, image_SCHW: Tensor, second: Tensor) -> Tensor:
        seen = self.cut_normalised_patches(second) if self._images_twice else self.captions(second)
        loss_M = self.gradients(self.cut_normalised_patches(image_SCHW), seen)
        self._optimizer.step()
        self._masters.refresh()
        return loss_M

    def cut_normalised_patches(self, image_SCHW: Tensor) -> Tensor:
        """Return patches (N, I) for the image tower, normalised and in the format of products."""
        return self._pixels.cut_normalised_patches(image_SCHW, self._patch_size).to(self._format)

    def captions(self, token_SL: Tensor) -> CaptionTokens:
        """Return captions for the text tower. On a GPU padding stays, because a graph's steps must be of one shape."""
        return cut_captions(token_SL, self._end, whole=self._on_gpu)

    @torch.no_grad()
    def gradients(self, patch_NI: Tensor, second: CaptionTokens | Tensor) -> Tensor:
        """Return each model's loss (M,), and write the gradient of every master weight.

        `second` are captions, or patches like the first if the second side is images.
        """
        image, text = self._image(patch_NI), self._second(second)
        losses = self._compute_stacked_losses if len(self.models) > 1 else self._compute_one_loss
        equal_MZZ = None
        if self._masked:
            assert isinstance(second, CaptionTokens)  # as the configuration makes sure
            equal_MZZ = find_equal_captions(split_by_model(second.token_ST, len(self.models)))
        loss_M, image_grad_SE, text_grad_SE = losses(image.output, text.output, equal_MZZ)
        image.pullback(image_grad_SE)
        text.pullback(text_grad_SE)
        self._second_uses.add()
        return loss_M

    @torch.enable_grad()
    def _compute_one_loss(
        self, image_SE: Tensor, text_SE: Tensor, equal_MZZ: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss and its gradients by both towers' outputs, and write those by temperature and bias."""
        (model,) = self.models
        leaves = [image_SE.detach().requires_grad_(), text_SE.detach().requires_grad_()]
        scalars = [name for name in ("logit_scale", "logit_bias") if name in self._masters.weights]
        parameters = [getattr(model, name) for name in scalars]
        features = [normalize(leaf, dim=-1) for leaf in leaves]
        bias = [] if model.logit_bias is None else [model.logit_bias]
        equal = [] if equal_MZZ is None else [equal_MZZ.reshape(len(image_SE), -1)]
        loss = self._loss(*features, model.logit_scale.exp(), *bias, *equal)
        image_grad_SE, text_grad_SE, *rest = torch.autograd.grad(loss, [*leaves, *parameters])
        for name, gradient in zip(scalars, rest, strict=True):
            self._masters.weights[name].grad.copy_(gradient)
        return loss.detach().unsqueeze(0), image_grad_SE, text_grad_SE

    def _compute_stacked_losses(
        self, image_SE: Tensor, text_SE: Tensor, equal_MZZ: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same for each model from its own samples."""
        names = ["logit_scale"] if self.models[0].logit_bias is None else ["logit_scale", "logit_bias"]
        scalars = [torch.stack([getattr(model, name).detach() for model in self.models]) for name in names]
        clouds = [split_by_model(rows_SE, len(self.models)) for rows_SE in (image_SE, text_SE)]
        inputs = (*clouds, *scalars)

        equal = [] if equal_MZZ is None else [equal_MZZ]

        def compute_loss(image_ZE: Tensor, text_ZE: Tensor, log_scale: Tensor, *others: Tensor) -> Tensor:
            return self._loss(normalize(image_ZE, dim=-1), normalize(text_ZE, dim=-1), log_scale.exp(), *others)

        each = torch.func.grad_and_value(compute_loss, argnums=tuple(range(len(inputs))))
        gradients, loss_M = torch.func.vmap(each)(*inputs, *equal)
        for name, gradient_M in zip(names, gradients[2:], strict=True):
            if name in self._masters.weights:
                self._masters.weights[name].grad.copy_(gradient_M)
        return loss_M, gradients[0].flatten(0, 1), gradients[1].flatten(0, 1)


class FlatParameters(NamedTuple):
    """One flat array of parameters: `exact` the master weights with their gradient, `fast` the copy for products."""

    exact: nn.Parameter
    fast: Tensor

    def refresh(self) -> None:
        """Copy the master weights into the products' format."""
        if self.fast.dtype != self.exact.dtype:
            self.fast.copy_(self.exact.detach())


class MasterWeights:
    """Takes over the models' trainable parameters, which become views of the master weights."""

    def __init__(self, models: Sequence[nn.Module], fast: torch.dtype) -> None:
        """Gather the parameters; products run in `fast`. Matrices and vectors are apart, because only matrices decay.

        The models must have parameters of the same names and shapes. One model's arrays are (parameters,), those of
        more are (models, parameters), and each weight is then stacked.
        """
        self.weights: dict[str, Weight] = {}
        self.matrices = self._take(models, lambda value: value.ndim >= 2, fast)
        self.vectors = self._take(models, lambda value: value.ndim < 2, fast)

    def refresh(self) -> None:
        """Update the copies for products; call it after every optimiser's step and after restoring a checkpoint."""
        self.matrices.refresh()
        self.vectors.refresh()

    def _take(self, models: Sequence[nn.Module], wanted: Callable[[Tensor], bool], fast: torch.dtype) -> FlatParameters:
        taken = [
            {name: value for name, value in model.named_parameters() if value.requires_grad and wanted(value)}
            for model in models
        ]
        rows = [torch.cat([value.detach().flatten() for value in parameters.values()]) for parameters in taken]
        joint = rows[0] if len(rows) == 1 else torch.stack(rows)
        flat = FlatParameters(nn.Parameter(joint), joint if fast == joint.dtype else joint.to(fast))
        gradient = torch.zeros_like(joint)
        flat.exact.grad = gradient
        start = 0
        for name, first in taken[0].items():
            stop = start + math.prod(first.shape)
            shape = (*joint.shape[:-1], *first.shape)
            exact, quick, grad = (array[..., start:stop].view(shape) for array in (joint, flat.fast, gradient))
            self.weights[name] = Weight(exact, quick, grad, stacked=len(models) > 1)
            for index, parameters in enumerate(taken):
                parameters[name].data = exact[index] if len(models) > 1 else exact
            start = stop
        return flat


class CudaGraph:
    """Calls a function of tensors of constant shapes, and replays its GPU work from the fourth call on.

    The function must read and write the same memory each time: parameters, gradients and moments that stay in place.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return the function's output for these inputs, in memory of its own."""
        self._calls += 1
        if self._calls <= WARM_UP_STEPS:
            return self._run_on_side_stream(inputs)
        if self._graph is None:
            self._record_graph(inputs)
        for place, value in zip(self._inputs, inputs, strict=True):
            place.copy_(value)
        assert self._graph is not None
        self._graph.replay()
        return self._output.clone()

    def _run_on_side_stream(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Run the function on a side stream, as CUDA requires before a recording."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            output = self._function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return output

    def _record_graph(self, inputs: tuple[Tensor, ...]) -> None:
        """Record the function without running it."""
        gc.collect()  # a graph of a replaced step must not be freed during a recording
        self._inputs = tuple(value.clone() for value in inputs)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._output = self._function(*self._inputs)


@cache
def keep_freed_memory() -> None:
    """Make glibc keep freed memory and use large pages, once per process; do nothing with another C library.

    Returning and refaulting the pages of activations would cost part of every step.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt, malloc, free, madvise = libc.mallopt, libc.malloc, libc.free, libc.madvise
    except (OSError, AttributeError, TypeError):
        return
    mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK)
    mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.argtypes = [ctypes.c_void_p]
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = malloc(LARGE_PAGES_BYTES)
    if block:
        first = -(-block // LARGE_PAGE) * LARGE_PAGE
        madvise(first, (block + LARGE_PAGES_BYTES - first) // LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE)
        free(block)
