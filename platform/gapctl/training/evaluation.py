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
from gapctl.data.feed import TrainingDraws, TrialData, compute_caption_ids, normalise_images, require_mad_data
from gapctl.data.mad.captions import END_TOKEN, build_prompts
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.images import render_images
from gapctl.data.mad.sampler import GALLERY_SEED, sample_gallery, sample_gallery_images
from gapctl.errors import InputError
from gapctl.interventions.fit import FittedIntervention, find_candidate, transform_embeddings, transform_questions
from gapctl.metrics.classification import ClassPrompts, ZeroShotTasks, measure_accuracies
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import gap_direction
from gapctl.metrics.sampling import TRIAL_LIMITS
from gapctl.metrics.suite import measure_embeddings
from gapctl.models.build import SECOND_ENCODER, is_image_image, measure_temperature
from gapctl.models.fused import ImageTower, TextTower, collect_forward_weights, cut_captions, cut_patches

Floats = NDArray[np.float32]

FITTING_PAIRS: Final = 4_096
"""Training pairs that an intervention is fitted on; so many give a mean of unit rows to about 1/64."""


class TrainingEmbeddings(NamedTuple):
    """Embeddings of matched training images and texts, both (N, D) and L2-normalised."""

    image_ND: Floats
    text_ND: Floats


class GalleryEncoding(NamedTuple):
    """A model's view of the gallery: embeddings with all labels, prompts for every question, and the temperature."""

    embeddings: Embeddings
    zero_shot: ZeroShotTasks
    temperature: dict[str, float]


class EvaluationResult(NamedTuple):
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

    def encode(self, model: CLIP) -> GalleryEncoding:
        """What the metrics are computed from."""
        ...


class FittingEvaluation(Evaluation, Protocol):
    """One that also shows models a frozen draw of the pairs that are trained on."""

    def encode_training_pairs(self, model: CLIP) -> TrainingEmbeddings:
        """`FITTED_ON` of them: the same for every seed, captions as training reads them."""
        ...


def compute_trial_metrics(encoded: GalleryEncoding) -> EvaluationResult:
    """What a trial logs of a model. Raises ArithmeticError where the model's embeddings have no direction any more."""
    embeddings = encoded.embeddings
    try:
        measures = measure_embeddings(embeddings, TRIAL_LIMITS)
    except InputError as error:
        raise ArithmeticError(f"the model's embeddings cannot be measured: {error}") from error
    found = measures | encoded.temperature | measure_accuracies(embeddings.image_ND, encoded.zero_shot)
    image_ND, text_ND = normalise_rows(embeddings.image_ND), normalise_rows(embeddings.text_MD)
    image_mean_D, text_mean_D = image_ND.mean(axis=0), text_ND.mean(axis=0)
    axis_D = gap_direction(image_mean_D, text_mean_D)
    mean_axis_D = gap_direction(image_mean_D, np.zeros_like(image_mean_D))
    return EvaluationResult(
        found,
        image_mean_D,
        text_mean_D,
        image_on_axis_N=image_ND @ axis_D,
        text_on_axis_N=text_ND @ axis_D,
        image_on_mean_N=image_ND @ mean_axis_D,
        label_N=np.zeros(len(image_ND), np.int64) if embeddings.labels_N is None else embeddings.labels_N,
    )


CHUNK_SAMPLES = 128
"""Samples at a time: few enough that a layer's rows are still in the cache for the next."""
ALL_ATTRIBUTES = len(FACTOR_NAMES) - 1
PROMPT_TEMPLATES = 32
PROMPT_SEED = 2404_07983


class Gallery(NamedTuple):
    """Held-out pairs: images uint8 (N, 3, 28, 28), captions int64 (N, L), labels int64 (N, 6) per factor."""

    images_NCHW: NDArray[np.uint8]
    tokens_NL: NDArray[np.int64]
    labels_NF: NDArray[np.int64]


class SecondSide:
    """What second encoders are shown of captions: their tokens, or pictures of them from the test split."""

    def __init__(self, data: TrialData, config: TrialConfig) -> None:
        self.images = require_mad_data(config).sides == "image_image"
        self._split = data.test

    def prepare_gallery(self, tokens_NL: NDArray[np.int64]) -> NDArray[Any]:
        """Of a frozen gallery's captions (N, L): (N, L) or (N, 3, 28, 28)."""
        return self._pictures(tokens_NL, GALLERY_SEED) if self.images else tokens_NL

    def prepare_prompts(self, tokens_CTL: NDArray[np.int64]) -> NDArray[Any]:
        """Of each class's prompts: (C, T, L) or (C, T, 3, 28, 28), the same chance for each class."""
        if not self.images:
            return tokens_CTL
        return np.stack([self._pictures(tokens_TL, PROMPT_SEED) for tokens_TL in tokens_CTL])

    def _pictures(self, tokens_BL: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
        return render_images(
            self._split.images_NVHW, *sample_gallery_images(self._split.digit_labels_N, tokens_BL, seed)
        )


class _EvaluationTowers:
    """A model's two encoders; embeddings are L2-normalised."""

    def __init__(self, model: CLIP, config: TrialConfig, device: torch.device) -> None:
        weights, preset = collect_forward_weights(model), PRESETS[config.model.preset]
        assert isinstance(preset.image, PatchTower)  # as every preset with MAD's vocabulary has
        self._image = ImageTower(weights, preset.image)
        images_twice = is_image_image(model)
        self._text = None if images_twice else TextTower(weights, preset.text)
        self._pictured = ImageTower(weights, preset.image, SECOND_ENCODER) if images_twice else None
        self._patch_size = preset.image.patch_size
        self._device = device

    def images(self, image_NCHW: NDArray[np.uint8]) -> Floats:
        """Embeddings (N, D)."""
        return self._encode_images(self._image, image_NCHW)

    def second(self, shown_N: NDArray[Any]) -> Floats:
        """Embeddings (N, D) of captions (N, L), or of images where that is what the model's second side sees."""
        if self._pictured is not None:
            return self._encode_images(self._pictured, shown_N)
        assert self._text is not None
        text = self._text
        parts = torch.split(torch.from_numpy(shown_N).to(self._device), CHUNK_SAMPLES)
        return self._join_embeddings([text(cut_captions(part, END_TOKEN)).output for part in parts])

    def _encode_images(self, tower: ImageTower, image_NCHW: NDArray[np.uint8]) -> Floats:
        parts = torch.split(torch.from_numpy(image_NCHW), CHUNK_SAMPLES)
        return self._join_embeddings(
            [tower(cut_patches(self._normalize_pixels(part), self._patch_size)).output for part in parts]
        )

    def _normalize_pixels(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        return normalise_images(image_BCHW.to(self._device))

    def _join_embeddings(self, parts: list[torch.Tensor]) -> Floats:
        unit_ND: Floats = normalize(torch.cat(parts), dim=-1).cpu().numpy()
        return unit_ND


class MadEvaluation:
    """Shows a model MAD's frozen gallery; float32 whatever the training computes in."""

    def __init__(self, data: TrialData, config: TrialConfig, device: torch.device) -> None:
        self._data = data
        self._config = config
        self._device = device
        about = require_mad_data(config)
        self._main = about.main_factor
        self._gallery = build_gallery(data, config)
        self._side = SecondSide(data, config)
        self._second_N = self._side.prepare_gallery(self._gallery.tokens_NL)
        captions = about.captions
        self._prompts_CT = {
            factor: self._side.prepare_prompts(
                build_prompts(factor, self._main, captions.attributes, captions.order, PROMPT_TEMPLATES, PROMPT_SEED)
            )
            for factor in FACTOR_NAMES
        }

    @torch.no_grad()
    def encode(self, model: CLIP) -> GalleryEncoding:
        """What the metrics are computed from."""
        towers = _EvaluationTowers(model, self._config, self._device)
        image_ND, text_ND = towers.images(self._gallery.images_NCHW), towers.second(self._second_N)
        zero_shot = self._build_zero_shot(towers)
        temperature = measure_temperature(model)
        class_CD = zero_shot.questions[self._main].prompt_CD
        embeddings = self._build_embeddings(image_ND, text_ND, class_CD, temperature)
        return GalleryEncoding(embeddings, zero_shot, temperature)

    @torch.no_grad()
    def encode_training_pairs(self, model: CLIP) -> TrainingEmbeddings:
        """Drawn as training draws, with a seed that no trial has."""
        batch = TrainingDraws(self._data, self._config, GALLERY_SEED).batch(np.arange(FITTING_PAIRS))
        towers = _EvaluationTowers(model, self._config, self._device)
        return TrainingEmbeddings(towers.images(batch.images_BCHW), towers.second(batch.second))

    def _build_embeddings(
        self, image_ND: Floats, text_ND: Floats, class_CD: NDArray[np.floating], temperature: dict[str, float]
    ) -> Embeddings:
        main = FACTOR_NAMES.index(self._main)
        labels_NF = self._gallery.labels_NF
        return Embeddings(
            image_ND=image_ND,
            text_MD=text_ND,
            text_group_M=None if self._side.images else compute_caption_ids(self._gallery.tokens_NL),
            labels_N=labels_NF[:, main],
            attributes_NF=np.delete(labels_NF, main, axis=1),
            class_CD=class_CD,
            logit_scale=temperature["temperature/logit_scale"],
        )

    def _build_zero_shot(self, towers: _EvaluationTowers) -> ZeroShotTasks:
        questions = {
            factor: ClassPrompts(_average_prompts(towers, self._prompts_CT[factor]), self._gallery.labels_NF[:, column])
            for column, factor in enumerate(FACTOR_NAMES)
        }
        return ZeroShotTasks(questions, self._main)


def _average_prompts(towers: _EvaluationTowers, prompts_CT: NDArray[Any]) -> Floats:
    """Each value's mean prompt embedding (C, D); prompts have the shape of what second encoders see."""
    values, templates, *shape = prompts_CT.shape
    text_PD = towers.second(prompts_CT.reshape(values * templates, *shape))
    mean_CD: Floats = text_PD.reshape(values, templates, -1).mean(axis=1)
    return mean_CD


def build_gallery(data: TrialData, config: TrialConfig) -> Gallery:
    """The frozen gallery of a configuration: the same images for every seed and arm.

    Captions say what the arm's own say, or all factors where held-out captions are full; none is wrong, whatever the
    noise of training.
    """
    about = require_mad_data(config)
    captions = about.captions
    drawn = sample_gallery(
        data.test.digit_labels_N,
        config.evaluate.gallery,
        about.main_factor,
        ALL_ATTRIBUTES if captions.held_out == "full" else captions.attributes,
        captions.order,
    )
    images = render_images(data.test.images_NVHW, drawn.digit_B, drawn.variant_B, drawn.colour_B)
    return Gallery(images, drawn.tokens_BL, drawn.labels_B6)


class InterventionEvaluation:
    """Shows a model the gallery and gives its embeddings after the intervention that `evaluate` asks for."""

    def __init__(self, evaluation: FittingEvaluation, evaluate: Evaluate) -> None:
        self._evaluation = evaluation
        self._intervention = find_candidate(evaluate.intervention)
        self._strength = evaluate.strength

    def encode(self, model: CLIP) -> GalleryEncoding:
        """What the metrics are computed from; raises InputError where a row is left without length."""
        fitted = self._fit_intervention(self._evaluation.encode_training_pairs(model))
        found = self._evaluation.encode(model)
        after = transform_embeddings(fitted, found.embeddings)
        return GalleryEncoding(after, transform_questions(fitted, found.zero_shot), found.temperature)

    def _fit_intervention(self, pairs: TrainingEmbeddings) -> FittedIntervention:
        return self._intervention.fit(normalise_rows(pairs.image_ND), normalise_rows(pairs.text_ND)).scale_effect(
            self._strength
        )
