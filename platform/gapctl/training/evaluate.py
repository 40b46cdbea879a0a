"""What a model is measured on: a frozen gallery of held-out pairs and zero-shot prompts, the same at every step.

The towers are those that train, in float32: the same numbers as open_clip's own pass but for rounding, in less time.

Index letters: N gallery pairs, L caption positions, C values of a factor, T prompt templates, D embedding.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch.nn.functional import normalize

from gapctl.data.feed import TrialData, caption_ids, mad_data, normalised, training_sampler
from gapctl.data.mad.captions import END_TOKEN
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.gallery import GALLERY_SEED, frozen_gallery
from gapctl.data.mad.prompts import prompts
from gapctl.data.mad.render import render
from gapctl.metrics.class_prompts import ClassPrompts, ZeroShot
from gapctl.metrics.embedding_set import Embeddings
from gapctl.models.temperature import temperature_metrics
from gapctl.models.towers import ImageTower, TextTower, cut_captions, patches
from gapctl.models.weight import weights_for_reading
from gapctl.spec.presets import PRESETS, PatchTower
from gapctl.spec.trial import TrialConfig
from gapctl.training.evaluated import FITTED_ON, Encoded, Floats, TrainingPairs

CHUNK = 128
"""Samples at a time: few enough that a layer's rows are still in the cache for the next."""
TEMPLATES = 32
PROMPT_SEED = 2404_07983


class Gallery(NamedTuple):
    """Held-out pairs: images uint8 (N, 3, 28, 28), captions int64 (N, L), labels int64 (N, 6) per factor."""

    images_NCHW: NDArray[np.uint8]
    tokens_NL: NDArray[np.int64]
    labels_NF: NDArray[np.int64]


class _Towers:
    """A model's two encoders; embeddings are L2-normalised."""

    def __init__(self, model: CLIP, config: TrialConfig, device: torch.device) -> None:
        weights, preset = weights_for_reading(model), PRESETS[config.model.preset]
        assert isinstance(preset.image, PatchTower)  # as every preset with MAD's vocabulary has
        self._image, self._text = ImageTower(weights, preset.image), TextTower(weights, preset.text)
        self._patch_size = preset.image.patch_size
        self._device = device

    def images(self, image_NCHW: NDArray[np.uint8]) -> Floats:
        """Embeddings (N, D)."""
        parts = torch.split(torch.from_numpy(image_NCHW), CHUNK)
        return self._joined([self._image(patches(self._scaled(part), self._patch_size)).output for part in parts])

    def texts(self, token_NL: NDArray[np.int64]) -> Floats:
        """Embeddings (N, D)."""
        parts = torch.split(torch.from_numpy(token_NL).to(self._device), CHUNK)
        return self._joined([self._text(cut_captions(part, END_TOKEN)).output for part in parts])

    def _scaled(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        return normalised(image_BCHW.to(self._device))

    def _joined(self, parts: list[torch.Tensor]) -> Floats:
        unit_ND: Floats = normalize(torch.cat(parts), dim=-1).cpu().numpy()
        return unit_ND


class MadEvaluation:
    """Shows a model MAD's frozen gallery; float32 whatever the training computes in."""

    def __init__(self, data: TrialData, config: TrialConfig, device: torch.device) -> None:
        self._data = data
        self._config = config
        self._device = device
        about = mad_data(config)
        self._main = about.main_factor
        self._gallery = gallery_of(data, config)
        captions = about.captions
        self._prompts_CTL = {
            factor: prompts(factor, self._main, captions.attributes, captions.order, TEMPLATES, PROMPT_SEED)
            for factor in FACTOR_NAMES
        }

    @torch.no_grad()
    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from."""
        towers = _Towers(model, self._config, self._device)
        image_ND, text_ND = towers.images(self._gallery.images_NCHW), towers.texts(self._gallery.tokens_NL)
        zero_shot = self._zero_shot(towers)
        temperature = temperature_metrics(model)
        class_CD = zero_shot.questions[self._main].prompt_CD
        embeddings = self._embeddings(image_ND, text_ND, class_CD, temperature)
        return Encoded(embeddings, zero_shot, temperature)

    @torch.no_grad()
    def training_pairs(self, model: CLIP) -> TrainingPairs:
        """Drawn as training draws, with a seed that no trial has."""
        drawn = training_sampler(self._data, self._config, GALLERY_SEED).samples(np.arange(FITTED_ON))
        towers = _Towers(model, self._config, self._device)
        image_NCHW = render(self._data.train.images_NVHW, drawn.digit_B, drawn.variant_B, drawn.colour_B)
        return TrainingPairs(towers.images(image_NCHW), towers.texts(drawn.tokens_BL))

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

    def _zero_shot(self, towers: _Towers) -> ZeroShot:
        questions = {
            factor: ClassPrompts(_class_means(towers, self._prompts_CTL[factor]), self._gallery.labels_NF[:, column])
            for column, factor in enumerate(FACTOR_NAMES)
        }
        return ZeroShot(questions, self._main)


def _class_means(towers: _Towers, prompts_CTL: NDArray[np.int64]) -> Floats:
    """Each value's mean prompt embedding (C, D)."""
    values, templates, length = prompts_CTL.shape
    text_PD = towers.texts(prompts_CTL.reshape(values * templates, length))
    mean_CD: Floats = text_PD.reshape(values, templates, -1).mean(axis=1)
    return mean_CD


def gallery_of(data: TrialData, config: TrialConfig) -> Gallery:
    """The frozen gallery of a configuration: the same pairs for every seed, captions by the arm's own rule."""
    about = mad_data(config)
    captions = about.captions
    drawn = frozen_gallery(
        data.test.digit_labels_N,
        config.evaluate.gallery,
        about.main_factor,
        captions.attributes,
        captions.order,
    )
    images = render(data.test.images_NVHW, drawn.digit_B, drawn.variant_B, drawn.colour_B)
    return Gallery(images, drawn.tokens_BL, drawn.labels_B6)
