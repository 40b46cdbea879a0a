"""Evaluate models of MAD on a frozen gallery of held-out pairs and zero-shot prompts, the same at every step.

1. `build_gallery` draws the held-out pairs; `SecondSide` turns captions into tokens or pictures.
   `prepare_evaluation_inputs` does both, once for all seeds.
2. `MadEvaluation.encode` embeds gallery and prompts with `_EvaluationTowers`.
3. `InterventionEvaluation` fits an intervention on training pairs and applies it to the embeddings; ideal words are of
   prompts that name the main factor with another one.
4. `compute_gallery_metrics` computes the metrics that a trial logs.

The towers are the hand-written ones, in float32: open_clip's numbers but for rounding, in less time.

Index letters: N gallery pairs, L caption positions, F factors, C values of a factor, T prompt templates, O values of
the main factor, A those of another, P pairs of both, D embedding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch.nn.functional import normalize

from gapctl.config.presets import PatchTower
from gapctl.config.trial import Evaluate, MadData, Model, TrialConfig, is_table
from gapctl.data.mad.captions import (
    END_TOKEN,
    PROMPT_SEED,
    PROMPT_TEMPLATES,
    build_pair_prompt_tokens,
    build_prompt_tokens,
    format_captions,
)
from gapctl.data.mad.factors import FACTOR_NAMES
from gapctl.data.mad.feed import MadFeed, TrialData, compute_caption_ids, normalise_images, require_mad_data
from gapctl.data.mad.images import compose_coloured_images
from gapctl.data.mad.posterior import measure_posterior_entropies
from gapctl.data.mad.rows import number_captions, number_images
from gapctl.data.mad.sampler import GALLERY_SEED, UNSPECIFIED, parse_captions, sample_gallery, sample_images_of_captions
from gapctl.errors import InputError
from gapctl.interventions.fit import (
    FittedIntervention,
    find_candidate,
    transform_embeddings,
    transform_zero_shot_prompts,
)
from gapctl.interventions.ideal_words import replace_by_ideal_words
from gapctl.metrics.checks import Integers
from gapctl.metrics.classification import ClassPrompts, PairQuestion, ZeroShotTasks, measure_accuracies
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.entropy import compare_with_posterior_entropies
from gapctl.metrics.gap import gap_direction
from gapctl.metrics.sampling import TRIAL_LIMITS
from gapctl.metrics.suite import measure_embeddings, measure_extension_metrics
from gapctl.models.build import SECOND_ENCODER, ContrastiveModel, get_temperature_metrics, is_image_image
from gapctl.models.fused import ImageTower, TextTower, collect_forward_weights, cut_captions, cut_patches
from gapctl.models.table import EmbeddingTable

Floats = NDArray[np.float32]

FITTING_PAIRS: Final = 4_096
"""Training pairs that an intervention is fitted on; the error of their mean unit row is about 1/64."""

CHUNK_SAMPLES = 128
"""Samples that are encoded together: few enough that a layer's rows stay in the cache for the next layer."""
INPUTS_KEPT: Final = 16
LARGEST_GALLERY_KEPT: Final = 4_096
"""So many galleries of at most this size, with their prompts, a process keeps for the next seeds: 160 MB at most."""


class TrainingEmbeddings(NamedTuple):
    """Embeddings of matched training images and texts, both (N, D) and L2-normalised."""

    image_ND: Floats
    text_ND: Floats


class GalleryPairs(NamedTuple):
    """Some of the gallery for people to look at: images uint8 (B, H, W, 3) and captions.

    `second_BHWC` has, in place of captions, the second images of models that compare images with images, else None.
    """

    image_BHWC: NDArray[np.uint8]
    captions: Sequence[str]
    second_BHWC: NDArray[np.uint8] | None = None


GetGalleryPairs = Callable[[NDArray[np.int64], NDArray[np.int64]], GalleryPairs]
"""Returns the images at some places of the gallery, and the captions at others."""


class GalleryEncoding(NamedTuple):
    """A model's encoding of the gallery: labelled embeddings, prompts for every question, and the temperature.

    `get_pairs` returns the images at some places of the embeddings and the captions at others, as the model was shown
    them. `posterior` are the entropies of a model that knows the gallery's world, by metric name, where it is known.
    """

    embeddings: Embeddings
    zero_shot: ZeroShotTasks
    temperature: dict[str, float]
    get_pairs: GetGalleryPairs
    posterior: Mapping[str, float] = MappingProxyType({})


class EvaluationResult(NamedTuple):
    """Metrics by name, the centroids of both modalities (D,), and projections of the gallery (N,).

    `image_on_axis_N` and `text_on_axis_N` are projections on the unit vector of the gap, `image_on_mean_N` on the
    images' own mean direction; of several texts of an image, the mean. `label_N` is each image's object label, 0
    without labels.
    """

    metrics: dict[str, float]
    image_mean_D: NDArray[np.float64]
    text_mean_D: NDArray[np.float64]
    image_on_axis_N: NDArray[np.float64]
    text_on_axis_N: NDArray[np.float64]
    image_on_mean_N: NDArray[np.float64]
    label_N: NDArray[np.int64]


class Evaluation(Protocol):
    """A frozen gallery that encodes with any model."""

    def encode(self, model: ContrastiveModel, *, pairs: bool = False) -> GalleryEncoding:
        """Return the encoding from which the metrics are computed, with prompts of pairs for ideal words if asked."""
        ...


class FittingEvaluation(Evaluation, Protocol):
    """An evaluation with a frozen draw of training pairs as well."""

    def encode_training_pairs(self, model: ContrastiveModel) -> TrainingEmbeddings:
        """Return embeddings of `FITTING_PAIRS` training pairs with captions as in training, the same for every seed."""
        ...


def compute_gallery_metrics(encoded: GalleryEncoding, others: Sequence[str] = ()) -> EvaluationResult:
    """Return the metrics that a trial logs, those of other packages that `others` names included.

    Raise ArithmeticError if the model's embeddings have no direction any more, and ExtensionError if a metric of
    another package raises an error or returns no number.
    """
    embeddings = encoded.embeddings
    try:
        measures = measure_embeddings(embeddings, TRIAL_LIMITS)
    except InputError as error:
        raise ArithmeticError(f"the model's embeddings cannot be measured: {error}") from error
    metrics = measures | encoded.temperature | measure_accuracies(embeddings.image_ND, encoded.zero_shot)
    metrics |= encoded.posterior
    metrics |= compare_with_posterior_entropies(metrics)
    metrics |= measure_extension_metrics(embeddings, others, TRIAL_LIMITS)
    image_ND, text_ND = normalise_rows(embeddings.image_ND), normalise_rows(embeddings.text_MD)
    image_mean_D, text_mean_D = image_ND.mean(axis=0), text_ND.mean(axis=0)
    axis_D = gap_direction(image_mean_D, text_mean_D)
    mean_axis_D = gap_direction(image_mean_D, np.zeros_like(image_mean_D))
    return EvaluationResult(
        metrics,
        image_mean_D,
        text_mean_D,
        image_on_axis_N=image_ND @ axis_D,
        text_on_axis_N=_average_by_image(text_ND @ axis_D, embeddings.text_to_image_M),
        image_on_mean_N=image_ND @ mean_axis_D,
        label_N=np.zeros(len(image_ND), np.int64) if embeddings.labels_N is None else embeddings.labels_N,
    )


def _average_by_image(value_M: NDArray[np.float64], text_to_image_M: Integers | None) -> NDArray[np.float64]:
    """Return the mean over each image's texts (N,); the values themselves where each image has one text."""
    if text_to_image_M is None:
        return value_M
    return np.bincount(text_to_image_M, weights=value_M) / np.bincount(text_to_image_M)


class Gallery(NamedTuple):
    """Held-out pairs: images uint8 (N, 3, 28, 28), captions int64 (N, L), labels int64 (N, 6) per factor."""

    images_NCHW: NDArray[np.uint8]
    tokens_NL: NDArray[np.int64]
    labels_NF: NDArray[np.int64]


class SecondSide:
    """Turns captions into the second side's input: their tokens, pictures of them from the test split, or rows."""

    def __init__(self, data: TrialData, about: MadData, *, table: bool = False) -> None:
        self.images = about.sides == "image_image"
        self.rows = number_captions(about) if table else None
        self._split = data.test

    def prepare_captions(self, tokens_NL: NDArray[np.int64], seed: int = GALLERY_SEED) -> NDArray[np.integer]:
        """Return the input for captions (N, L): (N, L), (N, 3, 28, 28) or a table's rows (N,).

        Pictures are drawn by the seed alone.
        """
        if self.rows is not None:
            return self.rows.find(tokens_NL)
        if not self.images:
            return tokens_NL
        return compose_coloured_images(
            self._split.images_NVHW, *sample_images_of_captions(self._split.digit_labels_N, tokens_NL, seed)
        )


class EvaluationInputs(NamedTuple):
    """What an evaluation shows every model: pairs, the input for their captions (N, ...), and prompts (C, T, ...).

    `posterior` are the entropies of a model that knows the gallery's world, by metric name.
    """

    gallery: Gallery
    side: SecondSide
    second_N: NDArray[np.integer]
    posterior: Mapping[str, float]
    prompts_CT: Mapping[str, NDArray[np.integer]]


def prepare_evaluation_inputs(data: TrialData, about: MadData, size: int, *, table: bool) -> EvaluationInputs:
    """Return what an evaluation on `size` pairs shows: of small galleries one for all seeds, which is only read."""
    prepare = _prepare_inputs_once if size <= LARGEST_GALLERY_KEPT else _prepare_inputs
    return prepare(data, about, size, table=table)


def _prepare_inputs(data: TrialData, about: MadData, size: int, *, table: bool) -> EvaluationInputs:
    gallery, side = build_gallery(data, about, size), SecondSide(data, about, table=table)
    gallery.labels_NF.setflags(write=False)  # metrics of extensions get them
    prompts_CT: dict[str, NDArray[np.integer]] = {}
    for factor in FACTOR_NAMES:
        tokens_CTL = build_prompt_tokens(factor, about, PROMPT_TEMPLATES, PROMPT_SEED)
        prompts_CT[factor] = np.stack([side.prepare_captions(tokens_TL, PROMPT_SEED) for tokens_TL in tokens_CTL])
    posterior = measure_posterior_entropies(about, gallery.labels_NF, gallery.tokens_NL)
    return EvaluationInputs(gallery, side, side.prepare_captions(gallery.tokens_NL), posterior, prompts_CT)


_prepare_inputs_once = lru_cache(maxsize=INPUTS_KEPT)(_prepare_inputs)


class _EvaluationTowers:
    """A model's two encoders; embeddings are L2-normalised."""

    def __init__(self, model: CLIP, config: TrialConfig, device: torch.device) -> None:
        assert isinstance(config.model, Model)
        weights, preset = collect_forward_weights(model), config.model.towers
        assert isinstance(preset.image, PatchTower)  # as every preset with MAD's vocabulary has
        self._image = ImageTower(weights, preset.image)
        self._second = (
            ImageTower(weights, preset.image, SECOND_ENCODER)
            if is_image_image(model)
            else TextTower(weights, preset.text)
        )
        self._patch_size = preset.image.patch_size
        self._device = device

    def images(self, image_NCHW: NDArray[np.integer]) -> Floats:
        """Return embeddings (N, D) of images."""
        return self._encode(self._image, image_NCHW)

    def second(self, shown_N: NDArray[np.integer]) -> Floats:
        """Return embeddings (N, D) of captions (N, L), or of images if the model's second side is images."""
        return self._encode(self._second, shown_N)

    def average_prompts(self, prompts_CT: NDArray[np.integer]) -> Floats:
        """Return each class's mean prompt embedding (C, D); prompts have the shape of the second encoder's input."""
        classes, templates, *shape = prompts_CT.shape
        text_PD = self.second(prompts_CT.reshape(classes * templates, *shape))
        mean_CD: Floats = text_PD.reshape(classes, templates, -1).mean(axis=1)
        return mean_CD

    def _encode(self, tower: ImageTower | TextTower, shown_N: NDArray[np.integer]) -> Floats:
        parts = []
        for part in torch.split(torch.from_numpy(shown_N), CHUNK_SAMPLES):
            part = part.to(self._device)
            if isinstance(tower, TextTower):
                parts.append(tower(cut_captions(part, END_TOKEN)).output)
            else:
                parts.append(tower(cut_patches(normalise_images(part), self._patch_size)).output)
        unit_ND: Floats = normalize(torch.cat(parts), dim=-1).cpu().numpy()
        return unit_ND


class _TableLookup(_EvaluationTowers):
    """A table's embeddings, given numbers; they are L2-normalised."""

    def __init__(self, model: EmbeddingTable, device: torch.device) -> None:
        self._model, self._device = model, device

    def images(self, image_N: NDArray[np.integer]) -> Floats:
        """Return embeddings (N, D) of factor combinations."""
        unit_ND: Floats = self._model.encode_image(torch.from_numpy(image_N).to(self._device)).cpu().numpy()
        return unit_ND

    def second(self, shown_N: NDArray[np.integer]) -> Floats:
        """Return embeddings (N, D) of captions."""
        unit_ND: Floats = self._model.encode_text(torch.from_numpy(shown_N).to(self._device)).cpu().numpy()
        return unit_ND


def _open_model(model: ContrastiveModel, config: TrialConfig, device: torch.device) -> _EvaluationTowers:
    if isinstance(model, EmbeddingTable):
        return _TableLookup(model, device)
    return _EvaluationTowers(model, config, device)


class MadEvaluation:
    """Encodes MAD's frozen gallery with a model, in float32 whatever the training's format."""

    def __init__(self, data: TrialData, config: TrialConfig, device: torch.device) -> None:
        self._data = data
        self._config = config
        self._device = device
        about = require_mad_data(config)
        self._main = about.main_factor
        inputs = prepare_evaluation_inputs(data, about, config.evaluate.gallery, table=is_table(config))
        self._gallery, self._side, self._second_N, self._posterior, self._prompts_CT = inputs

    @torch.no_grad()
    def encode(self, model: ContrastiveModel, *, pairs: bool = False) -> GalleryEncoding:
        """Return the encoding from which the metrics are computed, with prompts of `pairs` if asked."""
        towers = _open_model(model, self._config, self._device)
        labels_NF, main = self._gallery.labels_NF, FACTOR_NAMES.index(self._main)
        questions = {
            factor: ClassPrompts(towers.average_prompts(self._prompts_CT[factor]), labels_NF[:, column])
            for column, factor in enumerate(FACTOR_NAMES)
        }
        temperature = get_temperature_metrics(model)
        embeddings = Embeddings(
            image_ND=towers.images(number_images(labels_NF) if self._side.rows else self._gallery.images_NCHW),
            text_MD=towers.second(self._second_N),
            text_group_M=None if self._side.images else compute_caption_ids(self._gallery.tokens_NL),
            labels_N=labels_NF[:, main],
            attributes_NF=np.delete(labels_NF, main, axis=1),
            class_CD=questions[self._main].prompt_CD,
            logit_scale=temperature["temperature/logit_scale"],
        )
        zero_shot = ZeroShotTasks(questions, self._main)
        if pairs:
            named_N6 = parse_captions(self._gallery.tokens_NL) != UNSPECIFIED
            zero_shot = replace(zero_shot, pairs=self._encode_pairs(towers), named_NF=np.delete(named_N6, main, axis=1))
        return GalleryEncoding(embeddings, zero_shot, temperature, self._get_pairs, self._posterior)

    def _encode_pairs(self, towers: _EvaluationTowers) -> dict[str, PairQuestion]:
        """Return the mean prompts of the main factor's values with those of each other factor."""
        labels_NF, about = self._gallery.labels_NF, require_mad_data(self._config)
        main_N = labels_NF[:, FACTOR_NAMES.index(self._main)]
        pairs = {}
        for column, factor in enumerate(FACTOR_NAMES):
            if factor == self._main:
                continue
            tokens_OATL = build_pair_prompt_tokens(factor, about, PROMPT_TEMPLATES, PROMPT_SEED)
            shape = tokens_OATL.shape[:2]
            prompts = [
                self._side.prepare_captions(tokens_TL, PROMPT_SEED)
                for tokens_TL in tokens_OATL.reshape(-1, *tokens_OATL.shape[2:])
            ]
            mean_PD = towers.average_prompts(np.stack(prompts))
            pairs[factor] = PairQuestion(
                mean_PD.reshape(*shape, -1), main_N, labels_NF[:, column], np.ones(shape, bool)
            )
        return pairs

    def _get_pairs(self, image_B: NDArray[np.int64], text_B: NDArray[np.int64]) -> GalleryPairs:
        images, tokens = self._gallery.images_NCHW[image_B], self._gallery.tokens_NL[text_B]
        second = self._second_N[text_B].astype(np.uint8).transpose(0, 2, 3, 1) if self._side.images else None
        return GalleryPairs(images.transpose(0, 2, 3, 1), format_captions(tokens), second)

    @torch.no_grad()
    def encode_training_pairs(self, model: ContrastiveModel) -> TrainingEmbeddings:
        """Return embeddings of pairs drawn as in training, with a seed that no trial has."""
        feed = MadFeed(self._data, self._config, GALLERY_SEED)
        drawn = feed.at(np.arange(FITTING_PAIRS))
        towers = _open_model(model, self._config, self._device)
        if self._side.rows is not None:
            images_B, captions_B = number_images(drawn.samples.labels_B6), drawn.samples.tokens_BL
            return TrainingEmbeddings(towers.images(images_B), towers.second(self._side.rows.find(captions_B)))
        batch = feed.render(drawn)
        return TrainingEmbeddings(towers.images(batch.images_BCHW), towers.second(batch.second))


def build_gallery(data: TrialData, about: MadData, size: int) -> Gallery:
    """Return the frozen gallery of `size` pairs: the same images for every seed and arm.

    Captions name the factors of the arm's own captions, or all factors if held-out captions are full. They have no
    noise.
    """
    drawn = sample_gallery(data.test.digit_labels_N, size, about)
    images = compose_coloured_images(data.test.images_NVHW, drawn.digit_B, drawn.variant_B, drawn.colour_B)
    return Gallery(images, drawn.tokens_BL, drawn.labels_B6)


class InterventionEvaluation:
    """Encodes the gallery with a model and applies the intervention of `evaluate` to the embeddings."""

    def __init__(self, evaluation: FittingEvaluation, evaluate: Evaluate) -> None:
        self._evaluation = evaluation
        self._intervention = find_candidate(evaluate.intervention)
        self._strength = evaluate.strength

    def encode(self, model: ContrastiveModel, *, pairs: bool = False) -> GalleryEncoding:
        """Return the encoding after the intervention.

        Raise InputError if the intervention leaves a row without length.
        """
        if self._intervention.replaces_texts:
            before = self._evaluation.encode(model, pairs=True)
            embeddings, zero_shot = replace_by_ideal_words(before.embeddings, before.zero_shot, self._strength)
            return before._replace(embeddings=embeddings, zero_shot=zero_shot)
        fitted = self._fit(model)
        before = self._evaluation.encode(model, pairs=pairs)
        return before._replace(
            embeddings=transform_embeddings(fitted, before.embeddings),
            zero_shot=transform_zero_shot_prompts(fitted, before.zero_shot),
        )

    def _fit(self, model: CLIP) -> FittedIntervention:
        pairs = self._evaluation.encode_training_pairs(model)
        fitted = self._intervention.fit(normalise_rows(pairs.image_ND), normalise_rows(pairs.text_ND))
        return fitted.scale_effect(self._strength)
