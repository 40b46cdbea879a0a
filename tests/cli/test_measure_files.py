"""`gapctl measure --embeddings` gives the same numbers for every format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file as save_tensors

from command_line import gapctl
from embedding_files import (
    ROWS,
    Arrays,
    arrays,
    part,
    write_npy_folder,
    write_npz,
    write_parquet,
    write_safetensors,
)

WRITERS: dict[str, Callable[[Path, Arrays], str]] = {
    "npz": write_npz,
    "parquet": write_parquet,
    "safetensors": write_safetensors,
    "npy folder": write_npy_folder,
}
ONE_FILE = ("npz", "parquet", "safetensors")


def measured(place: str) -> dict[str, Any]:
    ran = gapctl("measure", "--embeddings", place, "--json")
    assert (ran.exit_code, ran.err) == (0, "")
    document: dict[str, Any] = json.loads(ran.out)
    return document


@pytest.mark.parametrize("form", ["parquet", "safetensors", "npy folder"])
def test_every_format_gives_the_numbers_of_an_npz_archive(tmp_path: Path, form: str) -> None:
    expected = measured(write_npz(tmp_path / "same", arrays()))

    found = measured(WRITERS[form](tmp_path / "other", arrays()))

    assert "bias/moad_text" in expected["metrics"]
    assert found["metrics"] == expected["metrics"]
    assert found["inputs"]["arrays"] == expected["inputs"]["arrays"]


@pytest.mark.parametrize("form", ONE_FILE)
def test_a_folder_of_shards_is_one_set_in_the_order_of_names(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, rows in enumerate((slice(0, 5), slice(5, 11), slice(11, None))):
        WRITERS[form](folder / f"part-{number}", part(arrays(), rows))

    found = measured(str(folder))

    assert found["metrics"] == measured(write_npz(tmp_path / "whole", arrays()))["metrics"]
    assert list(found["inputs"]["files"]) == [f"part-{number}.{form}" for number in range(3)]


@pytest.mark.parametrize("form", [*ONE_FILE, "npy folder"])
@pytest.mark.parametrize("left", ["._part-0", ".part-1", "Thumbs.db", ".DS_Store"])
def test_what_other_systems_leave_in_a_folder_is_passed_over(tmp_path: Path, form: str, left: str) -> None:
    folder = tmp_path / "shards"
    if form == "npy folder":
        write_npy_folder(folder, arrays())
    else:
        folder.mkdir()
        WRITERS[form](folder / "part-0", arrays())
    ending = {"npy folder": "npy"}.get(form, form)
    (folder / (f"{left}.{ending}" if left.endswith(("0", "1")) else left)).write_bytes(b"\0\5\x16\7")

    found = measured(str(folder))

    assert found["metrics"] == measured(write_npz(tmp_path / "same", arrays()))["metrics"]
    assert not found["inputs"]["unused_arrays"]


def test_npy_shards_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number, rows in enumerate((slice(0, 4), slice(4, 8), slice(8, None))):
        for name, array in part(arrays(), rows).items():
            np.save(tmp_path / f"{name}_{(number + 1) * 5}.npy", array)

    found = measured(str(tmp_path))

    assert found["metrics"] == measured(write_npz(tmp_path / "whole", arrays()))["metrics"]
    assert [name for name in found["inputs"]["files"] if name.startswith("image")] == [
        "image_5.npy",
        "image_10.npy",
        "image_15.npy",
    ]


def test_two_npy_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    for name, array in (("photos", arrays()["image"]), ("captions", arrays()["text"])):
        np.save(tmp_path / f"{name}.npy", array)

    found = measured(f"{tmp_path / 'photos.npy'},{tmp_path / 'captions.npy'}")

    clouds = {name: array for name, array in arrays().items() if name in ("image", "text")}
    assert found["metrics"] == measured(write_npz(tmp_path / "same", clouds))["metrics"]


def test_in_shards_each_text_counts_the_images_of_its_own_shard(tmp_path: Path) -> None:
    whole = {
        "image": arrays()["image"][:4],
        "text": arrays()["text"][:6],
        "text_to_image": np.array([0, 0, 1, 2, 3, 3]),
    }
    folder = tmp_path / "shards"
    folder.mkdir()
    write_npz(folder / "a", {"image": whole["image"][:2], "text": whole["text"][:3], "text_to_image": [0, 0, 1]})
    write_npz(folder / "b", {"image": whole["image"][2:], "text": whole["text"][3:], "text_to_image": [0, 1, 1]})

    assert measured(str(folder))["metrics"] == measured(write_npz(tmp_path / "whole", whole))["metrics"]


def test_bfloat16_which_numpy_lacks_is_read(tmp_path: Path) -> None:
    rounded = {name: torch.from_numpy(arrays()[name]).bfloat16() for name in ("image", "text")}
    save_tensors(rounded, tmp_path / "half.safetensors")

    found = measured(str(tmp_path / "half.safetensors"))["metrics"]

    same = {name: tensor.float().numpy() for name, tensor in rounded.items()}
    assert found == measured(write_npz(tmp_path / "same", same))["metrics"]


def test_texts_that_are_the_same_are_one_caption(tmp_path: Path) -> None:
    whole = arrays()
    whole["text"] = whole["text"][np.arange(ROWS) % 3]
    whole["image"] = whole["text"] + 0.01 * whole["image"]
    found = measured(write_npz(tmp_path / "a", whole))["metrics"]

    assert found["quality/i2t_recall_1"] == found["quality/t2i_recall_1"] == 1.0
