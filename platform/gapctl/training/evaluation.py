"""What a model is measured on: a frozen gallery of held-out pairs and zero-shot prompts, the same at every step.

The towers are those that train, in float32: the same numbers as open_clip's own pass but for rounding, in less time.

Index letters: N gallery pairs, L caption positions, C values of a factor, T prompt templates, D embedding.
"""

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch.nn.functional import normalize

from gapctl.config.presets import PRESETS, PatchTower
from gapctl.config.trial import Evaluate, TrialConfig
from gapctl.data.feed import TrainingDraws, TrialData, caption_ids, mad_data, normalised
from gapctl.data.mad.captions import END_TOKEN, prompts
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.images import render
from gapctl.data.mad.sampler import GALLERY_SEED, frozen_gallery, frozen_pictures
from gapctl.errors import InputError
from gapctl.interventions.fit import Fitted, embeddings_after, named, questions_after
from gapctl.metrics.classification import ClassPrompts, ZeroShot, accuracies
from gapctl.metrics.embedding_set import Embeddings, unit_rows
from gapctl.metrics.gap import axis_of
from gapctl.metrics.sampling import TRIAL
from gapctl.metrics.suite import measure
from gapctl.models.build import SECOND, sees_images_twice, temperature_metrics
from gapctl.models.fused import ImageTower, TextTower, cut_captions, patches, weights_for_reading

Floats = NDArray[np.float32]

FITTED_ON: Final = 4_096
"""Training pairs that an intervention is fitted on; so many give a mean of unit rows to about 1/64."""


class TrainingPairs(NamedTuple):
    """Embeddings of matched training images and texts, both (N, D) and L2-normalised."""

    image_ND: Floats
    text_ND: Floats


class Encoded(NamedTuple):
    """A model's view of the gallery: embeddings with all labels, prompts for every question, and the temperature."""

    embeddings: Embeddings
    zero_shot: ZeroShot
    temperature: dict[str, float]


class Evaluated(NamedTuple):
    """Every metric by its name, and the centroids of both modalities (D,), whose difference is the gap's vector.

    Each pair's image and text projected on that vector, at unit length (N,), say how it lies to what is shown. So do
    images projected on their own mean, which knows no text. `label_N` is what each image shows, 0 where nobody says.
    """

    metrics: dict[str, float]
    image_mean_D: NDArray[np.float64]
    text_mean_D: NDArray[np.float64]
    image_on_axis_N: NDArray[np.float64]
    text_on_axis_N: NDArray[np.float64]
    image_on_mean_N: NDArray[np.float64]
    label_N: NDArray[np.int64]


class Evaluation(Protocol):
    """A frozen gallery that models are shown."""

    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from."""
        ...


class FittingEvaluation(Evaluation, Protocol):
    """One that also shows models a frozen draw of the pairs that are trained on."""

    def training_pairs(self, model: CLIP) -> TrainingPairs:
        """`FITTED_ON` of them: the same for every seed, captions as training reads them."""
        ...


def measured(encoded: Encoded) -> Evaluated:
    """What a trial logs of a model. Raises ArithmeticError where the model's embeddings have no direction any more."""
    embeddings = encoded.embeddings
    try:
        measures = measure(embeddings, TRIAL)
    except InputError as error:
        raise ArithmeticError(f"the model's embeddings cannot be measured: {error}") from error
    found = measures | encoded.temperature | accuracies(embeddings.image_ND, encoded.zero_shot)
    image_ND, text_ND = unit_rows(embeddings.image_ND), unit_rows(embeddings.text_MD)
    image_mean_D, text_mean_D = image_ND.mean(axis=0), text_ND.mean(axis=0)
    axis_D = axis_of(image_mean_D, text_mean_D)
    mean_axis_D = axis_of(image_mean_D, np.zeros_like(image_mean_D))
    return Evaluated(
        found,
        image_mean_D,
        text_mean_D,
        image_on_axis_N=image_ND @ axis_D,
        text_on_axis_N=text_ND @ axis_D,
        image_on_mean_N=image_ND @ mean_axis_D,
        label_N=np.zeros(len(image_ND), np.int64) if embeddings.labels_N is None else embeddings.labels_N,
    )


CHUNK = 128
"""Samples at a time: few enough that a layer's rows are still in the cache for the next."""
ALL_ATTRIBUTES = len(FACTOR_NAMES) - 1
TEMPLATES = 32
PROMPT_SEED = 2404_07983


class Gallery(NamedTuple):
    """Held-out pairs: images uint8 (N, 3, 28, 28), captions int64 (N, L), labels int64 (N, 6) per factor."""

    images_NCHW: NDArray[np.uint8]
    tokens_NL: NDArray[np.int64]
    labels_NF: NDArray[np.int64]


class SecondSide:
    """What second encoders are shown of captions: their tokens, or pictures of them from the test split."""

    def __init__(self, data: TrialData, config: TrialConfig) -> None:
        self.images = mad_data(config).sides == "image_image"
        self._split = data.test

    def of_gallery(self, tokens_NL: NDArray[np.int64]) -> NDArray[Any]:
        """Of a frozen gallery's captions (N, L): (N, L) or (N, 3, 28, 28)."""
        return self._pictures(tokens_NL, GALLERY_SEED) if self.images else tokens_NL

    def of_prompts(self, tokens_CTL: NDArray[np.int64]) -> NDArray[Any]:
        """Of each class's prompts: (C, T, L) or (C, T, 3, 28, 28), the same chance for each class."""
        if not self.images:
            return tokens_CTL
        return np.stack([self._pictures(tokens_TL, PROMPT_SEED) for tokens_TL in tokens_CTL])

    def _pictures(self, tokens_BL: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
        return render(self._split.images_NVHW, *frozen_pictures(self._split.digit_labels_N, tokens_BL, seed))


class _Towers:
    """A model's two encoders; embeddings are L2-normalised."""

    def __init__(self, model: CLIP, config: TrialConfig, device: torch.device) -> None:
        weights, preset = weights_for_reading(model), PRESETS[config.model.preset]
        assert isinstance(preset.image, PatchTower)  # as every preset with MAD's vocabulary has
        self._image = ImageTower(weights, preset.image)
        images_twice = sees_images_twice(model)
        self._text = None if images_twice else TextTower(weights, preset.text)
        self._pictured = ImageTower(weights, preset.image, SECOND) if images_twice else None
        self._patch_size = preset.image.patch_size
        self._device = device

    def images(self, image_NCHW: NDArray[np.uint8]) -> Floats:
        """Embeddings (N, D)."""
        return self._seen_by(self._image, image_NCHW)

    def second(self, shown_N: NDArray[Any]) -> Floats:
        """Embeddings (N, D) of captions (N, L), or of images where that is what the model's second side sees."""
        if self._pictured is not None:
            return self._seen_by(self._pictured, shown_N)
        assert self._text is not None
        text = self._text
        parts = torch.split(torch.from_numpy(shown_N).to(self._device), CHUNK)
        return self._joined([text(cut_captions(part, END_TOKEN)).output for part in parts])

    def _seen_by(self, tower: ImageTower, image_NCHW: NDArray[np.uint8]) -> Floats:
        parts = torch.split(torch.from_numpy(image_NCHW), CHUNK)
        return self._joined([tower(patches(self._scaled(part), self._patch_size)).output for part in parts])

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
        self._side = SecondSide(data, config)
        self._second_N = self._side.of_gallery(self._gallery.tokens_NL)
        captions = about.captions
        self._prompts_CT = {
            factor: self._side.of_prompts(
                prompts(factor, self._main, captions.attributes, captions.order, TEMPLATES, PROMPT_SEED)
            )
            for factor in FACTOR_NAMES
        }

    @torch.no_grad()
    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from."""
        towers = _Towers(model, self._config, self._device)
        image_ND, text_ND = towers.images(self._gallery.images_NCHW), towers.second(self._second_N)
        zero_shot = self._zero_shot(towers)
        temperature = temperature_metrics(model)
        class_CD = zero_shot.questions[self._main].prompt_CD
        embeddings = self._embeddings(image_ND, text_ND, class_CD, temperature)
        return Encoded(embeddings, zero_shot, temperature)

    @torch.no_grad()
    def training_pairs(self, model: CLIP) -> TrainingPairs:
        """Drawn as training draws, with a seed that no trial has."""
        batch = TrainingDraws(self._data, self._config, GALLERY_SEED).batch(np.arange(FITTED_ON))
        towers = _Towers(model, self._config, self._device)
        return TrainingPairs(towers.images(batch.images_BCHW), towers.second(batch.second))

    def _embeddings(
        self, image_ND: Floats, text_ND: Floats, class_CD: NDArray[np.floating], temperature: dict[str, float]
    ) -> Embeddings:
        main = FACTOR_NAMES.index(self._main)
        labels_NF = self._gallery.labels_NF
        return Embeddings(
            image_ND=image_ND,
            text_MD=text_ND,
            text_group_M=None if self._side.images else caption_ids(self._gallery.tokens_NL),
            labels_N=labels_NF[:, main],
            attributes_NF=np.delete(labels_NF, main, axis=1),
            class_CD=class_CD,
            logit_scale=temperature["temperature/logit_scale"],
        )

    def _zero_shot(self, towers: _Towers) -> ZeroShot:
        questions = {
            factor: ClassPrompts(_class_means(towers, self._prompts_CT[factor]), self._gallery.labels_NF[:, column])
            for column, factor in enumerate(FACTOR_NAMES)
        }
        return ZeroShot(questions, self._main)


def _class_means(towers: _Towers, prompts_CT: NDArray[Any]) -> Floats:
    """Each value's mean prompt embedding (C, D); prompts have the shape of what second encoders see."""
    values, templates, *shape = prompts_CT.shape
    text_PD = towers.second(prompts_CT.reshape(values * templates, *shape))
    mean_CD: Floats = text_PD.reshape(values, templates, -1).mean(axis=1)
    return mean_CD


def gallery_of(data: TrialData, config: TrialConfig) -> Gallery:
    """The frozen gallery of a configuration: the same images for every seed and arm.

    Captions say what the arm's own say, or all factors where held-out captions are full; none is wrong, whatever the
    noise of training.
    """
    about = mad_data(config)
    captions = about.captions
    drawn = frozen_gallery(
        data.test.digit_labels_N,
        config.evaluate.gallery,
        about.main_factor,
        ALL_ATTRIBUTES if captions.held_out == "full" else captions.attributes,
        captions.order,
    )
    images = render(data.test.images_NVHW, drawn.digit_B, drawn.variant_B, drawn.colour_B)
    return Gallery(images, drawn.tokens_BL, drawn.labels_B6)


class Intervened:
    """Shows a model the gallery and gives its embeddings after the intervention that `evaluate` asks for."""

    def __init__(self, evaluation: FittingEvaluation, evaluate: Evaluate) -> None:
        self._evaluation = evaluation
        self._intervention = named(evaluate.intervention)
        self._strength = evaluate.strength

    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from; raises InputError where a row is left without length."""
        fitted = self._fitted(self._evaluation.training_pairs(model))
        found = self._evaluation.encode(model)
        after = embeddings_after(fitted, found.embeddings)
        return Encoded(after, questions_after(fitted, found.zero_shot), found.temperature)

    def _fitted(self, pairs: TrainingPairs) -> Fitted:
        return self._intervention.fit(unit_rows(pairs.image_ND), unit_rows(pairs.text_ND)).partly(self._strength)
