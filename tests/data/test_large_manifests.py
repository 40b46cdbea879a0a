"""A manifest of many rows: read from its file when it is needed, with the values of one that is kept in memory."""

import errno
import hashlib
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from command_line import gapctl
from gapctl.config.trial import PairCaptions, PairData
from gapctl.data.image_text import index, manifest, row_arrays
from gapctl.data.image_text.feed import PairFeed, decode_manifest_rows
from gapctl.data.image_text.index import build_manifest, index_shards
from gapctl.data.image_text.manifest import (
    Manifest,
    build_pair_table,
    choose_validation_images,
    is_validation_image,
    read_manifest,
    split_training_validation_rows,
    tally_manifest,
    write_manifest,
)
from gapctl.data.image_text.read import ReadOptions
from gapctl.data.image_text.source import load_pair_manifests, resolve_pair_paths
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tools import ReshardRequest, compute_pair_stats, reshard_pairs
from gapctl.data.load import load_dataset
from gapctl.data.parallel_shards import Workers
from gapctl.errors import InputError
from pair_shards import pair, write_pairs, write_shard

HERE = Workers(1)
RULE = ReadOptions(16, PairCaptions(keep="half"))
BATCHES_BEFORE = "54ebc97042f6d8247c1cc67bc522c0a239bd94828ad62bc6f2ecbcb74210e1d9"
"""A digest of batches by a version that kept all rows in memory (2026-11-30); see the test that has it."""

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards, one of them with a copy, a silent sample and a sample that has lost its picture."""
    folder = tmp_path / "shards"
    folder.mkdir()
    write_pairs(folder / "00000.tar", range(20))
    spoilt = {"jpg": pair(40)["jpg"], "txt": b""}
    write_shard(
        folder / "00001.tar", [("000003", pair(3)), ("silent", spoilt), ("other", pair(4)), ("blind", {"txt": b"a"})]
    )
    write_pairs(folder / "00002.tar", range(30, 47))
    return folder


@pytest.fixture
def place(shards: Path) -> Path:
    """Their manifest's file."""
    out = shards / "manifest.parquet"
    index_shards(list_shards([str(shards)]), out, HERE)
    return out


@pytest.fixture
def few_rows_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is kept in memory, and eight make a piece."""
    monkeypatch.setattr(manifest, "MAX_LOADED_SAMPLES", 0)
    monkeypatch.setattr(index, "MAX_LOADED_SAMPLES", 0)
    monkeypatch.setattr(manifest, "ROW_GROUP", 8)


def read_both(place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Manifest, Manifest]:
    """The manifest as it is kept in memory, and as it is read when needed."""
    small = read_manifest(place)
    assert isinstance(small.rows, pl.DataFrame)
    monkeypatch.setattr(manifest, "MAX_LOADED_SAMPLES", 0)
    monkeypatch.setattr(manifest, "ROW_GROUP", 8)
    large = read_manifest(place)
    assert isinstance(large.rows, pl.LazyFrame)
    return small, large


def same(one: Iterable[Any], other: Iterable[Any]) -> bool:
    """Whether two tuples have the same arrays."""
    return all(np.array_equal(mine, its) for mine, its in zip(one, other, strict=True))


def test_what_is_asked_of_the_rows_is_the_same(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = read_both(place, monkeypatch)
    chosen = np.array([30, 2, 21, 2])

    assert large.samples.equals(small.samples)
    assert large.take(chosen, "key", "shard").equals(small.samples[chosen].select("key", "shard"))
    assert large.take(chosen[:0], "key").equals(small.samples[:0].select("key"))
    assert large.usable_rows.tolist() == small.usable_rows.tolist()
    assert (large.sample_count, large.usable_count) == (small.sample_count, small.usable_count) == (41, 38)
    assert large.find_shard_starts().tolist() == [0, 20, 24]
    for shard in small.shards:
        assert large.select_shard(shard.address, "key").equals(small.select_shard(shard.address, "key"))
    assert tally_manifest(large) == tally_manifest(small)
    assert compute_pair_stats(large, HERE) == compute_pair_stats(small, HERE)


def test_rows_split_into_the_same_halves_and_stand_in_the_same_table(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = read_both(place, monkeypatch)

    for share in (0.0, 0.3):
        for mine, its in zip(*(split_training_validation_rows(each, share) for each in (large, small)), strict=True):
            assert mine.tolist() == its.tolist()
        assert split_training_validation_rows(large, share)[0].tolist() == (
            split_training_validation_rows(small, share)[0].tolist()
        )  # now from the cache
    rows = small.usable_rows
    assert same(build_pair_table(large, rows), build_pair_table(small, rows))


def test_each_image_goes_the_way_that_its_mark_and_the_seed_say() -> None:
    mark_N = np.random.Generator(np.random.Philox(0)).integers(0, 1 << 64, 500, dtype=np.uint64)

    for share, seed in ((0.01, 0), (0.4, 3), (0.0, 1)):
        one_by_one = [is_validation_image(mark, share, seed) for mark in mark_N.tolist()]
        assert choose_validation_images(mark_N, share, seed).tolist() == one_by_one


def test_a_training_reads_the_same_batches_at_every_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = read_both(place, monkeypatch)
    rows = small.usable_rows

    for position in (0, 16, 38 * 16 + 20):
        feeds = [PairFeed(each, rows, RULE, 1, 4, position=position, stop=position + 40) for each in (small, large)]
        for (mine, _), (its, _) in zip(*feeds, strict=True):
            assert same(mine, its)
    galleries = [list(decode_manifest_rows(each, rows[3:9], RULE, seed=0)) for each in (small, large)]
    assert all(same(mine.pairs, its.pairs) for mine, its in zip(*galleries, strict=True))


@pytest.mark.parametrize("many", [False, True])
def test_batches_are_those_of_the_version_that_kept_all_rows_in_memory(
    many: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without pixels, which depend on Pillow's version."""
    for number, (first, last) in enumerate([(0, 40), (40, 41), (41, 97)]):
        write_pairs(tmp_path / f"{number:05d}.tar", range(first, last))
    if many:
        monkeypatch.setattr(index, "MAX_LOADED_SAMPLES", 0)
        monkeypatch.setattr(manifest, "MAX_LOADED_SAMPLES", 0)
        monkeypatch.setattr(manifest, "ROW_GROUP", 8)
    indexed = index_shards(list_shards([str(tmp_path)]), tmp_path / "m.parquet", HERE).manifest
    rows, digest = [row for row in range(97) if row % 5], hashlib.sha256()
    for position in (0, 1284, 4000):
        for batch, _ in islice(PairFeed(indexed, rows, ReadOptions(16, RULE.captions), 3, 12, position=position), 7):
            for name in ("tokens_BL", "sample_B", "text_id_B", "words_B", "kept_B", "planned_B", "bad_B"):
                digest.update(np.ascontiguousarray(getattr(batch, name)).tobytes())

    assert digest.hexdigest() == BATCHES_BEFORE


@pytest.mark.usefixtures("few_rows_are_many")
def test_processes_of_a_machine_share_one_table(place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = read_manifest(place).usable_rows
    first = build_pair_table(read_manifest(place), rows)
    files = sorted(path.name for path in (cache / "row_arrays").glob("*.npy"))
    monkeypatch.setattr(manifest, "_fill_records", lambda *_: pytest.fail("it was made again"))
    again = build_pair_table(read_manifest(place), rows)

    assert len(files) == 1
    for table in (first, again):
        row_arrays.release_mapped_pages(table.whole_N2)
    assert same(first, again)


@pytest.mark.usefixtures("few_rows_are_many")
@pytest.mark.parametrize("wrong", ["a file in the way", "a full disk"])
def test_without_a_cache_arrays_are_made_in_memory(
    wrong: str, place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if wrong == "a full disk":
        monkeypatch.setattr(row_arrays.os, "posix_fallocate", refuse)
    else:
        (cache / "row_arrays").write_text("in the way")

    train, held_out = split_training_validation_rows(read_manifest(place), 0.3)
    assert len(train) + len(held_out) == 38
    assert len(build_pair_table(read_manifest(place), train).shard_N) == len(train)
    assert not list(cache.rglob("*.npy"))


@pytest.mark.usefixtures("few_rows_are_many")
@pytest.mark.parametrize("content", [b"damaged", None])
def test_an_array_that_is_damaged_or_of_another_form_is_made_anew(
    content: bytes | None, place: Path, cache: Path
) -> None:
    expected = [np.array(half) for half in split_training_validation_rows(read_manifest(place), 0.3)]
    (file,) = (cache / "row_arrays").glob("*.npy")
    if content is None:
        np.save(file, np.arange(7, dtype=np.int32))
    else:
        file.write_bytes(content)

    assert same(split_training_validation_rows(read_manifest(place), 0.3), expected)


@pytest.mark.usefixtures("few_rows_are_many")
def test_a_system_that_cannot_reserve_room_on_its_disk_has_arrays_as_well(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(row_arrays.os, "posix_fallocate")

    split_training_validation_rows(read_manifest(place), 0.3)

    assert list((cache / "row_arrays").glob("*.npy"))


def test_a_file_that_is_replaced_while_it_is_parsed_is_parsed_again(
    place: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, parsed = manifest._parse_manifest, list[int]()

    def replace_once(content: bytes | Path, folder: str | None) -> Manifest:
        found = parse(content, folder)
        parsed.append(len(found.shards))
        if len(parsed) == 1:
            write_pairs(shards / "00003.tar", range(60, 63))
            write_manifest(place, build_manifest(list_shards([str(shards)]), HERE))
        return found

    monkeypatch.setattr(manifest, "_parse_manifest", replace_once)

    assert len(read_manifest(place).shards) == 4
    assert (parsed[0], parsed[-1]) == (3, 4)


@pytest.mark.parametrize("many", [False, True])
def test_a_folder_may_have_the_marks_of_a_pattern_in_its_name(
    many: bool, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if many:
        monkeypatch.setattr(manifest, "MAX_LOADED_SAMPLES", 0)
        monkeypatch.setattr(index, "MAX_LOADED_SAMPLES", 0)
    place = tmp_path / "kept [v2]*" / "manifest.parquet"
    place.parent.mkdir()

    for _ in range(2):
        index_shards(list_shards([str(shards)]), place, HERE)

    assert read_manifest(place).sample_count == 41
    assert place.is_file()


@pytest.mark.usefixtures("few_rows_are_many")
def test_arrays_that_nothing_asks_for_are_deleted_in_time(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_training_validation_rows(read_manifest(place), 0.3)
    monkeypatch.setattr(row_arrays, "UNUSED_SECONDS", -1.0)
    split_training_validation_rows(read_manifest(place), 0.2)

    assert len(list((cache / "row_arrays").glob("*.npy"))) == 1


@pytest.mark.usefixtures("few_rows_are_many")
def test_a_manifest_that_is_written_again_meanwhile_is_not_mixed_with_the_new_one(place: Path, shards: Path) -> None:
    before = read_manifest(place)
    write_pairs(shards / "00003.tar", range(60, 63))
    index_shards(list_shards([str(shards)]), place, HERE)

    with pytest.raises(InputError, match="was written again while it was read; run the same command again"):
        before.select("key")


@pytest.mark.usefixtures("few_rows_are_many")
def test_rows_with_a_problem_are_refused_by_name(place: Path) -> None:
    with pytest.raises(InputError, match=r"00001.tar: sample 000003 cannot be read \(the same key and image"):
        build_pair_table(read_manifest(place), np.arange(41))


@pytest.mark.parametrize(
    "changed", ["nothing", "a new last shard", "a new first shard", "a shard gone", "one rewritten"]
)
def test_indexing_again_gives_the_rows_that_indexing_anew_gives(
    changed: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "MAX_LOADED_SAMPLES", 0)
    monkeypatch.setattr(index, "MAX_LOADED_SAMPLES", 0)
    out = tmp_path / "manifest.parquet"
    index_shards(list_shards([str(shards)]), out, HERE)
    written = out.stat().st_mtime_ns
    copy = [("000000", pair(0)), ("000031", pair(31)), ("new", pair(70))]
    match changed:
        case "a new last shard":
            write_shard(shards / "00009.tar", copy)
        case "a new first shard":
            write_shard(shards / "0.tar", copy)
        case "a shard gone":
            (shards / "00000.tar").unlink()
        case "one rewritten":
            write_shard(shards / "00001.tar", copy)
    stored = list_shards([str(shards)])
    again = index_shards(stored, out, HERE)

    assert again.read == (changed not in ("nothing", "a shard gone"))
    assert (out.stat().st_mtime_ns == written) == (changed == "nothing")
    assert not list(tmp_path.glob(".manifest*"))
    monkeypatch.undo()
    anew = build_manifest(stored, HERE)
    assert read_manifest(out).samples.equals(anew.samples)
    assert list(again.manifest.shards) == list(read_manifest(out).shards) == list(anew.shards)


@pytest.mark.usefixtures("few_rows_are_many")
def test_a_large_manifest_moves_with_its_shards(place: Path, shards: Path, tmp_path: Path) -> None:
    before = read_manifest(place).samples
    write_manifest(shards / "again.parquet", read_manifest(place))
    moved = shards.rename(tmp_path / "moved")
    for name in ("manifest.parquet", "again.parquet"):
        after = read_manifest(moved / name).samples
        assert after.drop("shard").equals(before.drop("shard"))
        assert after["shard"][0] == str(moved / "00000.tar")


def test_new_shards_of_a_large_manifest_have_the_same_bytes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = read_both(place, monkeypatch)
    request = ReshardRequest(small.fingerprint, 9, shuffle=1, validation=0.3)
    done = [reshard_pairs(each, request, tmp_path / f"{number}", HERE) for number, each in enumerate((small, large))]

    assert done[0] == done[1]
    for folder in ("train", "validation"):
        files = [{path.name: path.read_bytes() for path in (tmp_path / n / folder).iterdir()} for n in ("0", "1")]
        assert files[0] == files[1] != {}


@pytest.mark.usefixtures("few_rows_are_many")
def test_a_trial_s_data_are_found_and_split_by_its_configuration(place: Path, shards: Path, cache: Path) -> None:
    data = PairData.model_validate({"dataset": "image_text", "source": str(place), "held_out_share": 0.3})
    shown: list[tuple[int, int]] = []
    load_dataset(data, lambda done, total: shown.append((done, total)))
    pairs = load_pair_manifests(resolve_pair_paths(data))
    other = shards.parent / "other"
    other.mkdir()
    write_pairs(other / "a.tar", [2, 90])
    index_shards(list_shards([str(other)]), other / "manifest.parquet", HERE)

    assert len(pairs.train_rows) + len(pairs.held_out_rows) == 38
    assert shown == sorted(shown, key=lambda each: each[0] / each[1])
    assert shown[-1] == (2 * len(pairs.train_rows), 2 * len(pairs.train_rows))
    assert len(list((cache / "row_arrays").glob("*.npy"))) == 2  # the rows of both sides, and the table
    with pytest.raises(InputError, match="1 of its 2 images are among those of"):
        load_pair_manifests(
            resolve_pair_paths(
                PairData.model_validate({"dataset": "image_text", "source": str(place), "held_out": str(other)})
            )
        )


def test_statistics_read_the_words_of_some_shards_where_asked(place: Path) -> None:
    def stats(*options: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(gapctl("data", "stats", str(place), "--json", *options).out)
        return found

    whole, part = stats(), stats("--words-of", "10")
    assert (whole["vocabulary"]["captions"], part["vocabulary"]["captions"]) == (38, 20)
    assert (whole["vocabulary"]["occurrences"], part["vocabulary"]["occurrences"]) == (114, 60)
    assert part["caption_words"] == whole["caption_words"]
    assert "(in the captions of 20 samples alone)" in gapctl("data", "stats", str(place), "--words-of", "10").out


def test_verification_of_some_shards_compares_the_others_by_size(place: Path, shards: Path) -> None:
    verify = ("data", "verify", str(place), "--workers", "1", "--only")
    ran = gapctl(*verify, str(shards / "00002.tar"))
    assert (ran.exit_code, "17 of 17 samples in 1 shards can be used" in ran.out) == (0, True)
    assert "2 other shards were compared by size and time; none was read" in ran.out
    (shards / "00000.tar").unlink()
    ran = gapctl(*verify, str(shards / "00002.tar"))
    assert (ran.exit_code, f"{shards / '00000.tar'}: is gone" in ran.out) == (1, True)
    write_pairs(shards / "00007.tar", [1])
    assert (
        "00007.tar: is not in the manifest, which has 3 other shards" in gapctl(*verify, str(shards / "00007.tar")).err
    )
    assert "expected the manifest of the shards" in gapctl("data", "verify", str(shards), "--only", str(shards)).err
