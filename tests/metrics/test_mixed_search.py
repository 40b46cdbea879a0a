"""Mixed search equals its definition query by query, and falls where a gap hides the other modality."""

import numpy as np
import pytest
from clouds import Rows, matched_rows, random_rows
from hypothesis import given
from hypothesis import strategies as st

from gapctl.metrics.embedding_set import normalise_rows
from gapctl.metrics.retrieval import KeyedRows, mixed_ndcg

ALL = 10_000


def gain_of(query_D: Rows, key: int, own: KeyedRows, other: KeyedRows, depth: int) -> float | None:
    """Ranks everything but what shares the query's modality and key; None where nothing counts."""
    gallery = [(float(query_D @ row), mine == key) for row, mine in zip(other.row_ND, other.key_N, strict=True)]
    gallery += [(float(query_D @ row), False) for row, mine in zip(own.row_ND, own.key_N, strict=True) if mine != key]
    ranked = [counts for _, counts in sorted(gallery, reverse=True)][:depth]
    counted = sum(counts for _, counts in gallery)
    ideal = sum(1 / np.log2(place + 2) for place in range(min(counted, depth)))
    gained = sum(counts / np.log2(place + 2) for place, counts in enumerate(ranked))
    return gained / ideal if counted else None


@given(st.integers(2, 12), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32))
def test_the_gain_equals_its_definition_query_by_query(count: int, keys: int, depth: int, seed: int) -> None:
    rng = np.random.Generator(np.random.Philox(seed))
    image = KeyedRows(random_rows(count, 4, seed), rng.integers(0, keys, count))
    text = KeyedRows(random_rows(count + 2, 4, seed + 1), rng.integers(0, keys + 1, count + 2))
    gains = [gain_of(row, key, image, text, depth) for row, key in zip(*image, strict=True)]
    gains += [gain_of(row, key, text, image, depth) for row, key in zip(*text, strict=True)]

    counted = [gain for gain in gains if gain is not None]
    if counted:
        assert mixed_ndcg(image, text, depth, ALL).value == pytest.approx(np.mean(counted))


def test_equal_clouds_are_searched_perfectly_and_a_gap_hides_all() -> None:
    rows_ND, key_N = random_rows(100, 8), np.arange(100)
    far_ND = normalise_rows(np.hstack([rows_ND, np.full((100, 1), 3.0)]))
    opposite_ND = normalise_rows(np.hstack([rows_ND, np.full((100, 1), -3.0)]))

    assert mixed_ndcg(KeyedRows(rows_ND, key_N), KeyedRows(rows_ND, key_N), 10, ALL).value == pytest.approx(1)
    assert mixed_ndcg(KeyedRows(far_ND, key_N), KeyedRows(opposite_ND, key_N), 10, ALL).value == 0


def test_a_gap_costs_mixed_search_more_than_a_search_of_one_modality_could_tell() -> None:
    key_N = np.arange(200)
    near, far = matched_rows(200, 16, noise=0.2), matched_rows(200, 16, noise=0.2, gap=1.0)

    values = [mixed_ndcg(KeyedRows(image, key_N), KeyedRows(text, key_N), 10, ALL).value for image, text in (near, far)]
    assert values[0] > 0.9
    assert values[1] < 0.2


def test_a_sample_of_queries_gives_an_interval_around_the_whole() -> None:
    key_N = np.arange(400)
    image_ND, text_ND = matched_rows(400, 8)
    image, text = KeyedRows(image_ND, key_N), KeyedRows(text_ND, key_N)

    part, whole = mixed_ndcg(image, text, 10, 200), mixed_ndcg(image, text, 10, ALL)
    assert (part.sample, part.population, whole.sample) == (200, 800, 800)
    assert part.low < whole.value < part.high
