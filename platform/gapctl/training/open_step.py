"""One step of training any of open_clip's models, by autograd, on one worker or many, a batch at once or in parts.

Index letters: B pairs of this worker, C colours, H and W pixels, L caption positions.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from open_clip.model import CLIP
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gapctl.errors import InputError
from gapctl.models.pixels import Pixels
from gapctl.models.temperature import set_temperature
from gapctl.training.compiling import compile_errors_in_words
from gapctl.training.feature_loss import FeatureGradients, FeatureLoss
from gapctl.training.group import ALONE, Group
from gapctl.training.open_optimizer import OpenOptimizer
from gapctl.training.open_towers import OpenTowers, TowerOutputs
from gapctl.training.optimizer import OptimizerState
from gapctl.training.rule import StepRule
from gapctl.training.temperature_rate import TemperatureRate


class Part(NamedTuple):
    """Images and captions that go through the towers together."""

    image_BCHW: Tensor
    token_BL: Tensor


class OpenStep:
    """Trains a model in place; the optimiser's state, for checkpoints, is its own.

    Several workers, each with its part of the batch in the order of ranks, take the step that one would take with all
    of it. So does a batch in micro-batches, at the price of passing all but one of them through the towers twice.
    Batch normalisation is the exception to both: each worker's micro-batch is normalised by its own statistics, as in
    open_clip's trainings, and the running ones, those of the first worker, move once per micro-batch.
    """

    def __init__(self, model: CLIP, rule: StepRule, device: torch.device, group: Group | None = None) -> None:
        """The model is moved to the device; workers begin from the first one's weights.

        On a GPU convolutions are tried out for the fastest algorithm, for the whole process.
        """
        group = group or ALONE
        self.model = model.to(device)
        self._rule = rule
        self._device = device
        if device.type == "cuda" and isinstance(model.visual, ModifiedResNet):
            model.visual.to(memory_format=torch.channels_last)
            torch.backends.cudnn.benchmark = True
        self._towers = OpenTowers(model, rule.precision, compiled=rule.compile)
        self._shared = _shared(self._towers, device, group)
        self._loss = FeatureLoss(rule.loss, group, rule.terms)
        self._pixels = Pixels(rule.mean, rule.std, device)
        self._optimizer = OpenOptimizer(model, rule)
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
        self._temperature.move(lambda: self._optimizer.step(rate))
        return loss

    def gradients(self, image_BCHW: Tensor, token_BL: Tensor) -> Tensor:
        """The global batch's loss (1,); every parameter's gradient by it is written, the same on every worker."""
        parts = self._parts(image_BCHW, token_BL)
        self._optimizer.forget_gradients()
        with compile_errors_in_words() if self._rule.compile else nullcontext():
            return self._gradients(*parts)

    def _gradients(self, first: Part, *others: Part) -> Tensor:
        """The loss needs all outputs; only the first part's are kept with what they were computed from."""
        seen = [self._looked_at(part) for part in others]
        with self._apart(unless=not others):
            kept = self._forward(self._shared, first)
            found = self._of_features([kept, *seen])
            gradient, *later = _cut(found, [len(part.token_BL) for part in (first, *others)])
            _backward(kept, gradient)
        for part, gradient in zip(others, later, strict=True):
            with self._apart(unless=part is others[-1]):
                _backward(self._forward(self._shared, part), gradient)
        return found.loss

    def _parts(self, image_BCHW: Tensor, token_BL: Tensor) -> list[Part]:
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
        return [Part(*pair) for pair in zip(images, tokens, strict=True)]

    def _forward(self, towers: nn.Module, part: Part) -> TowerOutputs:
        image_BCHW = self._pixels.images(part.image_BCHW).to(self.model.logit_scale.dtype)
        if self._device.type == "cuda" and self._norms:
            image_BCHW = image_BCHW.contiguous(memory_format=torch.channels_last)
        outputs: TowerOutputs = towers(image_BCHW, part.token_BL)
        return outputs

    @torch.no_grad()
    def _looked_at(self, part: Part) -> TowerOutputs:
        """The outputs alone; what they were computed from is computed again when their gradients are known."""
        with _without_tracking(self._norms):
            return self._forward(self._towers, part)

    def _of_features(self, outputs: Sequence[TowerOutputs]) -> FeatureGradients:
        image_BE = torch.cat([each.image_BE.detach() for each in outputs])
        text_BE = torch.cat([each.text_BE.detach() for each in outputs])
        return self._loss(image_BE, text_BE, outputs[0].scalars)

    def _apart(self, *, unless: bool) -> AbstractContextManager[None]:
        """Workers exchange gradients with the last micro-batch alone."""
        if unless or not isinstance(self._shared, DistributedDataParallel):
            return nullcontext()
        return self._shared.no_sync()


def _shared(towers: OpenTowers, device: torch.device, group: Group) -> nn.Module:
    """The towers as all workers share them: backward passes take the mean of their gradients, bucket by bucket."""
    if group.size == 1:
        return towers
    places = None if device.type == "cpu" else [device]
    return DistributedDataParallel(towers, device_ids=places, process_group=group.handle, gradient_as_bucket_view=True)


def _cut(found: FeatureGradients, sizes: list[int]) -> list[TowerOutputs]:
    """Each part's gradients by its outputs; the scalars' come once, with the last part."""
    images, texts = torch.split(found.image_BE, sizes), torch.split(found.text_BE, sizes)
    scalars = [()] * (len(sizes) - 1) + [found.scalars]
    return [TowerOutputs(*gradients) for gradients in zip(images, texts, scalars, strict=True)]


def _backward(outputs: TowerOutputs, gradient: TowerOutputs) -> None:
    """Through the towers, but for outputs that come from what is frozen."""
    pairs = [(outputs.image_BE, gradient.image_BE), (outputs.text_BE, gradient.text_BE)]
    if gradient.scalars:
        pairs += zip(outputs.scalars, gradient.scalars, strict=True)
    trained = [(output, value) for output, value in pairs if output.requires_grad]
    torch.autograd.backward([output for output, _ in trained], [value for _, value in trained])


@contextmanager
def _without_tracking(norms: Sequence[nn.BatchNorm2d]) -> Iterator[None]:
    """Batch statistics are used and not remembered."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
