"""The feed of pairs: the same batches for any interruption, any number of workers; bad samples are told, not hidden."""

import os
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gapctl.config.trial import PairCaptions, PairImages
from gapctl.data.image_text.feed import PairFeed, ThreadReader, decode_manifest_rows
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import Manifest, build_pair_table, split_training_validation_rows
from gapctl.data.image_text.order import Chunk, PairOrder, WorkerShare, split_into_spans
from gapctl.data.image_text.read import ChunkReader, FeedCounts, PairBatch, ReadContext, ReadOptions
from gapctl.data.image_text.storage import list_shards
from gapctl.data.parallel_shards import Workers
from gapctl.errors import InputError, WorkError
from pair_shards import pair, places_of, write_pairs, write_shard

RULE = ReadOptions(16, PairCaptions(keep="half"))
ROWS = range(30)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    write_pairs(tmp_path / "a.tar", range(17))
    write_pairs(tmp_path / "b.tar", range(17, 30))
    return indexed(tmp_path)


def indexed(folder: Path) -> Manifest:
    return build_manifest(list_shards([str(folder)]), Workers(1))


def batches(manifest: Manifest, count: int, batch: int = 4, **options: Any) -> list[tuple[PairBatch, int]]:
    options = {"rows": ROWS, "rule": RULE, "seed": 1} | options
    return list(islice(PairFeed(manifest, batch_size=batch, **options), count))


def same(one: PairBatch, other: PairBatch) -> bool:
    return all(np.array_equal(mine, its) for mine, its in zip(one, other, strict=True))


def test_a_batch_is_what_a_training_reads(manifest: Manifest) -> None:
    batch, position = batches(manifest, 1)[0]

    assert position == 4
    assert (batch.images_BCHW.shape, batch.images_BCHW.dtype) == ((4, 3, 16, 16), np.uint8)
    assert (batch.tokens_BL.shape, batch.tokens_BL.dtype) == ((4, 77), np.int64)
    assert set(batch.words_B.tolist()) == {3}
    assert set(batch.kept_B.tolist()) <= {1, 2}
    assert batch.substituted == 0


def test_pictures_and_captions_belong_together(manifest: Manifest) -> None:
    rule = ReadOptions(16)
    for batch, _ in batches(manifest, 8, rule=rule):
        strongest = batch.images_BCHW.reshape(4, 3, -1).mean(axis=2).argmax(axis=1)
        assert strongest.tolist() == (batch.sample_B % 3).tolist()
        equal = batch.sample_B[:, None] % 6 == batch.sample_B % 6
        assert np.array_equal(batch.text_id_B[:, None] == batch.text_id_B, equal)


def test_a_feed_goes_on_at_every_position(manifest: Manifest) -> None:
    whole = batches(manifest, 20)
    for begun in range(len(whole) - 1):
        resumed, position = batches(manifest, 1, position=whole[begun][1])[0]
        assert position == whole[begun + 1][1]
        assert same(resumed, whole[begun + 1][0])


def test_workers_have_the_batches_of_one_worker_also_when_their_number_changes(manifest: Manifest) -> None:
    alone = batches(manifest, 12)
    position, found = 0, []
    for world, count in ((1, 2), (2, 4), (4, 3), (1, 3)):
        shares = [batches(manifest, count, position=position, rank=rank, world=world) for rank in range(world)]
        for parts in zip(*shares, strict=True):
            found.append(np.concatenate([batch.images_BCHW for batch, _ in parts]))
            position = parts[0][1]
    assert position == alone[-1][1]
    for images, (batch, _) in zip(found, alone, strict=True):
        assert np.array_equal(images, batch.images_BCHW)


def test_an_epoch_has_every_sample_once_over_the_borders_of_batches(manifest: Manifest) -> None:
    samples = np.concatenate([batch.sample_B for batch, _ in batches(manifest, 15)])

    assert sorted(samples[:30].tolist()) == sorted(samples[30:60].tolist()) == list(ROWS)
    assert samples[:30].tolist() != samples[30:60].tolist()


def test_a_sample_looks_otherwise_in_another_epoch(manifest: Manifest) -> None:
    seen: dict[int, list[np.ndarray[Any, Any]]] = {}
    for batch, _ in batches(manifest, 15, rule=ReadOptions(16, RULE.captions, crop_scale=(0.3, 0.5))):
        for sample, image in zip(batch.sample_B.tolist(), batch.images_BCHW, strict=True):
            seen.setdefault(sample, []).append(image)

    assert all(not np.array_equal(*images) for images in seen.values())


def test_it_ends_before_the_batch_that_would_go_too_far(manifest: Manifest) -> None:
    assert [position for _, position in batches(manifest, 99, stop=19)] == [4, 8, 12, 16]
    assert batches(manifest, 99, position=16, stop=19) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_parts_and_threads_do_not_matter(manifest: Manifest, threads: int) -> None:
    reading = ReadContext(build_pair_table(manifest, ROWS), RULE, 1)
    order = PairOrder(split_into_spans(reading.table.edges), 1)
    chunk = order.chunk(0, 0)
    every = np.arange(30)
    whole = ChunkReader(reading, chunk, every).read_part(every)
    for size in (1, 7):
        for first in range(0, 30, size):
            numbers = every[first : first + size]
            part = ChunkReader(reading, chunk, numbers).read_part(numbers)
            assert all(np.array_equal(mine, its[numbers]) for mine, its in zip(part, whole, strict=True))
    read = list(ThreadReader(threads).read(reading, order, WorkerShare(0, 30, 0, 1, 30)))
    for place in range(len(whole)):
        assert np.array_equal(np.concatenate([part[place] for part in read]), whole[place])


def spoilt(folder: Path) -> Manifest:
    """Thirty samples that the index finds sound, of which 3 and 20 cannot be decoded and 7 has no keywords."""
    samples = [(f"{number:06d}", pair(number, keywords=["thing"])) for number in range(30)]
    for number in (3, 20):
        image = samples[number][1]["jpg"]
        samples[number][1]["jpg"] = image[: len(image) // 2] + bytes(len(image) - len(image) // 2 - 2) + b"\xff\xd9"
    samples[7] = ("000007", pair(7))
    write_shard(folder / "a.tar", samples[:17])
    write_shard(folder / "b.tar", samples[17:])
    return indexed(folder)


KEYWORDS = ReadOptions(16, PairCaptions(keep="keywords"))


def test_the_next_sound_sample_of_the_order_stands_in_for_a_bad_one(tmp_path: Path) -> None:
    manifest = spoilt(tmp_path)
    feed = PairFeed(manifest, ROWS, KEYWORDS, 1, 4, stop=60, bad_share=0.5)
    planned = [np.arange(30)[places_of(feed.order, start, start + 30)] for start in (0, 30)]
    read = np.concatenate([batch.sample_B for batch, _ in feed])
    for epoch in (0, 1):
        order = planned[epoch].tolist()
        for place, sample in enumerate(order):
            sound = [other for other in order[place:] + order[:place] if other not in (3, 7, 20)]
            assert read[30 * epoch + place] == sound[0], (epoch, sample)
    assert feed.counts.substituted == {"undecodable image": 4, "lacks what the caption treatment needs": 2}
    assert feed.counts.substituted_share == 0.1


def test_stand_ins_are_the_same_for_every_worker_and_place_to_go_on(tmp_path: Path) -> None:
    manifest = spoilt(tmp_path)
    options: dict[str, Any] = {"rule": KEYWORDS, "bad_share": 0.5}
    alone = batches(manifest, 15, **options)
    assert sum(batch.substituted for batch, _ in alone) == 6
    for batch, position in alone:
        halves = [batches(manifest, 1, position=position - 4, rank=rank, world=2, **options)[0][0] for rank in range(2)]
        assert np.array_equal(np.concatenate([half.images_BCHW for half in halves]), batch.images_BCHW)
        assert sum(half.substituted for half in halves) == batch.substituted


def test_too_many_bad_samples_stop_the_training_and_are_named(tmp_path: Path) -> None:
    manifest = spoilt(tmp_path)
    with pytest.raises(WorkError) as raised:
        batches(manifest, 99, rule=KEYWORDS)
    message = str(raised.value)

    assert "more than the 5.0% that are allowed" in message
    assert "a.tar 000003 (undecodable image)" in message
    assert "a.tar 000007 (lacks what the caption treatment needs)" in message
    assert "gapctl data verify" in message


def test_fewer_bad_samples_than_allowed_are_counted_only(tmp_path: Path) -> None:
    assert sum(batch.substituted for batch, _ in batches(spoilt(tmp_path), 15, bad_share=0.2, rule=KEYWORDS)) == 6


def test_a_shard_that_is_gone_ends_it_at_once(manifest: Manifest, tmp_path: Path) -> None:
    feed = iter(PairFeed(manifest, ROWS, RULE, 1, 4))
    next(feed)
    (tmp_path / "b.tar").unlink()
    with pytest.raises(WorkError, match=r"b\.tar: is gone since it was indexed.*gapctl data index"):
        list(islice(feed, 40))


def test_a_shard_that_has_grown_short_costs_its_last_samples(manifest: Manifest, tmp_path: Path) -> None:
    cut = manifest.samples.row(27, named=True)["offset"] + 600
    os.truncate(tmp_path / "b.tar", cut)
    feed = PairFeed(manifest, ROWS, RULE, 1, 5, stop=30, bad_share=0.5)
    read = np.concatenate([batch.sample_B for batch, _ in feed])

    assert set(read.tolist()) == set(range(27))
    assert feed.counts.substituted == {"its shard has grown short": 3}


def test_a_shard_that_was_written_anew_is_not_taken_for_the_old_one(manifest: Manifest, tmp_path: Path) -> None:
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(bytes(len(content)))
    feed = PairFeed(manifest, ROWS, RULE, 1, 5, stop=30, bad_share=0.9)

    assert np.concatenate([batch.sample_B for batch, _ in feed]).min() >= 17
    assert feed.counts.substituted == {"not the image that was indexed": 17}


def test_a_chunk_without_a_sound_sample_is_no_endless_search(manifest: Manifest) -> None:
    with pytest.raises(WorkError, match="none of the 30 samples"):
        batches(manifest, 1, rule=KEYWORDS)


def test_counts_go_on_where_a_checkpoint_left_them(manifest: Manifest) -> None:
    whole = PairFeed(manifest, ROWS, RULE, 1, 6, stop=60)
    begun = PairFeed(manifest, ROWS, RULE, 1, 6, stop=24)
    for feed in (whole, begun):
        assert list(feed)
    resumed = PairFeed(manifest, ROWS, RULE, 1, 6, position=24, stop=60, counts=FeedCounts(**begun.counts.state()))
    assert list(resumed)

    counted = {"samples", "words", "kept", "empty", "substituted"}
    assert {name: resumed.counts.state()[name] for name in counted} == {
        name: whole.counts.state()[name] for name in counted
    }
    metrics = resumed.counts.metrics()
    assert metrics["captions/share_kept"] == pytest.approx(0.5, abs=0.1)
    assert 0 < metrics["data/wait_share"] <= 1


def test_empty_captions_are_counted(manifest: Manifest) -> None:
    feed = PairFeed(manifest, ROWS, ReadOptions(16, PairCaptions(keep="quarter")), 1, 6, stop=600)
    empty = sum(int((batch.kept_B == 0).sum()) for batch, _ in feed)

    assert feed.counts.empty == empty
    assert feed.counts.metrics()["captions/empty"] == pytest.approx(0.25, abs=0.06)


def test_a_batch_that_cannot_be_dealt_is_told(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="batch of 6 for worker 0 of 4"):
        PairFeed(manifest, ROWS, RULE, 1, 6, world=4)


def test_rows_that_the_index_left_out_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", [("one", pair(1)), ("two", {**pair(2), "txt": b""})])
    manifest = indexed(tmp_path)

    with pytest.raises(InputError, match=r"sample two cannot be read \(no caption\)"):
        build_pair_table(manifest, [0, 1])
    with pytest.raises(InputError, match="no usable image-text pairs"):
        build_pair_table(manifest, [])


def test_a_split_keeps_equal_images_together_and_depends_on_nothing_else(tmp_path: Path) -> None:
    samples = [(f"{number:03d}", pair(number % 40)) for number in range(80)]
    write_shard(tmp_path / "a.tar", samples)
    manifest = indexed(tmp_path)
    train, validation = split_training_validation_rows(manifest, 0.3, seed=1)

    assert sorted([*train, *validation]) == list(range(80))
    assert {row % 40 for row in train.tolist()}.isdisjoint(row % 40 for row in validation.tolist())
    assert 10 < len(validation) < 40
    fewer = Manifest(manifest.shards, manifest.samples.with_columns(problem=pl.Series(["x"] * 40 + [None] * 40)))
    assert split_training_validation_rows(fewer, 0.3, seed=1)[1].tolist() == [
        row for row in validation.tolist() if row >= 40
    ]
    assert split_training_validation_rows(manifest, 0.3, seed=2)[1].tolist() != validation.tolist()
    assert len(split_training_validation_rows(manifest, 0.0)[1]) == 0


def test_a_gallery_has_the_rows_asked_for_in_their_order(manifest: Manifest) -> None:
    rows = [29, 3, 17, 4]
    parts = list(decode_manifest_rows(manifest, rows, RULE, seed=0))
    again = list(decode_manifest_rows(manifest, rows[1:3], RULE, seed=0))

    assert np.concatenate([part.pairs.sample_B for part in parts]).tolist() == rows
    assert not any(part.left_out for part in parts)
    assert np.array_equal(parts[0].pairs.images_BCHW[1:3], again[0].pairs.images_BCHW)
    assert np.array_equal(parts[0].pairs.tokens_BL[1:3], again[0].pairs.tokens_BL)


def test_a_gallery_leaves_out_what_cannot_be_read_and_names_it(tmp_path: Path) -> None:
    parts = list(decode_manifest_rows(spoilt(tmp_path), [2, 3, 7, 8], KEYWORDS, seed=0))

    assert parts[0].pairs.sample_B.tolist() == [2, 8]
    assert len(parts[0].pairs.images_BCHW) == len(parts[0].pairs.tokens_BL) == 2
    assert [(left.row, left.key, left.why) for left in parts[0].left_out] == [
        (3, "000003", "undecodable image"),
        (7, "000007", "lacks what the caption treatment needs"),
    ]


def test_degraded_images_are_degraded(manifest: Manifest) -> None:
    grey = ReadOptions(16, PairCaptions(), PairImages(degrade="grey"))
    batch, _ = batches(manifest, 1, rule=grey)[0]

    assert np.array_equal(batch.images_BCHW[:, 0], batch.images_BCHW[:, 2])


def test_a_chunk_can_be_read_at_any_of_its_samples(manifest: Manifest) -> None:
    reading = ReadContext(build_pair_table(manifest, ROWS), RULE, 0)
    chunk = Chunk(0, 0, 0, np.arange(30)[::-1].copy())
    few = ChunkReader(reading, chunk, np.array([5]))

    assert few.get_bytes(5) == ChunkReader(reading, chunk, np.arange(30)).get_bytes(5)
    assert few.get_bytes(9) == ChunkReader(reading, chunk, np.arange(30)).get_bytes(9)
