"""One step of a training: features of both towers, the contrastive loss, gradients by hand, AdamW on the masters.

Index letters: S samples, E embedding.
"""

import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn.functional import normalize

from gapctl.data.feed import Batch
from gapctl.data.mad.captions import END_TOKEN
from gapctl.models.losses import contrastive_loss
from gapctl.models.temperature import clamp_temperature
from gapctl.models.towers import Captions, ImageTower, TextTower, cut_captions, patches
from gapctl.models.weight import Weights
from gapctl.spec.presets import PRESETS
from gapctl.spec.trial import TrialConfig
from gapctl.training.masters import Masters
from gapctl.training.optimizer import build_optimizer
from gapctl.training.precision import Resolved, dtype_of


class TrainingStep:
    """Trains a model in place; the model, for evaluations, and the optimiser, for checkpoints, are its own."""

    def __init__(self, model: CLIP, config: TrialConfig, precision: Resolved) -> None:
        self.model = model
        self._config = config
        self._masters = Masters(model, dtype_of(precision))
        self.optimizer = build_optimizer(self._masters, config.train)
        preset = PRESETS[config.model.preset]
        self._image = ImageTower(self._masters.weights, preset)
        self._text = TextTower(self._masters.weights, preset)
        self._patch_size = preset.patch_size
        self._format = dtype_of(precision)
        self._loss = contrastive_loss(config.loss.kind)

    @property
    def weights(self) -> Weights:
        """The trainable parameters by open_clip's names, each with the gradient of the last step."""
        return self._masters.weights

    def refresh(self) -> None:
        """To be called after a checkpoint was read into the model."""
        self._masters.refresh()

    def __call__(self, batch: Batch, rate: float) -> Tensor:
        """Takes one step at a learning rate and returns the loss before it, a scalar."""
        device = self.model.logit_scale.device
        patch_NI = normalised_patches(batch, self._patch_size, self._format, device)
        token_ST, end_S = cut_captions(torch.from_numpy(batch.tokens_BL), END_TOKEN)
        loss = self.gradients(patch_NI, Captions(token_ST.to(device), end_S.to(device)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        clamp_temperature(self.model)
        self._masters.refresh()
        return loss

    @torch.no_grad()
    def gradients(self, patch_NI: Tensor, captions: Captions) -> Tensor:
        """The loss, a scalar; every master's gradient is written on the way."""
        image, text = self._image(patch_NI), self._text(captions)
        loss, image_grad_SE, text_grad_SE = self._loss_and_gradients(image.output, text.output)
        image.pullback(image_grad_SE)
        text.pullback(text_grad_SE)
        return loss

    @torch.enable_grad()
    def _loss_and_gradients(self, image_SE: Tensor, text_SE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss and its gradients by both towers' outputs; those by temperature and bias are written."""
        leaves = [image_SE.detach().requires_grad_(), text_SE.detach().requires_grad_()]
        scalars = [name for name in ("logit_scale", "logit_bias") if name in self._masters.weights]
        parameters = [getattr(self.model, name) for name in scalars]
        features = [normalize(leaf, dim=-1) for leaf in leaves]
        bias = [] if self.model.logit_bias is None else [self.model.logit_bias]
        loss = self._loss(*features, self.model.logit_scale.exp(), *bias)
        image_grad_SE, text_grad_SE, *rest = torch.autograd.grad(loss, [*leaves, *parameters])
        for name, gradient in zip(scalars, rest, strict=True):
            self._masters.weights[name].grad.copy_(gradient)
        return loss.detach(), image_grad_SE, text_grad_SE


def normalised_patches(batch: Batch, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A batch's patches in [-1, 1], cut while they are bytes because those are the fewest to move."""
    patch_NI = patches(torch.from_numpy(batch.images_BCHW).to(device), size)
    return patch_NI.float().div_(127.5).sub_(1.0).to(dtype)
