"""Compute every metric that a set of embeddings allows, by its name in `config/metrics.py`.

1. `measure_embeddings` and `measure_with_samples` are the entry points.
2. Metrics that reduce to sums come from `streaming.sum_embeddings`.
3. Metrics that compare rows use unit rows from `normalise_clouds` and samples within `SampleLimits`.
4. `measure_entropies_by_scale` measures entropies alone, at several logit scales.
5. `_measure_large_pairs` computes the same metrics of sets too large to compare all pairs, in one pass.
6. `measure_extension_metrics` computes the metrics of other packages, named or all.

Index letters: N images, M texts, C classes, F attribute factors, D embedding.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Final, NamedTuple

import numpy as np

from gapctl.extensions import ExtensionError, list_extensions, raise_as_extension_error, require_extension
from gapctl.metrics.checks import Rows, RowSource, make_single_row_error
from gapctl.metrics.classification import ZeroShotTasks, flip_rate, measure_accuracies
from gapctl.metrics.clustering import estimate_clustering_v_measure
from gapctl.metrics.comparisons import HAS_TORCH
from gapctl.metrics.embedding_set import (
    Embeddings,
    assign_match_keys,
    assign_partner_keys,
    assign_text_labels,
    normalise_rows,
    normalise_rows_float32,
    select_first_texts,
)
from gapctl.metrics.entropy import (
    compare_with_posterior_entropies,
    estimate_entropy_at_gallery_size,
    estimate_mean_entropy,
)
from gapctl.metrics.geometry import (
    compare_class_orders,
    compute_chance_overlap,
    cross_uniformity,
    neighbor_overlap,
    uniformity,
)
from gapctl.metrics.retrieval import KeyedRows, estimate_recall_at_depths, mixed_ndcg
from gapctl.metrics.sampling import THOROUGH_LIMITS, SampleEstimate, SampleLimits
from gapctl.metrics.separability import linear_separability
from gapctl.metrics.streaming import get_normalised_class_prompts, sum_embeddings
from gapctl.metrics.unit_rows import UnitRows

GALLERY_SIZES: Final = (100, 1000)
"""Gallery sizes of the calibrated entropies, whatever the gallery's own size is."""
NEIGHBORS: Final = 10
NDCG_DEPTH: Final = 10
MAX_DOUBLES: Final = 1 << 28
"""Coordinates of both modalities (2 GiB in float64) above which rows are compared in float32."""

MODALITY_NAMES: Final = ("image", "text")
METRIC_GROUPS: Final = ("gap", "entropy", "temperature", "bias", "geometry", "quality")


class MetricEstimates(NamedTuple):
    """Metric values by name, and the sample estimates of those that may use a sample."""

    values: dict[str, float]
    samples: dict[str, SampleEstimate]


def measure_embeddings(embeddings: Embeddings, effort: SampleLimits = THOROUGH_LIMITS) -> dict[str, float]:
    """Return all metrics by name. Those of labels, classes or a logit scale are present if the input has them."""
    return measure_with_samples(embeddings, effort).values


def measure_with_samples(embeddings: Embeddings, effort: SampleLimits = THOROUGH_LIMITS) -> MetricEstimates:
    """Return all metrics by name, together with the sample estimates of those that use samples."""
    image_ND, text_MD = normalise_clouds(embeddings, effort)
    values = sum_embeddings(embeddings).metrics()
    if (text_ND := select_first_texts(embeddings, text_MD)) is not None and len(text_ND) > NEIGHBORS:
        values[f"geometry/neighbor_overlap_{NEIGHBORS}_chance"] = compute_chance_overlap(len(text_ND), NEIGHBORS)
    if (classes := get_normalised_class_prompts(embeddings)) is not None:
        order = compare_class_orders(image_ND, classes.class_N, classes.prompt_CD)
        values["geometry/neighborhood_kendall"] = order.kendall
        values["geometry/neighborhood_kendall_chance"] = order.chance
        values["geometry/neighborhood_discordance"] = order.discordance
    samples = _measure_samples(embeddings, image_ND, text_MD, effort)
    if embeddings.logit_scale is not None:
        values["entropy/gallery"] = float(len(text_MD))
        samples |= _measure_entropies(embeddings, image_ND, text_MD, embeddings.logit_scale, effort)
    return MetricEstimates(values | {key: sampled.value for key, sampled in samples.items()}, samples)


def measure_at_logit_scales(
    embeddings: Embeddings,
    scales: Sequence[float],
    effort: SampleLimits = THOROUGH_LIMITS,
    zero_shot: ZeroShotTasks | None = None,
    temperature: Mapping[str, float] | None = None,
    others: Sequence[str] | None = None,
) -> MetricEstimates:
    """Return all metrics with entropies at each logit scale, zero-shot accuracies, and the model's temperature.

    `temperature` may also hold entropies of a model that knows the world, with which the others are then compared.

    `others` are metrics of other packages, as in `measure_extension_metrics`, which also says what they raise. Metrics
    come in the order of their groups; samples are of those metrics alone that used a part of the rows.
    """
    foreign = measure_extension_metrics(
        embeddings, others, effort
    )  # first, so that no long measurement is lost to them
    large = _is_large(embeddings, effort)
    estimates = _measure_large_pairs(embeddings, scales, effort) if large else measure_with_samples(embeddings, effort)
    values, sampled = estimates.values | dict(temperature or {}), dict(estimates.samples)
    if not large and tuple(scales) != (embeddings.logit_scale,):
        by_scale = measure_entropies_by_scale(embeddings, scales, effort)
        values, sampled = values | by_scale.values, sampled | by_scale.samples
    if zero_shot is not None:
        values |= measure_accuracies(embeddings.image_ND, zero_shot)
    values |= compare_with_posterior_entropies(values)
    samples = {key: each for key, each in sampled.items() if not each.whole and values.get(key) == each.value}
    values |= foreign
    return MetricEstimates({key: values[key] for key in _sort_metrics(values)}, samples)


def _sort_metrics(keys: Collection[str]) -> list[str]:
    """Return metric names in the order of their groups; groups of other packages come last."""
    groups = dict.fromkeys([*METRIC_GROUPS, *(key.partition("/")[0] for key in keys)])
    places = {group: place for place, group in enumerate(groups)}
    return sorted(keys, key=lambda key: places[key.partition("/")[0]])


def measure_extension_metrics(
    embeddings: Embeddings, names: Sequence[str] | None = None, effort: SampleLimits = THOROUGH_LIMITS
) -> dict[str, float]:
    """Return these metrics of other packages by name, or all that are registered or announced where `names` is None.

    They are given L2-normalised rows. Raise InputError for a name that no package has and for a package that cannot be
    imported, and ExtensionError for a metric that raises an error or returns no number.
    """
    asked = list_extensions("metrics") if names is None else names
    if not asked:
        return {}
    image_ND, text_MD = normalise_clouds(embeddings, effort)
    classes, bias_ND = embeddings.class_CD, embeddings.bias_image_ND
    unit = replace(
        embeddings,
        image_ND=image_ND,
        text_MD=text_MD,
        class_CD=None if classes is None else normalise_rows(classes, "class"),
        bias_image_ND=None if bias_ND is None else normalise_rows(bias_ND, "image_with_attributes"),
    )
    return {name: _call_extension_metric(name, unit) for name in asked}


def _call_extension_metric(name: str, embeddings: Embeddings) -> float:
    metric = require_extension("metrics", name)
    with raise_as_extension_error(metric):
        found = metric.function(embeddings)
        value = found.item() if hasattr(found, "item") else found  # numpy's and torch's scalars
    if isinstance(value, bool) or not isinstance(value, Real) or math.isinf(value):
        raise ExtensionError(f"{metric.title} returned {found!r:.60}; expected a number, or NaN where it is undefined")
    return float(value)


def normalise_clouds(embeddings: Embeddings, effort: SampleLimits) -> tuple[Rows, Rows]:
    """Return the unit rows of images (N, D) and texts (M, D), in float32 if `effort.single` or if they are many.

    Raise InputError for a modality of a single row, and for rows without a direction.
    """
    clouds = (embeddings.image_ND, embeddings.text_MD)
    for name, cloud_ND in zip(MODALITY_NAMES, clouds, strict=True):
        if len(cloud_ND) < 2:
            raise make_single_row_error(name)
    normalise = normalise_rows_float32 if _uses_float32(embeddings, effort) else normalise_rows
    image_ND, text_MD = (normalise(cloud_ND, name) for name, cloud_ND in zip(MODALITY_NAMES, clouds, strict=True))
    return image_ND, text_MD


def _uses_float32(embeddings: Embeddings, effort: SampleLimits) -> bool:
    return effort.single or embeddings.image_ND.size + embeddings.text_MD.size > MAX_DOUBLES


def _is_large(embeddings: Embeddings, effort: SampleLimits) -> bool:
    """Return whether pairs are too many to compare all, and are to be compared in one pass; trials' are not."""
    unmatched = (embeddings.text_to_image_M, embeddings.prompt_of_N, embeddings.class_CD)
    pairs = not effort.single and all(each is None for each in unmatched)
    return HAS_TORCH and pairs and len(embeddings.image_ND) * len(embeddings.text_MD) > effort.comparisons


def _measure_large_pairs(embeddings: Embeddings, scales: Sequence[float], effort: SampleLimits) -> MetricEstimates:
    """Return all metrics by name, with entropies at the embeddings' own logit scale, if they have one, and at `scales`.

    In float64 they differ from those of `measure_with_samples` by less than 1e-12, as sums are added in another order;
    in float32, which both use beyond `MAX_DOUBLES`, by that type's rounding. Recalls may see a tie that float32 hides.
    """
    from gapctl.metrics.one_pass import compare_pairs

    values = sum_embeddings(embeddings).metrics()
    dtype = np.float32 if _uses_float32(embeddings, effort) else np.float64
    image, text = (UnitRows(cloud_ND, dtype) for cloud_ND in (embeddings.image_ND, embeddings.text_MD))
    own = () if embeddings.logit_scale is None else (embeddings.logit_scale,)
    endings = [(scale, "") for scale in own] + ([] if tuple(scales) == own else [*_name_scales(scales).items()])
    found = compare_pairs(
        image,
        text,
        assign_match_keys(embeddings)[0],
        {scale for scale, _ in endings},
        effort,
        neighbors=NEIGHBORS,
        depth=NDCG_DEPTH,
    )
    values[f"geometry/neighbor_overlap_{NEIGHBORS}_chance"] = compute_chance_overlap(len(image), NEIGHBORS)
    values["entropy/gallery"] = float(len(text))
    image_key_N, text_key_N = assign_partner_keys(embeddings)
    samples = {
        "gap/linear_separability": linear_separability(image, image_key_N, text, text_key_N, effort.pairs),
        "geometry/uniformity_image": found.uniformity_image,
        "geometry/uniformity_text": found.uniformity_text,
        "geometry/uniformity_cross": found.uniformity_cross,
        **_name_search_samples(found.mixed_ndcg, found.forward_recalls, found.backward_recalls),
        f"geometry/neighbor_overlap_{NEIGHBORS}": found.neighbor_overlap,
    }
    if embeddings.labels_N is not None:
        samples["quality/v_measure"] = estimate_clustering_v_measure(
            image, embeddings.labels_N, text, embeddings.labels_N, effort.pairs
        )
    for scale, ending in endings:
        entropies = _name_entropies(*found.entropies[scale], len(text))
        entropies |= _measure_entropies_at_sizes(image, text, scale, effort)
        samples |= {key + ending: sampled for key, sampled in entropies.items()}
    return MetricEstimates(values | {key: sampled.value for key, sampled in samples.items()}, samples)


def _measure_samples(
    embeddings: Embeddings, image_ND: Rows, text_MD: Rows, effort: SampleLimits
) -> dict[str, SampleEstimate]:
    """Return the metrics that compare rows, within `effort`, except entropies."""
    image_key_N, text_key_M = assign_partner_keys(embeddings)
    queries = effort.limit_queries(max(len(image_ND), len(text_MD)))
    samples = {
        "gap/linear_separability": linear_separability(image_ND, image_key_N, text_MD, text_key_M, effort.pairs),
        "geometry/uniformity_image": uniformity(image_ND, queries),
        "geometry/uniformity_text": uniformity(text_MD, queries),
        "geometry/uniformity_cross": cross_uniformity(image_ND, image_key_N, text_MD, text_key_M, queries),
        **_measure_pairs(embeddings, image_ND, text_MD, effort),
    }
    if embeddings.labels_N is not None:
        label_M = assign_text_labels(embeddings, embeddings.labels_N)
        samples["quality/v_measure"] = estimate_clustering_v_measure(
            image_ND, embeddings.labels_N, text_MD, label_M, effort.pairs
        )
    if (classes := get_normalised_class_prompts(embeddings)) is not None:
        prompt_CD = classes.prompt_CD.astype(image_ND.dtype)
        samples["quality/flip_rate"] = flip_rate(image_ND, prompt_CD, effort.queries)
    return samples


def _measure_pairs(embeddings: Embeddings, image: Rows, text: Rows, effort: SampleLimits) -> dict[str, SampleEstimate]:
    """Return the metrics that need a text for each image; none if the texts are class prompts.

    Recalls are in float32, whose rounding changes no rank that matters.
    """
    text_ND = select_first_texts(embeddings, text)
    if text_ND is None:
        return {}
    image_key_N, text_key_M = assign_match_keys(embeddings)
    queries = effort.limit_queries(len(image) + len(text))
    mixed = mixed_ndcg(KeyedRows(image, image_key_N), KeyedRows(text, text_key_M), NDCG_DEPTH, queries)
    images, texts = (rows_ND.astype(np.float32, copy=False) for rows_ND in (image, text))
    forward = estimate_recall_at_depths(images, texts, image_key_N, text_key_M, effort.against(len(text)))
    backward = estimate_recall_at_depths(texts, images, text_key_M, image_key_N, effort.against(len(image)))
    samples = _name_search_samples(mixed, forward, backward)
    if len(image) > NEIGHBORS:
        samples[f"geometry/neighbor_overlap_{NEIGHBORS}"] = neighbor_overlap(image, text_ND, NEIGHBORS, queries)
    return samples


def _name_search_samples(
    mixed: SampleEstimate, forward: Mapping[int, SampleEstimate], backward: Mapping[int, SampleEstimate]
) -> dict[str, SampleEstimate]:
    return {
        f"quality/mixed_ndcg_{NDCG_DEPTH}": mixed,
        **{f"quality/i2t_recall_{depth}": value for depth, value in forward.items()},
        **{f"quality/t2i_recall_{depth}": value for depth, value in backward.items()},
    }


def _measure_entropies(
    embeddings: Embeddings, image_ND: Rows, text_MD: Rows, scale: float, effort: SampleLimits
) -> dict[str, SampleEstimate]:
    """Return entropies both ways at one logit scale, over the whole gallery and over galleries of fixed sizes."""
    forward = estimate_mean_entropy(image_ND, text_MD, scale, effort.against(len(text_MD)))
    backward = estimate_mean_entropy(text_MD, image_ND, scale, effort.against(len(image_ND)))
    samples = _name_entropies(forward, backward, len(text_MD))
    text_ND = select_first_texts(embeddings, text_MD)
    return samples if text_ND is None else samples | _measure_entropies_at_sizes(image_ND, text_ND, scale, effort)


def _name_entropies(forward: SampleEstimate, backward: SampleEstimate, texts: int) -> dict[str, SampleEstimate]:
    return {
        "entropy/i2t_nats": forward,
        "entropy/t2i_nats": backward,
        "entropy/i2t_normalized": forward.scale_by(1 / math.log(texts)),
    }


def _measure_entropies_at_sizes(
    image_ND: RowSource, text_ND: RowSource, scale: float, effort: SampleLimits
) -> dict[str, SampleEstimate]:
    """Return entropies both ways over galleries of fixed sizes; row i of both arrays is a pair."""
    samples = {}
    for size in (size for size in GALLERY_SIZES if size <= len(image_ND)):
        most = max(1, effort.galleries * max(GALLERY_SIZES) // size)
        samples[f"entropy/i2t_nats_at_{size}"] = estimate_entropy_at_gallery_size(image_ND, text_ND, scale, size, most)
        samples[f"entropy/t2i_nats_at_{size}"] = estimate_entropy_at_gallery_size(text_ND, image_ND, scale, size, most)
    return samples


def measure_entropies_by_scale(
    embeddings: Embeddings, scales: Sequence[float], effort: SampleLimits = THOROUGH_LIMITS
) -> MetricEstimates:
    """Return entropies at each logit scale. With several scales, each name but the gallery's ends in its scale."""
    clouds = normalise_clouds(embeddings, effort)
    samples = {}
    for scale, ending in _name_scales(scales).items():
        for key, sampled in _measure_entropies(embeddings, *clouds, scale, effort).items():
            samples[key + ending] = sampled
    gallery = {"entropy/gallery": float(len(embeddings.text_MD))}
    return MetricEstimates(gallery | {key: sampled.value for key, sampled in samples.items()}, samples)


def _name_scales(scales: Sequence[float]) -> dict[float, str]:
    """Return how the names of each scale's entropies end."""
    endings = [f"_scale_{scale:g}" for scale in scales] if len(scales) > 1 else [""]
    if len(set(endings)) < len(scales):  # six digits do not tell them apart
        endings = [f"_scale_{scale!r}" for scale in scales]
    return dict(zip(scales, endings, strict=True))
