"""What must hold of the metrics whatever the embeddings are: definitions over all pairs, merging, rotation."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapctl.metrics.bias import mean_label_cosines, moad
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import GapSums
from gapctl.metrics.suite import measure_embeddings, measure_entropies_by_scale

TIGHT = {"rel": 1e-9, "abs": 1e-12}


class Clouds(NamedTuple):
    """Matched embeddings with a gap somewhere between none and all, object labels and two attributes."""

    image_ND: NDArray[np.float64]
    text_ND: NDArray[np.float64]
    label_N: NDArray[np.int64]
    attribute_NF: NDArray[np.int64]

    @property
    def embeddings(self) -> Embeddings:
        return Embeddings(self.image_ND, self.text_ND, labels_N=self.label_N, attributes_NF=self.attribute_NF)


@st.composite
def clouds(draw: st.DrawFn) -> Clouds:
    count, width = draw(st.integers(2, 40)), draw(st.integers(2, 12))
    shift, noise = draw(st.floats(0, 3)), draw(st.floats(0.01, 3))
    rng = np.random.Generator(np.random.Philox(draw(st.integers(0, 2**32))))
    shared_ND = rng.normal(size=(count, width))
    offset_D = shift * rng.normal(size=width)
    image_ND = normalise_rows(shared_ND + noise * rng.normal(size=(count, width)) + offset_D)
    text_ND = normalise_rows(shared_ND + noise * rng.normal(size=(count, width)) - offset_D)
    return Clouds(image_ND, text_ND, rng.integers(0, 3, count), rng.integers(0, 3, (count, 2)))


def off_diagonal_mean(cosine_NN: NDArray[np.float64]) -> float:
    return float(cosine_NN[~np.eye(len(cosine_NN), dtype=bool)].mean())


def relative_gap(matched: float, image: float, text: float) -> float:
    within = ((1 - image) / 2 + (1 - text) / 2) / 2
    return ((1 - matched) / 2) / ((1 - matched) / 2 + within)


@given(clouds())
def test_both_relative_gaps_equal_their_definition_over_all_pairs(found: Clouds) -> None:
    image_NN, text_NN = found.image_ND @ found.image_ND.T, found.text_ND @ found.text_ND.T
    matched = float(np.diag(found.image_ND @ found.text_ND.T).mean())
    sums = GapSums.of(found.image_ND, found.text_ND)

    without = relative_gap(matched, off_diagonal_mean(image_NN), off_diagonal_mean(text_NN))
    assert sums.rmg() == pytest.approx(without, **TIGHT)
    assert sums.rmg_with_diagonal() == pytest.approx(
        relative_gap(matched, float(image_NN.mean()), float(text_NN.mean())), **TIGHT
    )


@given(clouds())
def test_distances_equal_their_definition_over_rows(found: Clouds) -> None:
    difference_ND = found.image_ND - found.text_ND
    sums = GapSums.of(found.image_ND, found.text_ND)
    squared = float(np.square(difference_ND).sum(axis=1).mean())

    assert sums.l2i() == pytest.approx(float(np.sqrt(np.square(difference_ND).sum(axis=1)).mean()), **TIGHT)
    assert sums.l2m() == pytest.approx(float(np.sqrt(np.square(difference_ND.mean(axis=0)).sum())), **TIGHT)
    assert sums.centroid_share() == pytest.approx(sums.l2m() ** 2 / squared, rel=1e-6)


@given(clouds())
def test_object_bias_equals_its_definition_over_all_pairs(found: Clouds) -> None:
    first, second = np.triu_indices(len(found.image_ND), k=1)
    cosine_P = np.einsum("pd,pd->p", found.image_ND[first], found.image_ND[second])

    def margin(label_N: NDArray[np.int64]) -> float:
        same_P = label_N[first] == label_N[second]
        both = same_P.any() and (~same_P).any()
        return float(cosine_P[same_P].mean() - cosine_P[~same_P].mean()) if both else float("nan")

    attribute = np.mean([margin(column) for column in found.attribute_NF.T])
    value = moad(found.image_ND, found.label_N, found.attribute_NF).value
    assert value == pytest.approx(margin(found.label_N) - attribute, nan_ok=True, **TIGHT)


@given(clouds(), st.data())
def test_sums_of_any_parts_in_any_order_equal_the_whole(found: Clouds, data: st.DataObject) -> None:
    count = len(found.image_ND)
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=4)))
    rows = data.draw(st.permutations(np.split(data.draw(st.permutations(range(count))), cuts)))
    parts = [GapSums.of(found.image_ND[part], found.text_ND[part]) for part in map(list, rows)]
    merged = parts[0]
    for part in parts[1:]:
        merged = part + merged

    whole = GapSums.of(found.image_ND, found.text_ND)
    for measured in ("l2m", "l2i", "rmg", "rmg_shifted", "rmg_with_diagonal", "centroid_share"):
        assert getattr(merged, measured)() == pytest.approx(getattr(whole, measured)(), **TIGHT)


@given(clouds(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_rotating_the_space_changes_nothing_but_which_dimensions_carry_the_gap(found: Clouds, seed: int) -> None:
    rng = np.random.Generator(np.random.Philox(seed))
    turn_DD = np.linalg.qr(rng.normal(size=(found.image_ND.shape[1],) * 2))[0]
    turned = found._replace(image_ND=found.image_ND @ turn_DD, text_ND=found.text_ND @ turn_DD)

    before, after = everything(found.embeddings), everything(turned.embeddings)
    free = {key for key in before if not key.startswith(("gap/top", "gap/dims", "quality/"))}
    assert {key: after[key] for key in free} == pytest.approx({key: before[key] for key in free}, nan_ok=True, **TIGHT)


@given(clouds(), st.floats(0.01, 1000))
@settings(max_examples=40)
def test_the_length_of_an_embedding_says_nothing(found: Clouds, length: float) -> None:
    longer = found._replace(image_ND=found.image_ND * length, text_ND=found.text_ND / length)

    before, after = everything(found.embeddings), everything(longer.embeddings)
    free = {key for key in before if not key.startswith(("gap/dims", "quality/"))}
    assert {key: after[key] for key in free} == pytest.approx({key: before[key] for key in free}, nan_ok=True, **TIGHT)


@given(clouds(), st.integers(0, 2**32))
@settings(max_examples=40)
def test_the_order_of_the_pairs_says_nothing(found: Clouds, seed: int) -> None:
    rows = np.random.Generator(np.random.Philox(seed)).permutation(len(found.image_ND))
    shuffled = Clouds(*(array[rows] for array in found))

    before = everything(found.embeddings)
    drawn_by_row = ("gap/linear", "quality/")
    free = {key for key in before if not key.startswith(("gap/dims", *drawn_by_row))}
    after = everything(shuffled.embeddings)
    assert {key: after[key] for key in free} == pytest.approx({key: before[key] for key in free}, nan_ok=True, **TIGHT)


@given(clouds())
@settings(max_examples=40)
def test_shares_and_entropies_stay_within_their_bounds(found: Clouds) -> None:
    measured = everything(found.embeddings)
    shares = [measured[f"gap/top{count}_share"] for count in (1, 3, 10)]

    assert 0 < shares[0] <= shares[1] <= shares[2] <= 1 + 1e-12
    assert measured["gap/dims_for_half"] <= measured["gap/dims_for_90"] <= found.image_ND.shape[1]
    assert 0 <= measured["gap/rmg"] <= 1
    assert all(-1e-9 <= value <= 1 + 1e-12 for key, value in measured.items() if "i2t_normalized" in key)
    assert measured["quality/i2t_recall_1"] <= measured["quality/i2t_recall_5"] <= measured["quality/i2t_recall_10"]


@given(clouds())
@settings(max_examples=40)
def test_a_larger_logit_scale_never_raises_the_entropy(found: Clouds) -> None:
    measured = measure_entropies_by_scale(found.embeddings, (1.0, 10.0, 100.0)).values
    for direction in ("i2t", "t2i"):
        values = [measured[f"entropy/{direction}_nats_scale_{scale}"] for scale in (1, 10, 100)]
        assert values[0] >= values[1] - 1e-12
        assert values[1] >= values[2] - 1e-12


@given(clouds())
def test_same_and_different_pairs_add_up_to_all_pairs(found: Clouds) -> None:
    cosine_NN = found.image_ND @ found.image_ND.T
    parts = mean_label_cosines(found.image_ND, found.label_N)
    count_K = np.bincount(found.label_N)
    same = int((count_K * (count_K - 1) // 2).sum())
    pairs = len(found.label_N) * (len(found.label_N) - 1) // 2

    total = np.nansum([parts.same * same, parts.different * (pairs - same)])
    assert total / pairs == pytest.approx(off_diagonal_mean(cosine_NN), **TIGHT)


def everything(embeddings: Embeddings) -> dict[str, float]:
    return measure_embeddings(embeddings) | measure_entropies_by_scale(embeddings, (1.0, 100.0)).values
