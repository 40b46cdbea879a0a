"""The tar shards are what webdataset reads: coloured pictures, captions of all six factors, and the factors by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from gapctl.data.mad.digits import load_digits
from gapctl.data.mad.factors import COLOURS, FACTOR_NAMES, FACTORS, VARIANTS
from gapctl.data.mad.images import compose_coloured_images, generate_variant_images, load_variant_images
from gapctl.data.mad.shard_folder import verify_folder
from gapctl.data.mad.source import compute_dataset_fingerprint
from gapctl.errors import InputError
from idx_files import write_digits
from shard_folders import contents, make

pytestmark = pytest.mark.usefixtures("ray_session")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tar")
    make(write_digits(place / "mnist", 5, 3), place / "mad", form="webdataset")
    return place / "mad"


def samples(folder: Path, split: str) -> list[dict[str, Any]]:
    from webdataset import WebDataset

    shards = sorted(str(path) for path in folder.glob(f"{split}-*.tar"))
    return list(WebDataset(shards, shardshuffle=False).decode("rgb8"))


def test_every_variant_of_every_digit_is_a_sample_in_order(folder: Path) -> None:
    keys = [sample["__key__"] for sample in samples(folder, "train")]
    assert keys == [f"train-{digit:05d}-{variant:02d}" for digit in range(5) for variant in range(24)]


def test_pictures_are_the_caches_images_in_the_colour_that_is_said(folder: Path) -> None:
    digits = load_digits(str(folder.parent / "mnist"), "test")
    images_NVHW = generate_variant_images(digits.images_NHW, seed=2)
    for sample in samples(folder, "test"):
        said = sample["json"]
        digit, variant, colour = said["index"], said["variant"], COLOURS.index(said["colour"])
        expected = compose_coloured_images(images_NVHW, *(np.array([index]) for index in (digit, variant, colour)))[0]
        np.testing.assert_array_equal(sample["png"].transpose(2, 0, 1), expected)
        values = [digits.labels_N[digit], *VARIANTS[variant], colour]
        assert [said[factor.name] for factor in FACTORS] == [
            factor.values[value] for factor, value in zip(FACTORS, values, strict=True)
        ]
        assert sample["txt"] == "-".join(said[name] for name in FACTOR_NAMES)


def test_every_colour_comes_and_none_depends_on_the_variant(folder: Path) -> None:
    said = [sample["json"] for sample in samples(folder, "train")]
    assert {row["colour"] for row in said} == set(COLOURS)
    first = [row["colour"] for row in said if row["index"] == 0]
    assert first != [row["colour"] for row in said if row["index"] == 1]


def test_the_manifest_says_where_a_digit_begins(folder: Path) -> None:
    for split, digit, shard, offset in (
        pl.read_parquet(folder / "manifest.parquet").select("split", "digit", "shard", "offset").rows()
    ):
        name = (folder / shard).read_bytes()[offset : offset + 100].rstrip(b"\0").decode()
        assert name == f"{split}-{digit:05d}-00.json"


def test_tar_files_are_the_same_bytes_when_made_again_at_another_time(folder: Path, tmp_path: Path) -> None:
    make(folder.parent / "mnist", tmp_path / "again", form="webdataset", workers=1)
    assert contents(tmp_path / "again") == contents(folder)
    assert verify_folder(folder).problems == ()


def test_tar_files_are_not_trained_on_but_told_from_arrays(folder: Path) -> None:
    assert compute_dataset_fingerprint(str(folder)) == compute_dataset_fingerprint(str(folder.parent / "mnist"))
    with pytest.raises(InputError, match="in the format webdataset, which is for other programs"):
        load_variant_images(str(folder), "train")


def test_the_description_says_how_many_images_there_are(folder: Path) -> None:
    described = json.loads((folder / "mad.json").read_text())
    assert described["images"] == {"train": 120, "test": 72}
    assert described["format"] == "webdataset"
