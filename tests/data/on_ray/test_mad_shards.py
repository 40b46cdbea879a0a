"""MAD's shards: the cache's images, in the same bytes whatever made them; read as a source without a copy."""

import json
import os
import pickle
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from gapctl.data.mad import shard_folder as output
from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.factors import SHAPE_FACTORS, VARIANTS
from gapctl.data.mad.images import (
    ShardedImages,
    compute_generation_key,
    count_digits,
    find_variant_images,
    generate_variant_images,
    load_variant_images,
)
from gapctl.data.mad.shard_folder import make_folder, verify_folder
from gapctl.data.mad.source import compute_dataset_fingerprint
from gapctl.errors import InputError, WorkError
from idx_files import idx, write_digits
from shard_folders import PER_SHARD, contents, make
from sweeping import descendants

TRAIN, TEST = 7, 3
NAMES = [f"train-0000{n}.npy" for n in range(4)] + [f"test-0000{n}.npy" for n in range(2)]

pytestmark = pytest.mark.usefixtures("ray_session")


class Shared(NamedTuple):
    """IDX files, and the folder of shards made of them."""

    source: Path
    folder: Path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Seven train and three test digits; to be read only."""
    place = tmp_path_factory.mktemp("shards")
    source = write_digits(place / "mnist", TRAIN, TEST)
    make(source, place / "mad")
    return Shared(source, place / "mad")


@pytest.fixture
def copy(shared: Shared, tmp_path: Path) -> Shared:
    """A copy that a test may damage."""
    shutil.copytree(shared.folder, tmp_path / "mad")
    return Shared(shared.source, tmp_path / "mad")


def test_the_shards_hold_the_images_of_the_cache(shared: Shared, tmp_path: Path) -> None:
    for split, count in (("train", TRAIN), ("test", TEST)):
        cached = load_variant_images(str(shared.source), split, cache=tmp_path, workers=1)
        sharded = load_variant_images(str(shared.folder), split, cache=tmp_path / "unused")
        assert sharded.images_NVHW.shape == (count, 24, 28, 28)
        np.testing.assert_array_equal(np.asarray(sharded.images_NVHW), cached.images_NVHW)
        np.testing.assert_array_equal(sharded.digit_labels_N, cached.digit_labels_N)
        assert sharded.fingerprint == cached.fingerprint
    assert not (tmp_path / "unused").exists()


def test_the_manifest_leads_to_every_digit_and_the_table_to_every_variant(shared: Shared) -> None:
    manifest = pl.read_parquet(shared.folder / "manifest.parquet")
    variants = pl.read_parquet(shared.folder / "variants.parquet")
    assert manifest.height == TRAIN + TEST
    for row in manifest.iter_rows(named=True):
        content = (shared.folder / row["shard"]).read_bytes()
        digits = load_digits(str(shared.source), row["split"])
        assert row["label"] == digits.labels_N[row["digit"]]
        index = row["digit"]
        key = {"train": 1, "test": 2}[row["split"]]
        expected = generate_variant_images(digits.images_NHW, key)[index]
        for variant, offset in variants.select("variant", "offset").rows():
            begin = row["offset"] + offset
            assert content[begin : begin + 784] == expected[variant].tobytes()
    for labels, row in zip(VARIANTS, variants.iter_rows(named=True), strict=True):
        assert [row[factor.name] for factor in SHAPE_FACTORS] == [
            factor.values[label] for factor, label in zip(SHAPE_FACTORS, labels, strict=True)
        ]


def test_a_whole_folder_has_its_files_and_nothing_else(shared: Shared) -> None:
    assert sorted(contents(shared.folder)) == sorted([*NAMES, "mad.json", "manifest.parquet", "variants.parquet"])
    assert verify_folder(shared.folder).problems == ()


@pytest.mark.parametrize("workers", [1, 3])
def test_the_bytes_do_not_depend_on_the_number_of_workers(shared: Shared, tmp_path: Path, workers: int) -> None:
    make(shared.source, tmp_path / "mad", workers=workers)
    assert contents(tmp_path / "mad") == contents(shared.folder)


def test_a_whole_folder_is_left_alone(copy: Shared) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.folder.iterdir()}
    assert make(copy.source, copy.folder, open_ray=never).made == 0
    assert {path: path.stat().st_mtime_ns for path in copy.folder.iterdir()} == before


def never(workers: int) -> Any:
    raise AssertionError("Ray was started")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped byte": lambda folder: flip(folder / NAMES[1]),
    "a missing shard": lambda folder: (folder / NAMES[1]).unlink(),
    "a short shard": lambda folder: os.truncate(folder / NAMES[1], 200),
    "a shard of another split": lambda folder: shutil.copy(folder / NAMES[0], folder / NAMES[1]),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_and_only_it_is_made_again(copy: Shared, shared: Shared, damage: str) -> None:
    DAMAGES[damage](copy.folder)
    (problem,) = verify_folder(copy.folder).problems
    assert problem.file == NAMES[1]
    assert make(copy.source, copy.folder).made == 1
    assert contents(copy.folder) == contents(shared.folder)


@pytest.mark.parametrize("table", ["manifest.parquet", "variants.parquet"])
def test_a_damaged_table_is_named_and_written_again(copy: Shared, shared: Shared, table: str) -> None:
    flip(copy.folder / table)
    (problem,) = verify_folder(copy.folder).problems
    assert (problem.file, problem.what[:8]) == (table, "changed:")
    make(copy.source, copy.folder)
    assert contents(copy.folder) == contents(shared.folder)


def test_every_byte_of_the_description_counts(copy: Shared) -> None:
    path = copy.folder / "mad.json"
    content = path.read_bytes()
    for at in range(0, len(content), 37):
        path.write_bytes(content[:at] + bytes((content[at] ^ 4,)) + content[at + 1 :])
        assert [problem.file for problem in verify_folder(copy.folder).problems] == ["mad.json"]
    path.write_bytes(content[:-30])
    with pytest.raises(InputError, match=r"mad\.json: damaged.*Delete .* and make it again"):
        compute_dataset_fingerprint(str(copy.folder))


def test_a_manifest_of_another_folder_is_found_although_it_is_sound(
    copy: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(copy.source, tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "manifest.parquet", copy.folder)
    assert [problem.file for problem in verify_folder(copy.folder).problems] == ["manifest.parquet"]
    description = json.loads((copy.folder / "mad.json").read_text())
    other = json.loads((tmp_path / "other" / "mad.json").read_text())
    description["files"]["manifest.parquet"] = other["files"]["manifest.parquet"]
    monkeypatch.setattr("gapctl.data.mad.source._compute_checksum", lambda body: "taken")
    (copy.folder / "mad.json").write_text(json.dumps({**description, "checksum": "taken"}))
    (problem,) = verify_folder(copy.folder).problems
    assert problem.file == "manifest.parquet"
    assert problem.what.startswith("does not match mad.json about test-00000.npy")


def test_a_foreign_file_is_named_and_nothing_is_written_beside_it(copy: Shared) -> None:
    (copy.folder / "train-00009.npy").touch()
    assert [problem.file for problem in verify_folder(copy.folder).problems] == ["train-00009.npy"]
    with pytest.raises(InputError, match=r"holds other data \(train-00009.npy\).*Nothing was written"):
        make(copy.source, copy.folder, open_ray=never)


def test_what_other_systems_leave_in_a_folder_is_no_foreign_file(copy: Shared) -> None:
    for name in (".DS_Store", "._train-00000.npy", "Thumbs.db"):
        (copy.folder / name).touch()
    assert not verify_folder(copy.folder).problems
    assert make(copy.source, copy.folder, open_ray=never).made == 0


def test_a_folder_with_other_data_is_refused(shared: Shared, tmp_path: Path) -> None:
    (tmp_path / "train-00000.npy").write_bytes(b"my own")
    with pytest.raises(InputError, match="holds other data"):
        make(shared.source, tmp_path, open_ray=never)
    assert contents(tmp_path) == {"train-00000.npy": b"my own"}
    with pytest.raises(InputError, match="is a file; expected a folder"):
        make(shared.source, tmp_path / "train-00000.npy", open_ray=never)


OTHERWISE: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 5}, "--seed 0 there, 5 now"),
    "digits": ({"limit": 4}, "--digits all there, 4 now"),
    "format": ({"form": "webdataset"}, "--format npy there, webdataset now"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_folder_made_otherwise_is_refused_with_the_difference(copy: Shared, name: str) -> None:
    options, difference = OTHERWISE[name]
    with pytest.raises(InputError, match=f"was made otherwise: {difference}"):
        make(copy.source, copy.folder, open_ray=never, **options)


def test_a_changed_source_and_a_new_generator_are_refused(
    copy: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_digits(tmp_path / "other", TRAIN, TEST + 1)
    with pytest.raises(InputError, match=r"was made otherwise: the source's digits [0-9a-f]{16} there, "):
        make(other, copy.folder, open_ray=never)
    monkeypatch.setattr("gapctl.data.mad.shard_folder.GENERATOR_VERSION", 99)
    with pytest.raises(InputError, match="the generator's version 1 there, 99 now"):
        make(copy.source, copy.folder, open_ray=never)


def test_too_little_disk_is_said_with_the_figures_before_anything_is_written(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A full disk is what a test machine does not have: the system's answer about free space is put in its place.
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 3_000_000))
    with pytest.raises(InputError, match=r"4 MB are needed, and its disk has 3 MB free"):
        make(shared.source, tmp_path / "new", open_ray=never)
    assert not (tmp_path / "new").exists()


def test_splits_may_be_made_one_after_the_other(shared: Shared, tmp_path: Path) -> None:
    folder = tmp_path / "mad"
    make(shared.source, folder, splits=["test"])
    with pytest.raises(InputError, match=r"without train digits. Add them: `gapctl data mad --out"):
        load_variant_images(str(folder), "train")
    assert make(shared.source, folder, splits=["train"]).made == 4
    assert contents(folder) == contents(shared.folder)


def test_the_fingerprint_is_that_of_the_digits_only_where_the_images_are(shared: Shared, tmp_path: Path) -> None:
    whole = compute_dataset_fingerprint(str(shared.source))
    assert compute_dataset_fingerprint(str(shared.folder)) == whole
    make(shared.source, tmp_path / "more", limit=TRAIN)
    make(shared.source, tmp_path / "first", limit=TEST)
    make(shared.source, tmp_path / "seed", limit=TEST, seed=1)
    assert compute_dataset_fingerprint(str(tmp_path / "more")) == whole
    assert compute_dataset_fingerprint(str(tmp_path / "first")) == f"{whole}-first{TEST}"
    assert compute_dataset_fingerprint(str(tmp_path / "seed")) == f"{whole}-seed1-first{TEST}"
    digits = load_digits(str(shared.source), "test").images_NHW
    images = load_variant_images(str(tmp_path / "seed"), "test").images_NVHW
    np.testing.assert_array_equal(
        np.asarray(images), generate_variant_images(digits, compute_generation_key("test", 1))
    )
    assert count_digits(str(tmp_path / "first")) == {"train": TEST, "test": TEST}


def test_no_split_and_seed_share_their_random_choices() -> None:
    keys = [compute_generation_key(split, seed) for split in ("train", "test") for seed in range(50)]
    assert len(set(keys)) == len(keys)


def test_images_are_chosen_from_several_shards_as_from_one_array(shared: Shared) -> None:
    images = ShardedImages(shared.folder, "train")
    whole = np.asarray(images)
    generator = np.random.default_rng(0)
    digit, variant = generator.integers(0, TRAIN, (40, 3)), generator.integers(0, 24, (40, 3))
    np.testing.assert_array_equal(images[digit, variant], whole[digit, variant])
    assert images[np.empty(0, np.int64), np.empty(0, np.int64)].shape == (0, 28, 28)
    for beyond in (TRAIN, -1):
        with pytest.raises(IndexError):
            images[np.array([0, beyond]), np.array([0, 0])]


def test_another_process_gets_the_files_and_not_the_bytes(copy: Shared) -> None:
    images = load_variant_images(str(copy.folder), "train").images_NVHW
    sent = pickle.dumps(images)
    assert len(sent) < 500
    assert all(isinstance(part.base, np.memmap) for part in images._parts_NVHW)
    np.testing.assert_array_equal(np.asarray(pickle.loads(sent)), np.asarray(images))
    shutil.rmtree(copy.folder)
    with pytest.raises(WorkError, match=r"no folder of MAD's shards there on .* On a cluster"):
        pickle.loads(sent)


def test_a_source_with_a_missing_or_short_shard_is_refused(copy: Shared) -> None:
    os.truncate(copy.folder / NAMES[0], 1000)
    with pytest.raises(InputError, match=r"train-00000.npy: cannot be read.*`gapctl data verify"):
        load_variant_images(str(copy.folder), "train")
    (copy.folder / NAMES[0]).unlink()
    with pytest.raises(InputError, match=r"train-00000.npy: is missing.*`gapctl data verify"):
        find_variant_images(str(copy.folder), "train")


def test_shards_are_no_source_of_digits(shared: Shared, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder of MAD's shards, expected the digits"):
        make(shared.folder, tmp_path / "mad", open_ray=never)


def test_a_source_of_another_size_than_mnist_is_refused(tmp_path: Path) -> None:
    source = write_digits(tmp_path / "mnist", TRAIN, TEST)
    (source / "train-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((TRAIN, 32, 32), np.uint8)))
    with pytest.raises(InputError, match="images of 32x32 pixels, expected 28x28"):
        make(source, tmp_path / "mad", open_ray=never)
    assert not (tmp_path / "mad").exists()


class StoppedError(Exception):
    """What stops the making in a test."""


def test_stopped_work_goes_on_where_it_was_and_is_no_source_until_then(shared: Shared, tmp_path: Path) -> None:
    folder = tmp_path / "mad"

    def stop(task: str, done: int, total: int) -> None:
        if done >= 2 * PER_SHARD:
            raise StoppedError

    with pytest.raises(StoppedError):
        make(shared.source, folder, workers=1, on_progress=stop)
    assert not (folder / "mad.json").exists()
    for read in (compute_dataset_fingerprint, count_digits):
        with pytest.raises(InputError, match=r"its images are not all made. Run the `gapctl data mad --out"):
            read(str(folder))
    assert [problem.file for problem in verify_folder(folder).problems] == [".making"]
    with pytest.raises(InputError, match="--seed 0 there, 1 now"):
        make(shared.source, folder, seed=1, open_ray=never)
    assert 0 < make(shared.source, folder).made <= len(NAMES) - 2
    assert contents(folder) == contents(shared.folder)


def test_two_at_once_do_not_make_one_folder(shared: Shared, tmp_path: Path) -> None:
    answers: list[str] = []

    @contextmanager
    def meanwhile(workers: int) -> Iterator[None]:
        try:
            make(shared.source, tmp_path / "mad")
        except InputError as error:
            answers.append(str(error))
        yield

    make(shared.source, tmp_path / "mad", open_ray=meanwhile)
    assert len(answers) == 1
    assert "another gapctl is making it now" in answers[0]


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    victims: list[int] = []

    def kill(task: str, done: int, total: int) -> None:
        if 0 < done < total and not victims:
            victims.extend(busy_workers())
            for pid in victims:
                os.kill(pid, signal.SIGKILL)

    for folder, on_progress in ((tmp_path / "alone", None), (tmp_path / "killed", kill)):
        make_folder(
            "bundled",
            folder,
            lambda workers: nullcontext(),
            limit=150,
            workers=1,
            digits_per_shard=50,
            on_progress=on_progress or (lambda task, done, total: None),
        )
    assert victims
    assert contents(tmp_path / "killed") == contents(tmp_path / "alone")


def busy_workers() -> list[int]:
    """The processes of this test's Ray that make shards now."""
    lines = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout.splitlines()
    named = (line.split(maxsplit=1) for line in lines)
    making = [int(pid) for pid, command in named if command.startswith("ray::Map(")]
    return [pid for pid in making if pid in descendants(os.getpid())]
