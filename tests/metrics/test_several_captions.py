"""Every measure of images that have several captions: the order of texts says nothing, and copies add nothing."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from clouds import random_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapctl.interventions.bootstrap import derive_resampling_units
from gapctl.interventions.fit import nothing
from gapctl.interventions.judge import build_statistics
from gapctl.metrics.classification import ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.plot_data import measure_gap_after_removal, sample_plot_data
from gapctl.metrics.sampling import THOROUGH_LIMITS
from gapctl.metrics.suite import measure_embeddings, measure_entropies_by_scale, measure_with_samples

TIGHT = {"rel": 1e-9, "abs": 1e-12}
IMAGES, WIDTH = 120, 8
BY_ROW = "quality/v_measure"
"""k-means starts from rows that are drawn by number."""


def captioned(captions: int, seed: int = 0, noise: float = 0.5) -> Embeddings:
    """Images with as many texts each, one image after the other, with labels, attributes and classes."""
    rng = np.random.Generator(np.random.Philox(seed))
    text_to_image_M = np.repeat(np.arange(IMAGES), captions)
    shared_ND = random_rows(IMAGES, WIDTH, seed)
    return Embeddings(
        image_ND=normalise_rows(shared_ND + noise * random_rows(IMAGES, WIDTH, seed + 1) + 0.1),
        text_MD=normalise_rows(shared_ND[text_to_image_M] + noise * random_rows(IMAGES * captions, WIDTH, seed + 2)),
        text_to_image_M=text_to_image_M,
        labels_N=rng.integers(0, 4, IMAGES),
        attributes_NF=rng.integers(0, 3, (IMAGES, 2)),
        class_CD=random_rows(4, WIDTH, seed + 3),
        logit_scale=20.0,
    )


def everything(embeddings: Embeddings) -> dict[str, float]:
    return measure_embeddings(embeddings) | measure_entropies_by_scale(embeddings, (1.0, 100.0)).values


def in_order(embeddings: Embeddings, order_M: NDArray[np.int64]) -> Embeddings:
    assert embeddings.text_to_image_M is not None
    return replace(embeddings, text_MD=embeddings.text_MD[order_M], text_to_image_M=embeddings.text_to_image_M[order_M])


def mixed_up(embeddings: Embeddings, seed: int) -> NDArray[np.int64]:
    """A random order of the texts in which each image's own first one stays its first one."""
    assert embeddings.text_to_image_M is not None
    shuffled_M = np.random.Generator(np.random.Philox(seed)).permutation(embeddings.text_to_image_M)
    order_M = np.empty(len(shuffled_M), np.int64)
    order_M[np.argsort(shuffled_M, kind="stable")] = np.argsort(embeddings.text_to_image_M, kind="stable")
    return order_M


@cache
def names_for_pairs() -> frozenset[str]:
    return frozenset(everything(replace(captioned(1), text_to_image_M=None)))


@given(st.sampled_from([1, 2, 5]), st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_texts_says_nothing_to_any_measure(captions: int, seed: int) -> None:
    found = captioned(captions, seed % 7)
    before, after = everything(found), everything(in_order(found, mixed_up(found, seed)))

    of_texts = ("_text", "_text_normalised")
    assert set(before) == {key for key in names_for_pairs() if not (key.startswith("bias/") and key.endswith(of_texts))}
    assert before.pop(BY_ROW) == pytest.approx(after.pop(BY_ROW), abs=0.3)
    assert after == pytest.approx(before, **TIGHT)


def test_one_caption_each_by_number_is_row_by_row_to_the_last_digit_but_one() -> None:
    by_number = captioned(1)
    by_row, found = everything(replace(by_number, text_to_image_M=None)), everything(by_number)

    assert found == pytest.approx({key: by_row[key] for key in found}, **TIGHT)
    assert found["gap/linear_separability"] == by_row["gap/linear_separability"]


COUNTS_COPIES = (
    "gap/rmg",
    "gap/rmg_shifted",  # texts of one image are pairs of different rows
    "gap/linear_separability",  # its ridge is against the summed loss
    "geometry/uniformity_text",
    "quality/mixed_ndcg_10",
    "quality/i2t_recall_5",
    "quality/i2t_recall_10",
    BY_ROW,
)
"""Measures over pairs of texts, or over places that copies crowd."""


@pytest.mark.parametrize("copies", [2, 5])
@pytest.mark.parametrize("captions", [1, 3])
def test_captions_given_several_times_change_no_mean_over_texts(captions: int, copies: int) -> None:
    found = captioned(captions)
    copied = in_order(found, np.repeat(np.arange(IMAGES * captions), copies))
    before, after = everything(found), everything(copied)

    for key in [*COUNTS_COPIES, "entropy/i2t_normalized"]:
        del before[key]
    before["entropy/gallery"] *= copies
    for key in ("entropy/i2t_nats", "entropy/i2t_nats_scale_1", "entropy/i2t_nats_scale_100"):
        before[key] += math.log(copies)
    before = {key: value for key, value in before.items() if not key.startswith("entropy/i2t_normalized")}
    assert {key: after[key] for key in before} == pytest.approx(before, **TIGHT)
    assert after["gap/linear_separability"] == pytest.approx(
        measure_embeddings(found)["gap/linear_separability"], abs=0.05
    )


@pytest.mark.parametrize("captions", [1, 2, 5])
def test_clear_clusters_are_found_however_many_captions_an_image_has(captions: int) -> None:
    found = captioned(captions)
    assert found.labels_N is not None
    assert found.text_to_image_M is not None
    centre_CD = np.eye(WIDTH)[:4]
    clear = replace(
        found,
        image_ND=centre_CD[found.labels_N] + 0.01 * found.image_ND,
        text_MD=centre_CD[found.labels_N[found.text_to_image_M]] + 0.01 * found.text_MD,
    )

    for each in (clear, in_order(clear, mixed_up(clear, 1))):
        assert measure_embeddings(each)[BY_ROW] == pytest.approx(1)


@pytest.mark.parametrize("captions", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_interventions_judge_by_the_measures_of_measure(captions: int, seed: int) -> None:
    found = replace(captioned(captions, seed), labels_N=None, attributes_NF=None, class_CD=None)
    found = in_order(found, mixed_up(found, seed))
    units = derive_resampling_units(found)
    judged = {
        key: float(value_B[0])
        for statistic in build_statistics(found, ZeroShotTasks(), nothing(WIDTH))
        for key, value_B in statistic.values(np.ones((1, units.total))).items()
    }
    expected = measure_embeddings(found)

    assert {"gap/rmg", "gap/linear_separability", "quality/t2i_recall_1", "quality/mixed_ndcg_10"} <= set(judged)
    assert judged == pytest.approx({key: expected[key] for key in judged}, **TIGHT)


@pytest.mark.parametrize("captions", [2, 5])
def test_what_a_report_draws_does_not_depend_on_the_order_of_texts(captions: int) -> None:
    found = captioned(captions)
    other = in_order(found, mixed_up(found, 5))
    one, another = sample_plot_data(found), sample_plot_data(other)

    assert another.similarities.matched_B == pytest.approx(one.similarities.matched_B)
    assert another.difference_D == pytest.approx(one.difference_D, **TIGHT)
    order_D = np.argsort(-np.abs(one.difference_D))
    steps, other_steps = (
        measure_gap_after_removal(each.image_ND, each.text_MD, order_D, each.text_to_image_M) for each in (found, other)
    )
    assert [step.rmg() for step in other_steps] == pytest.approx([step.rmg() for step in steps], **TIGHT)


def test_of_many_captions_those_of_the_drawn_images_are_looked_at() -> None:
    found = measure_with_samples(captioned(5), replace(THOROUGH_LIMITS, pairs=50)).samples["gap/linear_separability"]

    assert 40 <= found.sample <= 60
    assert found.population == 6 * IMAGES
    assert found.low < found.value < found.high
