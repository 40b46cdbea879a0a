"""One step of a training: features of both towers, the contrastive loss, gradients by hand, AdamW on the masters.

Several trials of one shape may take their steps together ("packed"): their parameters are stacked, and one pass does
the products of all. Numbers are the same but for the order of sums.

Index letters: M models, S samples of all models, Z = S / M samples of a model, E embedding, N patches of all samples,
I values of a patch, L caption positions, T the positions that are used.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn.functional import normalize

from gapctl.models.layer import Layer
from gapctl.models.losses import contrastive_loss
from gapctl.models.pixels import Pixels
from gapctl.models.sharing import SecondUses, second_names
from gapctl.models.stacked import by_model
from gapctl.models.temperature import set_temperature
from gapctl.models.towers import Captions, ImageTower, TextTower, cut_captions
from gapctl.models.two_images import SECOND, sees_images_twice
from gapctl.models.weight import Weights
from gapctl.spec.presets import PatchTower, Preset
from gapctl.training.captured import Captured
from gapctl.training.masters import Masters
from gapctl.training.optimizer import Optimizer, OptimizerState
from gapctl.training.precision import dtype_of
from gapctl.training.rule import StepRule
from gapctl.training.temperature_rate import TemperatureRate


class TrainingStep:
    """Trains models in place; they, for evaluations, and the optimiser's state, for checkpoints, are its own."""

    def __init__(self, models: Sequence[CLIP], preset: Preset, rule: StepRule) -> None:
        """All models were built from one preset and are trained by one rule, whole batches at a time."""
        if not isinstance(preset.image, PatchTower):
            raise ValueError("the hand-written pass is for vision transformers; OpenStep trains all models")
        self.models = models
        self._format = dtype_of(rule.precision)
        self._masters = Masters(models, self._format)
        self._optimizer = Optimizer(self._masters, rule)
        self._temperatures = TemperatureRate(models, rule)
        self._second_uses = SecondUses(self._masters.weights, second_names(models[0]))
        weights = {**self._masters.weights, **self._second_uses.weights}
        self._images_twice = sees_images_twice(models[0])
        self._image = ImageTower(weights, preset.image)
        self._second: Callable[[Any], Layer] = (
            ImageTower(weights, preset.image, SECOND) if self._images_twice else TextTower(weights, preset.text)
        )
        self._patch_size = preset.image.patch_size
        self._end = models[0].text_eos_id
        self._loss = contrastive_loss(rule.loss, rule.terms)
        device = models[0].logit_scale.device
        self._pixels = Pixels(rule.mean, rule.std, device)
        self._on_gpu = device.type == "cuda"
        self._take = Captured(self._steps) if self._on_gpu else self._steps
        self._device = device

    @property
    def weights(self) -> Weights:
        """The trainable parameters by open_clip's names, each with the gradient of the last step."""
        return self._masters.weights

    def load(self, states: Sequence[OptimizerState | None]) -> None:
        """To be called after checkpoints were read into the models, with what each kept of the optimiser."""
        self._optimizer.load(states)
        self._masters.refresh()

    def optimizer_state(self, index: int) -> OptimizerState:
        """What the checkpoint of the model in this place keeps of the optimiser."""
        return self._optimizer.state_of(index)

    def __call__(self, image_SCHW: Tensor, second: Tensor, rate: float, temperature: float | None = None) -> Tensor:
        """Takes one step on images, uint8, and tokens, int64, and returns each model's loss before it (M,).

        Models whose second side is images see images like the first in place of tokens.
        `temperature` is set before the step where it follows a schedule.
        """
        if temperature is not None:
            for model in self.models:
                set_temperature(model, temperature)
        self._optimizer.set_rate(rate)
        return self._take(image_SCHW.to(self._device), second.to(self._device))

    def _steps(self, image_SCHW: Tensor, second: Tensor) -> Tensor:
        seen = self.normalised_patches(second) if self._images_twice else self.captions(second)
        loss_M = self.gradients(self.normalised_patches(image_SCHW), seen)
        self._temperatures.move(self._optimizer.step)
        self._masters.refresh()
        return loss_M

    def normalised_patches(self, image_SCHW: Tensor) -> Tensor:
        """Patches (N, I) as the image tower takes them, in the format of products."""
        return self._pixels.patches(image_SCHW, self._patch_size).to(self._format)

    def captions(self, token_SL: Tensor) -> Captions:
        """The captions as the text tower takes them; a GPU's are not cut, because its steps must be of one shape."""
        return cut_captions(token_SL, self._end, whole=self._on_gpu)

    @torch.no_grad()
    def gradients(self, patch_NI: Tensor, second: Captions | Tensor) -> Tensor:
        """Each model's loss (M,); every master's gradient is written on the way.

        `second` are captions, or patches like the first where models see images twice.
        """
        image, text = self._image(patch_NI), self._second(second)
        losses = self._stacked_losses if len(self.models) > 1 else self._one_loss
        loss_M, image_grad_SE, text_grad_SE = losses(image.output, text.output)
        image.pullback(image_grad_SE)
        text.pullback(text_grad_SE)
        self._second_uses.add()
        return loss_M

    @torch.enable_grad()
    def _one_loss(self, image_SE: Tensor, text_SE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and its gradients by both towers' outputs; those by temperature and bias are written."""
        (model,) = self.models
        leaves = [image_SE.detach().requires_grad_(), text_SE.detach().requires_grad_()]
        scalars = [name for name in ("logit_scale", "logit_bias") if name in self._masters.weights]
        parameters = [getattr(model, name) for name in scalars]
        features = [normalize(leaf, dim=-1) for leaf in leaves]
        bias = [] if model.logit_bias is None else [model.logit_bias]
        loss = self._loss(*features, model.logit_scale.exp(), *bias)
        image_grad_SE, text_grad_SE, *rest = torch.autograd.grad(loss, [*leaves, *parameters])
        for name, gradient in zip(scalars, rest, strict=True):
            self._masters.weights[name].grad.copy_(gradient)
        return loss.detach().unsqueeze(0), image_grad_SE, text_grad_SE

    def _stacked_losses(self, image_SE: Tensor, text_SE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same for each model by its own samples."""
        names = ["logit_scale"] if self.models[0].logit_bias is None else ["logit_scale", "logit_bias"]
        scalars = [torch.stack([getattr(model, name).detach() for model in self.models]) for name in names]
        clouds = [by_model(rows_SE, len(self.models)) for rows_SE in (image_SE, text_SE)]
        inputs = (*clouds, *scalars)
        each = torch.func.grad_and_value(self._loss_of, argnums=tuple(range(len(inputs))))
        gradients, loss_M = torch.func.vmap(each)(*inputs)
        for name, gradient_M in zip(names, gradients[2:], strict=True):
            if name in self._masters.weights:
                self._masters.weights[name].grad.copy_(gradient_M)
        return loss_M, gradients[0].flatten(0, 1), gradients[1].flatten(0, 1)

    def _loss_of(self, image_ZE: Tensor, text_ZE: Tensor, log_scale: Tensor, *bias: Tensor) -> Tensor:
        return self._loss(normalize(image_ZE, dim=-1), normalize(text_ZE, dim=-1), log_scale.exp(), *bias)
