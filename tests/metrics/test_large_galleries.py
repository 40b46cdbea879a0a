"""Sets too large to compare every row with every other: a part of the queries, the sums exact all the same."""

from dataclasses import replace

import numpy as np
import pytest
from clouds import matched_rows

from gapctl.metrics import suite
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.sampling import LEAST_QUERIES, THOROUGH_LIMITS, estimate_share
from gapctl.metrics.suite import measure_entropies_by_scale, measure_with_samples


@pytest.fixture(scope="module")
def pairs() -> Embeddings:
    image_ND, text_ND = matched_rows(1500, 8, noise=1.5, gap=0.5)
    return Embeddings(image_ND.astype(np.float32), text_ND.astype(np.float32), logit_scale=20.0)


def test_entropies_and_recalls_of_a_part_of_the_queries_hold_the_whole_in_their_interval(pairs: Embeddings) -> None:
    whole = measure_with_samples(pairs).values
    part = measure_with_samples(pairs, replace(THOROUGH_LIMITS, comparisons=1)).samples

    for key in ("entropy/i2t_nats", "entropy/t2i_nats", "quality/i2t_recall_1", "quality/t2i_recall_10"):
        assert part[key].sample == LEAST_QUERIES
        assert part[key].population == 1500
        margin = part[key].high - part[key].low
        assert part[key].low - margin < whole[key] < part[key].high + margin


def test_at_several_scales_each_entropy_says_how_many_queries_it_saw(pairs: Embeddings) -> None:
    found = measure_entropies_by_scale(pairs, (1.0, 50.0), replace(THOROUGH_LIMITS, comparisons=1200 * 1500)).samples

    assert {found[f"entropy/i2t_nats_scale_{scale}"].sample for scale in (1, 50)} == {1200}


def test_rows_compared_in_single_precision_give_the_same_to_five_digits(
    pairs: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_with_samples(pairs).values
    monkeypatch.setattr(suite, "MAX_DOUBLES", 10)
    narrow = measure_with_samples(pairs).values

    assert narrow["gap/rmg"] == whole["gap/rmg"], "sums over rows stay in double precision"
    for key, value in whole.items():
        assert narrow[key] == pytest.approx(value, rel=1e-5, abs=1e-3), key


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.998])
def test_a_rare_hits_interval_holds_the_share_as_often_as_it_says(share: float) -> None:
    rng, rounds, population = np.random.default_rng(5), 2000, 200_000
    hits = rng.hypergeometric(round(share * population), round((1 - share) * population), 1500, rounds)

    found = [estimate_share(np.arange(1500) < count, population) for count in hits]

    assert 0.93 < np.mean([each.low <= share <= each.high for each in found]) < 0.98
    assert all(0 <= each.low < each.high <= 1 for each in found)
