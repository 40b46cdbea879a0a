"""Large sets are compared in one pass, and get what comparing metric by metric gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clouds import matched_rows

from gapctl.metrics import one_pass, suite
from gapctl.metrics.embedding_set import Embeddings, build_embeddings
from gapctl.metrics.sampling import LEAST_QUERIES, THOROUGH_LIMITS, SampleLimits
from gapctl.metrics.suite import MetricEstimates, measure_at_logit_scales
from gapctl.metrics.unit_rows import UnitRows, release_pages

SCALES = (1.0, 1 / 0.07, 100.0)
PART = replace(THOROUGH_LIMITS, comparisons=1 << 20, queries=600)
"""Limits that count 1,200 pairs as large, and let uniformity and neighbours see fewer queries than entropies do."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "GALLERY_BLOCK", 190)
    monkeypatch.setattr(one_pass, "QUERY_BLOCK", 110)


def make_pairs(captions: int = 1200) -> Embeddings:
    image_ND, text_ND = matched_rows(1200, 12, noise=0.8, gap=0.5)
    arrays = {
        "image": 3 * image_ND,
        "text": text_ND[np.arange(1200) * 7 % captions].astype(np.float32),
        "labels": np.arange(1200) % 5,
    }
    return build_embeddings(arrays, "rows")


def measure_both(
    pairs: Embeddings, limits: SampleLimits, monkeypatch: pytest.MonkeyPatch
) -> tuple[MetricEstimates, MetricEstimates]:
    found = measure_at_logit_scales(pairs, SCALES, limits)
    with monkeypatch.context() as patch:
        patch.setattr(suite, "_is_large", lambda *_: False)
        return measure_at_logit_scales(pairs, SCALES, limits), found


@pytest.mark.parametrize("captions", [1200, 600, 9, 1])
def test_one_pass_gives_what_metric_by_metric_gives(captions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, found = measure_both(make_pairs(captions), PART, monkeypatch)

    assert list(found.values) == list(expected.values)
    assert found.samples["entropy/i2t_nats_scale_100"].sample == LEAST_QUERIES
    assert found.samples["geometry/uniformity_cross"].sample == 600
    for key, value in expected.values.items():
        recall = key.startswith("quality/") and "recall" in key  # those are in float32, metric by metric
        assert found.values[key] == pytest.approx(value, rel=1e-12, abs=1e-3 if recall else 1e-12, nan_ok=True), key
    assert found.samples.keys() == expected.samples.keys()
    for key, sample in expected.samples.items():
        assert found.samples[key] == pytest.approx(sample, rel=1e-9, abs=1e-3, nan_ok=True), key


def test_in_single_precision_one_pass_is_as_near_to_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = make_pairs()
    exact = measure_both(pairs, PART, monkeypatch)[0].values
    monkeypatch.setattr(suite, "MAX_DOUBLES", 10)
    expected, found = (each.values for each in measure_both(pairs, PART, monkeypatch))

    for key, value in exact.items():
        assert found[key] == pytest.approx(value, rel=1e-5, abs=1e-3), key
    smooth = [key for key in exact if key.startswith(("entropy/", "geometry/uniformity")) and "_at_" not in key]
    errors, earlier = ([abs(values[key] / exact[key] - 1) for key in smooth] for values in (found, expected))
    assert max(errors) <= max(earlier)


def test_a_logit_scale_of_its_own_is_measured_beside_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, found = measure_both(replace(make_pairs(), logit_scale=100.0), PART, monkeypatch)

    assert list(found.values) == list(expected.values)
    assert found.values["entropy/t2i_nats"] == found.values["entropy/t2i_nats_scale_100"]


def test_trials_limits_and_class_prompts_are_never_large() -> None:
    pairs = make_pairs()
    prompts = replace(pairs, text_MD=pairs.text_MD[:5], text_group_M=None, prompt_of_N=pairs.labels_N)

    assert suite._is_large(pairs, PART)
    assert not suite._is_large(pairs, replace(PART, single=True))
    assert not suite._is_large(pairs, THOROUGH_LIMITS)
    assert not suite._is_large(prompts, replace(PART, comparisons=1))


def test_rows_of_a_mapped_file_are_the_same_after_their_pages_were_given_back(tmp_path: Path) -> None:
    row_ND = matched_rows(100, 8)[0]
    np.save(tmp_path / "image.npy", row_ND)
    mapped_ND = np.load(tmp_path / "image.npy", mmap_mode="r")
    before = UnitRows(mapped_ND, np.float64)[10:20]
    release_pages(mapped_ND)

    assert np.array_equal(UnitRows(mapped_ND, np.float64)[np.arange(10, 20)], before)
    assert np.array_equal(mapped_ND, row_ND)
