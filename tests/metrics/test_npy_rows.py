"""Rows of an .npy file come in blocks, and whatever else the file may be is answered with its name."""

from pathlib import Path

import numpy as np
import pytest
from clouds import random_rows

from gapctl.errors import InputError
from gapctl.metrics.formats import locate_npy_rows


def saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_blocks_in_order_are_the_rows_of_the_file(tmp_path: Path, kind: type) -> None:
    rows_ND = random_rows(25, 6).astype(kind)
    blocks = list(locate_npy_rows(saved(tmp_path / "image.npy", rows_ND)).read_blocks(10))

    assert [len(block) for block in blocks] == [10, 10, 5]
    assert (np.concatenate(blocks) == rows_ND).all()
    assert blocks[0].dtype == kind


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.arange(6).reshape(2, 3), "int64"),
        (np.ones(4), r"\(4,\)"),
        (np.ones((0, 3)), r"\(0, 3\)"),
        (np.asfortranarray(np.ones((2, 3))), "by columns"),
    ],
)
def test_what_is_no_row_of_embeddings_is_refused(tmp_path: Path, array: np.ndarray, found: str) -> None:
    with pytest.raises(InputError, match=rf"image\.npy: .*{found}"):
        locate_npy_rows(saved(tmp_path / "image.npy", array))


def test_a_file_that_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "image.npy", random_rows(10, 4))
    path.write_bytes(path.read_bytes()[:-8])

    with pytest.raises(InputError, match="copy it again"):
        locate_npy_rows(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\x93NUMPY\x01\x00"])
def test_what_is_no_npy_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.npy"
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"image\.npy: not a readable \.npy file"):
        locate_npy_rows(path)


def test_an_array_of_objects_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "image.npy"
    np.save(path, np.array([[{}]], dtype=object), allow_pickle=True)

    with pytest.raises(InputError, match="object"):
        locate_npy_rows(path)
