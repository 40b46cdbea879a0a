"""A stream of blocks gives what the whole gives, in any order of blocks and workers, and does not drift."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from clouds import matched_rows, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gapctl.errors import InputError
from gapctl.metrics.bias import BiasSums
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import GapSums
from gapctl.metrics.streaming import EmbeddingStream
from gapctl.metrics.suite import measure_embeddings

TIGHT = {"rel": 1e-9, "abs": 1e-11}


def labelled(count: int, width: int, seed: int) -> Embeddings:
    image_ND, text_ND = matched_rows(count, width, seed, gap=0.3)
    rng = np.random.Generator(np.random.Philox(seed))
    return Embeddings(
        3 * image_ND,
        text_ND / 7,
        labels_N=rng.integers(-1, 3, count) * 10,
        attributes_NF=rng.integers(0, 3, (count, 2)),
    )


def rows_of(whole: Embeddings, rows: NDArray[np.int64]) -> Embeddings:
    return Embeddings(
        whole.image_ND[rows],
        whole.text_MD[rows],
        labels_N=None if whole.labels_N is None else whole.labels_N[rows],
        attributes_NF=None if whole.attributes_NF is None else whole.attributes_NF[rows],
        class_CD=whole.class_CD,
    )


def streamed(whole: Embeddings, parts: list[NDArray[np.int64]]) -> EmbeddingStream:
    stream = EmbeddingStream()
    for rows in parts:
        stream.update(rows_of(whole, rows))
    return stream


@given(st.integers(2, 60), st.integers(2, 10), st.integers(0, 2**32), st.data())
@settings(max_examples=60)
def test_any_blocks_over_any_workers_in_any_order_give_what_the_whole_gives(
    count: int, width: int, seed: int, data: st.DataObject
) -> None:
    whole = labelled(count, width, seed)
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1), max_size=5)))
    parts = np.split(np.array(data.draw(st.permutations(range(count)))), cuts)
    split = data.draw(st.integers(0, len(parts)))
    one, other = streamed(whole, parts[:split]), streamed(whole, parts[split:])
    one.merge(other)

    expected = measure_embeddings(whole)
    found = one.compute()
    assert {"gap/rmg", "gap/l2i", "bias/moad_image", "bias/moad_text", "geometry/effective_rank_text"} <= found.keys()
    assert found == pytest.approx({key: expected[key] for key in found}, nan_ok=True, **TIGHT)


def test_the_bias_of_texts_is_taken_from_that_of_images() -> None:
    found = measure_embeddings(labelled(300, 16, 1))

    assert found["bias/moad_image_less_text"] == found["bias/moad_image"] - found["bias/moad_text"] != 0


def test_a_block_is_cut_to_the_cache_without_a_trace_in_the_numbers() -> None:
    whole = labelled(3000, 64, 1)
    stream = EmbeddingStream()
    stream.update(whole)

    expected = measure_embeddings(whole)
    assert stream.compute() == pytest.approx({key: expected[key] for key in stream.compute()}, **TIGHT)


def test_a_thousand_objects_are_summed_as_a_few_are() -> None:
    whole = labelled(3000, 8, 4)
    many = Embeddings(
        whole.image_ND, whole.text_MD, labels_N=np.arange(3000) * 7 % 1000, attributes_NF=whole.attributes_NF
    )
    found = streamed(many, np.split(np.random.Generator(np.random.Philox(1)).permutation(3000), [900, 1000])).compute()

    expected = measure_embeddings(many)
    assert found == pytest.approx({key: expected[key] for key in found}, **TIGHT)


@pytest.mark.parametrize("labels", ["none", "few", "far apart", "too many to combine"])
def test_a_large_block_without_second_moments_gives_what_its_rows_give_in_float64(labels: str) -> None:
    whole = labelled(5000, 16, 5)
    if labels == "far apart" and whole.labels_N is not None:
        whole = replace(whole, labels_N=whole.labels_N * 10**9)
    elif labels == "too many to combine":
        whole = replace(whole, labels_N=np.arange(5000) % 700)
    elif labels == "none":
        whole = replace(whole, labels_N=None, attributes_NF=None)
    text_ND = whole.text_MD.copy()
    text_ND[7] = whole.image_ND[7] * (1 + 1e-9)  # a pair too close for its cosine
    whole = replace(whole, image_ND=whole.image_ND.astype(np.float32), text_MD=text_ND.astype(np.float32))
    stream = EmbeddingStream(second_moments=False)
    stream.update(whole)
    stream.update(rows_of(whole, np.arange(100)))

    again = np.concatenate([np.arange(5000), np.arange(100)])
    image_ND, text_ND = normalise_rows(whole.image_ND[again]), normalise_rows(whole.text_MD[again])
    gap, found = GapSums.of(image_ND, text_ND), stream.sums().gap
    assert found.rmg() == pytest.approx(gap.rmg(), rel=1e-12)
    assert found.l2m() == pytest.approx(gap.l2m(), rel=1e-12)
    assert found.l2i() == pytest.approx(gap.l2i(), rel=1e-9)
    assert found.rmg_shifted() == pytest.approx(gap.rmg_shifted(), rel=1e-12)
    if whole.labels_N is not None and whole.attributes_NF is not None:
        bias = BiasSums.of(text_ND, whole.labels_N[again], whole.attributes_NF[again]).metrics("text")
        assert {key: stream.compute()[key] for key in bias} == pytest.approx(bias, rel=1e-12, abs=1e-14)


def test_a_large_block_names_the_row_that_has_no_direction() -> None:
    whole = replace(labelled(5000, 4, 6), labels_N=None, attributes_NF=None)
    whole.text_MD[4321] = 0

    with pytest.raises(InputError, match="`text`: row 4321 is all zeros"):
        EmbeddingStream(second_moments=False).update(whole)


def test_float32_rows_are_added_in_float64() -> None:
    whole = labelled(2000, 32, 2)
    narrow = Embeddings(whole.image_ND.astype(np.float32), whole.text_MD.astype(np.float32))
    stream = EmbeddingStream()
    stream.update(narrow)

    expected = measure_embeddings(narrow)
    assert stream.compute() == pytest.approx({key: expected[key] for key in stream.compute()}, **TIGHT)


def test_several_captions_of_an_image_stay_with_it() -> None:
    image_ND, first_ND = matched_rows(40, 6)
    text_MD = np.concatenate([first_ND, random_rows(40, 6, 9)])
    owner_M = np.tile(np.arange(40), 2)
    stream = EmbeddingStream()
    for rows in (np.arange(15), np.arange(15, 40)):
        mine_M = np.isin(owner_M, rows)
        stream.update(Embeddings(image_ND[rows], text_MD[mine_M], text_to_image_M=owner_M[mine_M] - rows[0]))

    expected = measure_embeddings(Embeddings(image_ND, text_MD, text_to_image_M=owner_M))
    assert stream.compute() == pytest.approx({key: expected[key] for key in stream.compute()}, **TIGHT)


def test_class_prompts_give_accuracy_over_all_blocks() -> None:
    label_N, class_CD = np.arange(90) % 3, np.eye(3, 8)
    image_ND = normalise_rows(class_CD[label_N] + 2 * random_rows(90, 8))
    whole = Embeddings(image_ND, image_ND, labels_N=label_N, attributes_NF=label_N[:, None], class_CD=class_CD)

    found = streamed(whole, np.split(np.arange(90), [20, 55])).compute()["quality/object_accuracy"]
    assert found == measure_embeddings(whole)["quality/object_accuracy"]
    assert 50 < found < 100


def test_nearly_equal_pairs_keep_their_distance() -> None:
    image_ND = random_rows(200, 16)
    text_ND = normalise_rows(image_ND + 1e-6 * random_rows(200, 16, 1))
    stream = EmbeddingStream(second_moments=False)
    stream.update(Embeddings(image_ND, text_ND))

    assert stream.compute()["gap/l2i"] == pytest.approx(
        measure_embeddings(Embeddings(image_ND, text_ND))["gap/l2i"], rel=1e-8
    )


def test_streams_that_know_different_things_are_not_merged() -> None:
    whole = labelled(20, 4, 3)
    bare, full = EmbeddingStream(), EmbeddingStream()
    bare.update(Embeddings(whole.image_ND, whole.text_MD))
    full.update(whole)

    with pytest.raises(ValueError, match="no labels of images"):
        bare.merge(full)


def test_an_empty_stream_has_no_result_and_adds_nothing() -> None:
    whole = labelled(20, 4, 3)
    full = streamed(whole, [np.arange(20)])
    before = full.compute()
    full.merge(EmbeddingStream())

    assert full.compute() == before
    with pytest.raises(ValueError, match="nothing was added"):
        EmbeddingStream().compute()


def test_class_prompts_are_no_stream_of_texts() -> None:
    with pytest.raises(ValueError, match="class_CD"):
        EmbeddingStream().update(Embeddings(np.eye(4), np.eye(4)[:2], prompt_of_N=np.array([0, 1, 0, 1])))


def ten_million_rows() -> Iterator[NDArray[np.float32]]:
    """Two images that alternate, ten million rows in all, whose sums are known without adding."""
    pair_2D = np.array([[0.6, 0.8], [0.8, 0.6]], np.float32)
    block_BD = np.tile(pair_2D, (50_000, 1))
    for _ in range(100):
        yield block_BD


def test_float32_sums_would_be_off_by_a_hundredth_at_ten_million_rows_and_float64_ones_are_not() -> None:
    narrow_D = np.zeros(2, np.float32)
    stream = EmbeddingStream(second_moments=False)
    for block_BD in ten_million_rows():
        narrow_D = np.add.reduce(np.concatenate([narrow_D[None], block_BD]), axis=0)  # row after row, in float32
        stream.update(Embeddings(block_BD, block_BD))

    exact = 0.7 * 10_000_000
    assert stream.sums().gap.image.total_D == pytest.approx([exact, exact], rel=1e-7)
    assert np.abs(narrow_D / exact - 1).max() > 0.01


AFTER_THE_MAIN_THREAD = """
import threading
import numpy as np
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.streaming import EmbeddingStream

def work():
    threading.main_thread().join()
    rows = np.random.default_rng(0).normal(size=(5_000, 8))
    stream = EmbeddingStream(second_moments=False)
    stream.update(Embeddings(rows, rows))
    print(stream.compute()["geometry/alignment"])

threading.Thread(target=work).start()
"""


def test_a_thread_that_outlives_the_main_one_adds_blocks_up() -> None:
    ended = subprocess.run([sys.executable, "-c", AFTER_THE_MAIN_THREAD], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert float(ended.stdout) == pytest.approx(0, abs=1e-12)
