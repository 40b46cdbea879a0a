"""Digits are read from any spelling of MNIST's files, and wrong files are answered with what to do."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.source import BUNDLED_FILE, compute_dataset_fingerprint
from gapctl.errors import InputError, WorkError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(values: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + b"".join(length.to_bytes(4, "big") for length in values.shape)
    return header + values.tobytes()


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
CLASSES = np.arange(5, dtype=np.uint8)


def write_split(folder: Path, spelling: str, content: Callable[[bytes], bytes]) -> None:
    for prefix in ("train", "t10k"):
        (folder / spelling.format(prefix=prefix, kind="images", n=3)).write_bytes(content(idx(PIXELS)))
        (folder / spelling.format(prefix=prefix, kind="labels", n=1)).write_bytes(content(idx(CLASSES)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_split(tmp_path, "{prefix}-{kind}-idx{n}-ubyte", bytes)
    return tmp_path


@pytest.mark.parametrize("spelling", ["{prefix}-{kind}-idx{n}-ubyte", "{prefix}-{kind}.idx{n}-ubyte"])
@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_digits_are_read_however_their_files_are_named(
    tmp_path: Path, spelling: str, gzipped: bool, split: str
) -> None:
    write_split(tmp_path, spelling + (".gz" if gzipped else ""), gzip.compress if gzipped else bytes)
    digits = load_digits(str(tmp_path), split)
    np.testing.assert_array_equal(digits.images_NHW, PIXELS)
    np.testing.assert_array_equal(digits.labels_N, CLASSES)
    assert digits.labels_N.dtype == np.int64


def test_a_missing_folder_is_named_with_what_could_stand_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: the data source does not exist. Expected `bundled` or a folder"):
        load_digits(str(tmp_path / "nowhere"), "train")


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises(InputError, match="the data source is a file"):
        load_digits(str(folder / IMAGES), "train")


def test_a_missing_file_is_answered_with_the_names_sought_and_those_present(folder: Path) -> None:
    (folder / LABELS).unlink()
    with pytest.raises(InputError) as error:
        load_digits(str(folder), "train")
    assert "no train labels there. Sought train-labels-idx1-ubyte, train-labels-idx1-ubyte.gz" in str(error.value)
    assert "the folder holds t10k-images-idx3-ubyte" in str(error.value)
    with pytest.raises(InputError, match="no train labels there"):
        compute_dataset_fingerprint(str(folder))


GZIPPED = gzip.compress(idx(PIXELS))
WRONG_IMAGES = {
    "empty": (b"", "not an IDX file .* it begins with nothing, expected 00 00 08 03"),
    "other format": (b"\x89PNG" + bytes(40), "it begins with 89 50 4e 47, expected 00 00 08 03"),
    "labels": (idx(CLASSES), "it begins with 00 00 08 01, expected 00 00 08 03"),
    "no header": (idx(PIXELS)[:9], "truncated: 9 bytes, less than its header of 16"),
    "truncated": (
        idx(PIXELS)[:-100],
        r"truncated: 3820 bytes of values, but its header says 5 x 28 x 28 = 3920",
    ),
    "too long": (
        idx(PIXELS) + b"abc",
        r"too long: 3923 bytes of values, but its header says 5 x 28 x 28 = 3920",
    ),
    "gzip cut": (GZIPPED[: len(GZIPPED) // 2], "broken gzip"),
    "gzip damaged": (GZIPPED[:200] + bytes(50) + GZIPPED[250:], "broken gzip"),
    "gzip of nothing": (b"\x1f\x8b", "broken gzip"),
    "other size": (idx(PIXELS[:, :20, :20]), "images of 20x20 pixels, expected 28x28"),
    "fewer": (idx(PIXELS[:3]), "5 labels for the 3 images of train-images-idx3-ubyte, expected as many"),
    "none": (idx(PIXELS[:0]), "5 labels for the 0 images"),
}


@pytest.mark.parametrize("case", WRONG_IMAGES)
def test_wrong_images_are_refused_with_the_file_and_the_reason(folder: Path, case: str) -> None:
    content, reason = WRONG_IMAGES[case]
    (folder / IMAGES).write_bytes(content)
    with pytest.raises(InputError, match=reason) as error:
        load_digits(str(folder), "train")
    assert re.match(re.escape(str(folder / "train-")), str(error.value))


def test_a_split_without_digits_is_refused(folder: Path) -> None:
    (folder / IMAGES).write_bytes(idx(PIXELS[:0]))
    (folder / LABELS).write_bytes(idx(CLASSES[:0]))
    with pytest.raises(InputError, match="no images in it, expected at least one"):
        load_digits(str(folder), "train")


def test_a_label_that_is_no_digit_is_refused_with_its_position(folder: Path) -> None:
    (folder / LABELS).write_bytes(idx(np.array([1, 2, 3, 10, 4], np.uint8)))
    with pytest.raises(InputError, match="label 10 at position 3, expected 0 to 9"):
        load_digits(str(folder), "train")


def test_a_damaged_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "digits.npz"
    broken.write_bytes(BUNDLED_FILE.read_bytes()[:1000])
    monkeypatch.setattr("gapctl.data.mad.digits.BUNDLED_FILE", broken)
    with pytest.raises(WorkError, match=r"the bundled digits are damaged .* Install gapctl again"):
        load_digits("bundled", "train")


def test_the_bundle_and_its_licence_are_there_and_small() -> None:
    assert BUNDLED_FILE.stat().st_size <= 1_500_000
    licence = (BUNDLED_FILE.parent / "LICENSE.md").read_text()
    assert "LeCun" in licence
    assert "ShareAlike 3.0" in licence
