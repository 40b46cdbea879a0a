"""What a model is measured on: a frozen gallery of held-out pairs and zero-shot prompts, the same at every step.

Index letters: N gallery pairs, L caption positions, C values of a factor, T prompt templates, D embedding.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP

from gapctl.data.feed import TrialData, caption_ids, normalised
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.gallery import frozen_gallery
from gapctl.data.mad.prompts import prompts
from gapctl.data.mad.render import render
from gapctl.metrics.class_prompts import ClassPrompts, ZeroShot, accuracies
from gapctl.metrics.effort import TRIAL
from gapctl.metrics.suite import Embeddings, measure
from gapctl.models.temperature import temperature_metrics
from gapctl.spec.trial import TrialConfig
from gapctl.training.precision import fast_attention

Floats = NDArray[np.float32]

CHUNK = 512
TEMPLATES = 32
PROMPT_SEED = 2404_07983


class Gallery(NamedTuple):
    """Held-out pairs: images uint8 (N, 3, 28, 28), captions int64 (N, L), labels int64 (N, 6) per factor."""

    images_NCHW: NDArray[np.uint8]
    tokens_NL: NDArray[np.int64]
    labels_NF: NDArray[np.int64]


class Encoded(NamedTuple):
    """A model's view of the gallery: embeddings with all labels, prompts for every factor, and the temperature."""

    embeddings: Embeddings
    zero_shot: ZeroShot
    temperature: dict[str, float]


class Evaluation:
    """Measures a model by every metric that a trial logs; float32 whatever the training computes in."""

    def __init__(self, data: TrialData, config: TrialConfig, device: torch.device) -> None:
        self._device = device
        self._main = config.data.main_factor
        self._gallery = gallery_of(data, config)
        captions = config.data.captions
        self._prompts_CTL = {
            factor: prompts(factor, self._main, captions.attributes, captions.order, TEMPLATES, PROMPT_SEED)
            for factor in FACTOR_NAMES
        }

    def measure(self, model: CLIP) -> dict[str, float]:
        """Every metric by its name."""
        encoded = self.encode(model)
        found = measure(encoded.embeddings, TRIAL)
        return {**found, **encoded.temperature, **accuracies(encoded.embeddings.image_ND, encoded.zero_shot)}

    @torch.no_grad()
    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from."""
        with fast_attention(self._device):
            image_ND = torch.cat([model.encode_image(images, normalize=True) for images in self._images()])
            text_ND = self._encode_text(model, self._gallery.tokens_NL)
            zero_shot = self._zero_shot(model)
        temperature = temperature_metrics(model)
        class_CD = zero_shot.questions[self._main].prompt_CD
        embeddings = self._embeddings(image_ND.cpu().numpy(), text_ND.cpu().numpy(), class_CD, temperature)
        return Encoded(embeddings, zero_shot, temperature)

    def _embeddings(
        self, image_ND: Floats, text_ND: Floats, class_CD: NDArray[np.floating], temperature: dict[str, float]
    ) -> Embeddings:
        main = FACTOR_NAMES.index(self._main)
        labels_NF = self._gallery.labels_NF
        return Embeddings(
            image_ND=image_ND,
            text_MD=text_ND,
            text_group_M=caption_ids(self._gallery.tokens_NL),
            labels_N=labels_NF[:, main],
            attributes_NF=np.delete(labels_NF, main, axis=1),
            class_CD=class_CD,
            logit_scale=temperature["temperature/logit_scale"],
        )

    def _zero_shot(self, model: CLIP) -> ZeroShot:
        questions = {
            factor: ClassPrompts(
                self._class_embeddings(model, self._prompts_CTL[factor]), self._gallery.labels_NF[:, column]
            )
            for column, factor in enumerate(FACTOR_NAMES)
        }
        return ZeroShot(questions, self._main)

    def _class_embeddings(self, model: CLIP, prompts_CTL: NDArray[np.int64]) -> Floats:
        values, templates, length = prompts_CTL.shape
        text_PD = self._encode_text(model, prompts_CTL.reshape(values * templates, length))
        mean_CD: Floats = text_PD.reshape(values, templates, -1).mean(dim=1).cpu().numpy()
        return mean_CD

    def _encode_text(self, model: CLIP, tokens_NL: NDArray[np.int64]) -> torch.Tensor:
        chunks = torch.split(torch.from_numpy(tokens_NL).to(self._device), CHUNK)
        return torch.cat([model.encode_text(chunk, normalize=True) for chunk in chunks])

    def _images(self) -> Iterator[torch.Tensor]:
        for chunk in torch.split(torch.from_numpy(self._gallery.images_NCHW), CHUNK):
            yield normalised(chunk.to(self._device))


def gallery_of(data: TrialData, config: TrialConfig) -> Gallery:
    """The frozen gallery of a configuration: the same pairs for every seed, captions by the arm's own rule."""
    captions = config.data.captions
    drawn = frozen_gallery(
        data.test.digit_labels_N,
        config.evaluate.gallery,
        config.data.main_factor,
        captions.attributes,
        captions.order,
    )
    images = render(data.test.images_NVHW, drawn.digit_B, drawn.variant_B, drawn.colour_B)
    return Gallery(images, drawn.tokens_BL, drawn.labels_B6)
