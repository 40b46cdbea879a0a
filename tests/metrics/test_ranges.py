"""Every metric lies within the range that the catalog states, and reaches beyond what its unit would suggest."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapctl.config.metrics import METRICS, OPTIMUM_EXCESSES, UNBOUNDED, find_metric
from gapctl.config.trial import PairCaptions
from gapctl.data.treatments import treat_caption
from gapctl.metrics.bias import moad
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.suite import measure_embeddings

ROUNDING = 1e-6
AXES_AD = np.concatenate([np.eye(3), -np.eye(3)])
"""Directions whose distances are the least and the greatest on the sphere, and one between (A, D)."""


@st.composite
def extremes(draw: st.DrawFn) -> Embeddings:
    """Few rows on few axes, some with noise, with any labels and any number of texts for each image."""
    images, more = draw(st.integers(2, 14)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    noise, axes = draw(st.sampled_from([0.0, 0.0, 0.3])), draw(st.integers(1, len(AXES_AD)))
    counts = images, images + more
    image_ND, text_MD = (AXES_AD[rng.integers(axes, size=n)] + noise * rng.normal(size=(n, 3)) for n in counts)
    if draw(st.booleans()):
        text_MD[:] = -image_ND[0]
    labels_N, attributes_NF = rng.integers(3, size=images), rng.integers(2, size=(images, 2))
    to_image_M = np.concatenate([np.arange(images), rng.integers(images, size=more)])
    return Embeddings(
        image_ND,
        text_MD,
        text_to_image_M=to_image_M if more else None,
        labels_N=labels_N,
        attributes_NF=attributes_NF,
        class_CD=AXES_AD[:3],
        logit_scale=draw(st.sampled_from([1.0, 100.0])),
    )


@given(extremes())
@settings(max_examples=60)
def test_no_metric_leaves_its_range(embeddings: Embeddings) -> None:
    for key, value in measure_embeddings(embeddings).items():
        metric = find_metric(key)
        assert metric is not None
        least, most = metric.range
        assert np.isnan(value) or least - ROUNDING <= value <= most + ROUNDING, f"{key}: {value}"


def test_object_bias_of_few_rows_exceeds_two_cosines() -> None:
    """Two objects that are opposite, each once with either attribute: 1 - -1 less -1 - 0."""
    object_N, attribute_N = np.array([*product([0, 1], [0, 1])]).T
    rows_ND = np.where(object_N == 0, 1.0, -1.0)[:, None] * AXES_AD[:1]

    assert moad(rows_ND, object_N, attribute_N[:, None]).value == pytest.approx(3)
    assert METRICS["bias/moad_image"].range.most >= 3


def test_the_means_may_be_farther_apart_than_pairs_where_images_have_unequal_numbers_of_texts() -> None:
    image_ND, to_image_M = AXES_AD[[0, 1]], np.array([0, 1, 1, 1])
    measured = measure_embeddings(Embeddings(image_ND, image_ND[to_image_M], text_to_image_M=to_image_M))

    assert measured["gap/l2m"] > 0.3
    assert measured["gap/l2i"] == 0
    assert measured["gap/centroid_share"] > METRICS["gap/rmg"].range.most


def test_an_excess_may_change_by_twice_its_metric() -> None:
    for key, logged in OPTIMUM_EXCESSES.items():
        least, most = METRICS[logged].range
        assert METRICS[key].range == (least - most, most - least)
    assert METRICS["gap/rmg_excess"].range == (-1, 1)


def test_every_share_percentage_and_cosine_states_its_range() -> None:
    """Whoever adds a metric that has bounds states them: of those without, `plan` cannot warn."""
    bounded = {"share", "percent", "cosine", "correlation", "distance", "degrees", "yes or no"}

    assert [key for key, metric in METRICS.items() if metric.unit in bounded and metric.range == UNBOUNDED] == []
    assert METRICS["temperature/tau"].range == (0, np.inf)


def test_keywords_may_have_more_words_than_their_caption() -> None:
    keywords = {"keywords": ["sports car", "road", "city at night"]}
    read = treat_caption(PairCaptions(keep="keywords"), "a red car", keywords, 0, 0, 0)

    assert read is not None
    assert read.words < read.kept
    assert METRICS["captions/share_kept"].range.most == np.inf


def test_a_metric_of_an_evaluation_set_has_the_range_of_the_metric() -> None:
    on_set = find_metric("coco/quality/accuracy")

    assert on_set is not None
    assert (on_set.key, on_set.unit, on_set.range) == ("coco/quality/accuracy", "percent", (0, 100))
