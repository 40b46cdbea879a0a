"""Every measure answers wrong arrays with one clear error, whether they come from a file or from a program."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from clouds import matched_rows, random_rows

from gapctl.errors import InputError
from gapctl.metrics.bias import mean_label_cosines, moad
from gapctl.metrics.checks import check_unit_rows
from gapctl.metrics.classification import flip_rate
from gapctl.metrics.clustering import estimate_clustering_v_measure
from gapctl.metrics.embedding_set import Embeddings, normalise_rows, normalise_rows_float32
from gapctl.metrics.entropy import estimate_entropy_at_gallery_size, estimate_mean_entropy
from gapctl.metrics.gap import GapSums
from gapctl.metrics.geometry import compare_class_orders, cross_uniformity, neighbor_overlap, uniformity
from gapctl.metrics.retrieval import KeyedRows, estimate_recall_at_depths, mixed_ndcg
from gapctl.metrics.separability import linear_separability
from gapctl.metrics.streaming import EmbeddingStream
from gapctl.metrics.suite import measure_embeddings, measure_entropies_by_scale

ROWS, WIDTH = 40, 8
KEY = np.arange(ROWS)
Rows = np.ndarray[Any, Any]

# Each function of rows of length one, with the other side sound.
MEASURES: dict[str, Callable[[Rows, Rows], Any]] = {
    "gap": lambda rows, sound: GapSums.of(rows, sound).rmg(),
    "gap of texts": lambda rows, sound: GapSums.of(sound, rows).rmg(),
    "bias": lambda rows, sound: moad(rows, KEY % 3, KEY % 2),
    "same": lambda rows, sound: mean_label_cosines(rows, KEY % 3),
    "clusters": lambda rows, sound: estimate_clustering_v_measure(rows, KEY % 3, sound, KEY % 3, ROWS),
    "entropy": lambda rows, sound: estimate_mean_entropy(rows, sound, 1.0, ROWS),
    "entropy of a gallery": lambda rows, sound: estimate_entropy_at_gallery_size(sound, rows, 1.0, 10, 4),
    "mixed search": lambda rows, sound: mixed_ndcg(KeyedRows(rows, KEY), KeyedRows(sound, KEY), 10, ROWS),
    "overlap": lambda rows, sound: neighbor_overlap(sound, rows, 5, ROWS),
    "orders": lambda rows, sound: compare_class_orders(rows, KEY % 5, sound[:5]),
    "recall": lambda rows, sound: estimate_recall_at_depths(rows, sound, KEY, KEY, ROWS),
    "separability": lambda rows, sound: linear_separability(sound, KEY, rows, KEY, ROWS),
    "uniformity": lambda rows, sound: uniformity(rows, ROWS),
    "uniformity across": lambda rows, sound: cross_uniformity(sound, KEY, rows, KEY, ROWS),
    "flips": lambda rows, sound: flip_rate(rows, sound[:5], ROWS),
}


def with_row(value: float) -> Rows:
    rows = random_rows(ROWS, WIDTH, 1)
    rows[3] = value
    return rows


BAD_ROWS: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: with_row(np.nan), "row 3 holds NaN"),
    "infinite": (lambda: with_row(np.inf), "row 3 holds infinite or far too large numbers"),
    "zeros": (lambda: with_row(0), "row 3 is all zeros"),
    "long rows": (lambda: 7 * random_rows(ROWS, WIDTH, 1), "row 0 is 7 long (40 of 40 such rows); expected rows of"),
    "slightly long rows": (lambda: 1.0003 * random_rows(ROWS, WIDTH, 1), "row 0 is 1.0003 long"),
    "one dimension": (lambda: np.ones(ROWS), "of shape (40,); expected (rows, width)"),
    "three dimensions": (lambda: np.ones((ROWS, 2, 4)), "of shape (40, 2, 4); expected (rows, width)"),
    "no rows": (lambda: np.ones((0, WIDTH)), "of shape (0, 8); expected (rows, width), neither of them zero"),
    "whole numbers": (lambda: np.ones((ROWS, WIDTH), int), "of type int64; expected floating-point embeddings"),
    "words": (lambda: np.full((ROWS, WIDTH), "a"), "of type <U1; expected floating-point embeddings"),
    "objects": (lambda: random_rows(ROWS, WIDTH).astype(object), "of type object; expected floating-point"),
    "a list": (lambda: random_rows(ROWS, WIDTH).tolist(), "a list; expected a numpy array of floats"),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_names_what_is_wrong_with_rows(name: str, bad: str) -> None:
    make, message = BAD_ROWS[bad]

    with pytest.raises(InputError) as raised:
        MEASURES[name](make(), random_rows(ROWS, WIDTH, 2))

    assert message in str(raised.value)


TWO_SIDED = [name for name in MEASURES if name not in ("bias", "same", "uniformity")]


@pytest.mark.parametrize("name", TWO_SIDED)
def test_every_measure_of_two_sides_refuses_two_widths(name: str) -> None:
    with pytest.raises(InputError, match=r"\d wide; expected \d, the width of"):
        MEASURES[name](random_rows(ROWS, WIDTH, 1), random_rows(ROWS, 5, 2))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_sound_rows_pass(name: str, kind: type[np.floating[Any]]) -> None:
    MEASURES[name](random_rows(ROWS, WIDTH, 1).astype(kind), random_rows(ROWS, WIDTH, 2).astype(kind))


@pytest.mark.parametrize("width", [2, 8, 64, 512])
def test_rows_of_length_one_in_half_precision_pass(width: int) -> None:
    rows = random_rows(2_000, width)
    half = rows.astype(np.float16)
    half /= np.linalg.norm(half.astype(np.float32), axis=1, keepdims=True).astype(np.float16)

    check_unit_rows(image=rows.astype(np.float16), text=half)


def test_rows_in_half_precision_that_are_not_of_length_one_are_refused() -> None:
    with pytest.raises(InputError, match=r"row 0 is 1\.01\d* long|row 0 is 1\.009\d* long"):
        check_unit_rows(image=(1.01 * random_rows(40, 512)).astype(np.float16))


@pytest.mark.parametrize("width", [2, 8, 64, 512])
def test_rows_of_length_one_in_bfloat16_pass_in_any_type(width: int) -> None:
    rows = torch.from_numpy(random_rows(2_000, width))
    unit = torch.nn.functional.normalize(rows.bfloat16(), dim=1)

    check_unit_rows(image=unit.float().numpy(), text=rows.bfloat16().double().numpy())
    check_unit_rows(image=unit.half().numpy())


@pytest.mark.parametrize("factor", [1.003, 1.02])
def test_rows_that_are_off_by_more_than_their_own_type_rounds_are_refused(factor: float) -> None:
    rows = (factor * random_rows(40, 512)).astype(np.float32)
    coarse = torch.from_numpy((1.02 * random_rows(40, 512)).astype(np.float32)).bfloat16().float().numpy()

    for wrong in (rows, coarse):
        with pytest.raises(InputError, match=r"row 0 is 1\.0[0-3]\d* long \(40 of 40 such rows\)"):
            check_unit_rows(image=wrong)


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_takes_float32_rows_that_were_normalised_in_bfloat16(name: str) -> None:
    clouds = [torch.from_numpy(random_rows(ROWS, WIDTH, seed)).bfloat16() for seed in (1, 2)]

    MEASURES[name](*(torch.nn.functional.normalize(rows, dim=1).float().numpy() for rows in clouds))


BAD_KEYS: dict[str, tuple[Any, str]] = {
    "floats": (KEY.astype(float), "of type float64; expected whole numbers"),
    "truths": (KEY > 3, "of type bool; expected whole numbers"),
    "words": (KEY.astype(str), "expected whole numbers"),
    "too few": (KEY[:-1], "of shape (39,); expected (40,)"),
    "a list": (KEY.tolist(), "a list; expected whole numbers"),
}


@pytest.mark.parametrize("bad", BAD_KEYS)
def test_every_kind_of_key_is_a_whole_number_for_each_row(bad: str) -> None:
    key, message = BAD_KEYS[bad]
    one, other = random_rows(ROWS, WIDTH, 1), random_rows(ROWS, WIDTH, 2)
    calls: list[Callable[[], Any]] = [
        lambda: linear_separability(one, KEY, other, key, ROWS),
        lambda: cross_uniformity(one, key, other, KEY, ROWS),
        lambda: estimate_recall_at_depths(one, other, KEY, key, ROWS),
        lambda: estimate_clustering_v_measure(one, key, other, KEY, ROWS),
        lambda: mixed_ndcg(KeyedRows(one, key), KeyedRows(other, KEY), 10, ROWS),
        lambda: moad(one, key, KEY % 2),
        lambda: moad(one, KEY, key),
        lambda: GapSums.of(one, other, key),
        lambda: Embeddings(one, other, labels_N=key),
        lambda: Embeddings(one, other, text_to_image_M=key),
        lambda: Embeddings(one, other, text_group_M=key),
        lambda: Embeddings(one, other, prompt_of_N=key),
    ]

    for call in calls:
        with pytest.raises(InputError) as raised:
            call()
        assert message in str(raised.value)


BAD_SETS: dict[str, tuple[dict[str, Any], str]] = {
    "more texts": ({"text_MD": np.ones((41, 8))}, "`text`: 41 rows for 40 images; expected as many"),
    "another width": ({"text_MD": np.ones((40, 7))}, "`text`: 7 wide; expected 8, the width of `image`"),
    "an image too many": ({"text_to_image_M": KEY + 1}, "`text_to_image`: 40 in row 39; expected 0 to 39"),
    "a negative image": ({"text_to_image_M": KEY - 1}, "`text_to_image`: -1 in row 0; expected 0 to 39"),
    "an image without text": ({"text_to_image_M": KEY // 2 * 2}, "no text for image 1 (20 such images)"),
    "a prompt too many": ({"prompt_of_N": KEY + 1}, "`prompt_of`: 40 in row 39; expected 0 to 39, the row of a text"),
    "classes of another width": ({"class_CD": np.ones((3, 5))}, "`class`: 5 wide; expected 8"),
    "attributes of three axes": ({"attributes_NF": np.ones((40, 2, 2), int)}, "`attributes`: of shape (40, 2, 2)"),
    "few bias images": ({"bias_image_ND": np.ones((3, 8))}, "`image_with_attributes`: 3 rows; expected 40"),
    "images of words": ({"image_ND": np.full((40, 8), "a")}, "`image`: of type <U1; expected floating-point"),
}


@pytest.mark.parametrize("bad", BAD_SETS)
def test_a_set_of_embeddings_that_contradicts_itself_cannot_be_made(bad: str) -> None:
    changed, message = BAD_SETS[bad]

    with pytest.raises(InputError) as raised:
        replace(Embeddings(*matched_rows(ROWS, WIDTH)), **changed)

    assert message in str(raised.value)


@pytest.mark.parametrize("bad", ["NaN", "infinite", "zeros"])
@pytest.mark.parametrize("side", ["image", "text"])
def test_measure_names_the_row_that_has_no_direction(side: str, bad: str) -> None:
    make, message = BAD_ROWS[bad]
    clouds = {"image": random_rows(ROWS, WIDTH, 1), "text": random_rows(ROWS, WIDTH, 2), side: make()}
    embeddings = Embeddings(clouds["image"], clouds["text"])
    calls: list[Callable[[], Any]] = [
        lambda: measure_embeddings(embeddings),
        lambda: measure_entropies_by_scale(embeddings, (1.0,)),
        lambda: EmbeddingStream().update(embeddings),
    ]

    for call in calls:
        with pytest.raises(InputError) as raised:
            call()
        assert f"`{side}`: {message}" in str(raised.value)


@pytest.mark.parametrize("row", [5, 70_000])
def test_the_row_is_counted_from_the_first_of_all_blocks(row: int) -> None:
    image_ND = random_rows(70_010, 2).astype(np.float32)
    image_ND[row] = np.nan

    for normalise in (
        normalise_rows,
        normalise_rows_float32,
        lambda rows: EmbeddingStream().update(Embeddings(rows, rows)),
    ):
        with pytest.raises(InputError, match=f"row {row} holds NaN"):
            normalise(image_ND)


def test_a_single_row_has_no_distances_within() -> None:
    with pytest.raises(InputError, match="`image`: a single row; expected at least 2"):
        measure_embeddings(Embeddings(random_rows(1, WIDTH, 1), random_rows(1, WIDTH, 2)))


@pytest.mark.parametrize("normalise", [normalise_rows, normalise_rows_float32])
def test_rows_without_a_direction_cannot_be_normalised(normalise: Callable[..., Rows]) -> None:
    with pytest.raises(InputError, match="`text`: row 3 is all zeros"):
        normalise(with_row(0), "text")


def test_rows_that_are_nearly_of_length_one_no_longer_give_a_negative_gap() -> None:
    rows = 1.0001 * np.repeat(random_rows(1, WIDTH), ROWS, axis=0)

    with pytest.raises(InputError, match="expected rows of length one"):
        GapSums.of(rows, rows)
