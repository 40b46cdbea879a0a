"""The order of pairs: every sample once an epoch, a function of data, seed and position alone."""

import pickle
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapctl.data.image_text.order import CHUNK_SAMPLES, SPAN_SAMPLES, PairOrder, Span, WorkerShare, split_into_spans
from pair_shards import places_of

shard_sizes = st.lists(st.integers(1, 700), min_size=1, max_size=12)


def order_of(shards: list[int], seed: int = 0) -> PairOrder:
    return PairOrder(split_into_spans([*accumulate(shards, initial=0)]), seed)


@given(shard_sizes)
def test_spans_are_neighbours_in_one_shard_and_about_equally_long(shards: list[int]) -> None:
    spans = split_into_spans([*accumulate(shards, initial=0)])

    assert [span.first for span in spans] == np.cumsum([0, *(span.samples for span in spans)])[:-1].tolist()
    assert {0, *np.cumsum(shards)[:-1].tolist()} <= {span.first for span in spans}
    assert sum(span.samples for span in spans) == sum(shards)
    assert all(0 < span.samples <= SPAN_SAMPLES for span in spans)


@given(shard_sizes, st.integers(0, 5), st.integers(0, 3))
def test_every_epoch_has_every_sample_once(shards: list[int], seed: int, epoch: int) -> None:
    order = order_of(shards, seed)

    places = places_of(order, epoch * order.samples, (epoch + 1) * order.samples)

    assert np.sort(places).tolist() == list(range(sum(shards)))


@given(shard_sizes, st.data())
def test_a_part_of_the_order_is_that_part_of_the_whole(shards: list[int], data: st.DataObject) -> None:
    order, end = order_of(shards), 2 * sum(shards)
    start = data.draw(st.integers(0, end))
    stop = data.draw(st.integers(start, end))

    assert places_of(order, start, stop).tolist() == places_of(order, 0, end)[start:stop].tolist()


def test_epochs_and_seeds_differ() -> None:
    first, second = order_of([500, 500], 1), order_of([500, 500], 2)
    orders = [places_of(first, 0, 1000), places_of(first, 1000, 2000), places_of(second, 0, 1000)]

    assert all((one != other).mean() > 0.9 for one, other in zip(orders, orders[1:] + orders[:1], strict=True))


def test_a_small_set_is_shuffled_whole() -> None:
    order = order_of([300, 300, 300])
    places = places_of(order, 0, 900)

    assert order.chunks == 1
    assert abs(np.corrcoef(places, np.arange(900))[0, 1]) < 0.15
    assert {place // 300 for place in places[:30].tolist()} == {0, 1, 2}


def test_chunks_are_of_few_spans_and_about_equally_large() -> None:
    order = order_of([1000] * 30)
    chunks = [order.chunk(0, number) for number in range(order.chunks)]

    assert order.chunks == round(30_000 / CHUNK_SAMPLES)
    assert [chunk.start for chunk in chunks] == np.cumsum([0, *(len(chunk.place_N) for chunk in chunks)])[:-1].tolist()
    assert all(0.7 * CHUNK_SAMPLES < len(chunk.place_N) < 1.4 * CHUNK_SAMPLES for chunk in chunks)
    assert all(len(set((chunk.place_N // 250).tolist())) <= 12 for chunk in chunks)


def test_a_chunk_is_found_by_each_of_its_positions() -> None:
    order = order_of([900] * 9)
    for chunk, _ in zip(order.iterate_chunks(0), range(2 * order.chunks), strict=False):
        for position in (chunk.start, chunk.stop - 1):
            assert order.find_chunk(position)[:3] == chunk[:3]


def test_an_order_is_the_same_in_another_process() -> None:
    order = order_of([900] * 9, 3)

    assert places_of(pickle.loads(pickle.dumps(order)), 0, 9000).tolist() == places_of(order, 0, 9000).tolist()


@given(shard_sizes, st.sampled_from([1, 2, 4]), st.integers(1, 20), st.integers(0, 500))
def test_workers_share_out_every_batch(shards: list[int], world: int, each: int, origin: int) -> None:
    order, batch = order_of(shards), world * each
    stop = origin + 7 * batch
    expected = places_of(order, origin, stop).reshape(7, world, each)
    for rank in range(world):
        share = WorkerShare(origin, batch, rank, world, stop)
        taken = []
        for chunk in order.iterate_chunks(origin):
            if chunk.start >= stop:
                break
            taken += chunk.place_N[share.of(chunk)].tolist()
        assert taken == expected[:, rank].ravel().tolist()


def test_no_samples_and_no_position_are_told() -> None:
    with pytest.raises(ValueError, match="no samples"):
        PairOrder([], 0)
    with pytest.raises(ValueError, match="position -1"):
        PairOrder([Span(0, 3)], 0).find_chunk(-1)
