"""Images are made once, the same for any number of workers, and a damaged cache is made again."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from forked import PROCESSES
from gapctl.data.mad import images as store
from gapctl.data.mad.bundled.make_bundle import write_bundle
from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.images import generate_variant_images, load_variant_images
from gapctl.data.mad.source import compute_dataset_fingerprint
from gapctl.errors import InputError

PLATFORM = Path(__file__).parents[2] / "platform"


def write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    header = bytes((0, 0, 8, values.ndim)) + b"".join(length.to_bytes(4, "big") for length in values.shape)
    path.write_bytes(header + values.tobytes())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of IDX files with 6 train and 4 test digits."""
    source = tmp_path / "mnist"
    source.mkdir()
    digits = load_digits("bundled", "train")
    for prefix, chosen in (("train", slice(0, 6)), ("t10k", slice(6, 10))):
        write_idx(source / f"{prefix}-images-idx3-ubyte", digits.images_NHW[chosen])
        write_idx(source / f"{prefix}-labels-idx1-ubyte", digits.labels_N[chosen].astype(np.uint8))
    return source


def cached_file(cache: Path) -> Path:
    (path,) = cache.rglob("train.npy")
    return path


def test_the_images_do_not_depend_on_the_number_of_workers() -> None:
    digits = load_digits("bundled", "test").images_NHW[:70]
    told: list[tuple[int, int]] = []
    alone = generate_variant_images(digits, seed=3)
    together = generate_variant_images(digits, seed=3, workers=2, on_progress=lambda *done: told.append(done))
    np.testing.assert_array_equal(alone, together)
    assert told[-1] == (70, 70)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_digit_has_the_same_variants_wherever_the_work_is_cut_and_others_with_another_seed() -> None:
    digits = load_digits("bundled", "test").images_NHW[:3]
    whole = generate_variant_images(digits, seed=3)
    np.testing.assert_array_equal(whole[:2], generate_variant_images(digits[:2], seed=3))
    assert not np.array_equal(whole, generate_variant_images(digits, seed=4))


def test_a_second_load_reads_what_the_first_one_made(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    made = load_variant_images(str(folder), "train", cache=cache, workers=1)
    told: list[tuple[int, int]] = []
    read = load_variant_images(str(folder), "train", lambda *done: told.append(done), cache)
    assert not told
    assert made.images_NVHW.shape == (6, 24, 28, 28)
    assert made.fingerprint == read.fingerprint == compute_dataset_fingerprint(str(folder))
    assert isinstance(read.images_NVHW, np.memmap)
    assert not read.images_NVHW.flags.writeable
    np.testing.assert_array_equal(made.images_NVHW, read.images_NVHW)
    assert [path.name for path in cached_file(cache).parent.iterdir()] == ["train.npy"]


def test_the_cache_is_where_the_environment_says(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "elsewhere"))
    split = load_variant_images(str(folder), "test", workers=1)
    assert (tmp_path / "elsewhere" / "mad" / split.fingerprint / "test.npy").is_file()


@pytest.mark.parametrize("damage", ["truncated", "empty", "other shape", "not an array"])
def test_a_damaged_cache_is_made_again(folder: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    expected = np.array(load_variant_images(str(folder), "train", cache=cache, workers=1).images_NVHW)
    path = cached_file(cache)
    content = path.read_bytes()
    if damage == "other shape":
        np.save(path, np.zeros((5, 24, 28, 28), np.uint8))
    else:
        path.write_bytes({"truncated": content[:-1], "empty": b"", "not an array": b"x" * len(content)}[damage])
    again = load_variant_images(str(folder), "train", cache=cache, workers=1)
    np.testing.assert_array_equal(again.images_NVHW, expected)


def make_one(folder: str, cache: str) -> None:
    load_variant_images(folder, "train", cache=Path(cache), workers=1)


def test_two_processes_may_make_the_same_images_at_once(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    both = [PROCESSES.Process(target=make_one, args=(str(folder), str(cache))) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert [path.name for path in cached_file(cache).parent.iterdir()] == ["train.npy"]
    assert load_variant_images(str(folder), "train", cache=cache).images_NVHW.shape == (6, 24, 28, 28)


def test_an_interruption_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_variant_images(str(folder), "train", interrupt, tmp_path / "cache", workers=1)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_cache_that_cannot_be_a_folder_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file.*cannot be written.*Set GAPCTL_CACHE to a folder that can"):
        load_variant_images(str(folder), "train", cache=tmp_path / "file", workers=1)


def test_another_digit_gives_another_fingerprint(folder: Path) -> None:
    before = compute_dataset_fingerprint(str(folder))
    path = folder / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert compute_dataset_fingerprint(str(folder)) != before


def test_a_new_generator_gives_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compute_dataset_fingerprint("bundled")
    monkeypatch.setattr("gapctl.data.mad.source.GENERATOR_VERSION", 99)
    assert compute_dataset_fingerprint("bundled") != before


def test_the_fingerprint_is_quick_and_needs_no_numpy() -> None:
    script = (
        "import sys; from gapctl.data.mad.source import compute_dataset_fingerprint; "
        "compute_dataset_fingerprint('bundled'); import gapctl.data.mad.factors; "
        "print([name for name in ('numpy', 'scipy', 'skimage', 'torch') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(PLATFORM)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"
    before = time.process_time()
    compute_dataset_fingerprint("bundled")
    assert time.process_time() - before < 0.05


def test_the_bundle_is_balanced_small_and_made_from_files_in_their_order(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = load_digits("bundled", "train"), load_digits("bundled", "test")
    assert np.bincount(train.labels_N).tolist() == [400] * 10
    assert np.bincount(test.labels_N).tolist() == [100] * 10
    monkeypatch.setattr("gapctl.data.mad.digits.BUNDLED_FILE", tmp_path / "digits.npz")
    write_bundle(str(folder), tmp_path / "digits.npz")
    np.testing.assert_array_equal(load_digits("bundled", "train").images_NHW, train.images_NHW[:6])


def test_the_generator_draws_train_and_test_digits_from_different_random_numbers() -> None:
    assert store.GENERATION_SEEDS["train"] != store.GENERATION_SEEDS["test"]
