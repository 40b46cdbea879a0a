"""`gapctl measure --embeddings` answers each wrong file with one clear message."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from command_line import assert_refused, gapctl
from embedding_files import (
    ROWS,
    WIDTH,
    Arrays,
    arrays,
    part,
    write_npy_folder,
    write_npz,
    write_parquet,
    write_safetensors,
)


def shard_folder(folder: Path, *shards: Arrays) -> str:
    for number, content in enumerate(shards):
        write_npz(folder / f"{number}", content)
    return str(folder)


def spoilt(**changed: np.ndarray) -> dict[str, np.ndarray]:
    return {**arrays(), **changed}


def with_value(name: str, row: int, value: float) -> dict[str, np.ndarray]:
    found = arrays()
    found[name][row, 1] = value
    return found


def cut(path: str, rest: int = 200) -> str:
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) - rest])
    return path


def pickled_npy(folder: Path) -> str:
    np.save(folder / "image.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.save(folder / "text.npy", arrays()["text"])
    return str(folder)


def plain_pickle(folder: Path) -> str:
    (folder / "image.npy").write_bytes(pickle.dumps(Bomb()))
    np.save(folder / "text.npy", arrays()["text"])
    return str(folder)


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("unpickled"),)


def spoilt_header(folder: Path) -> str:
    place = write_npy_folder(folder / "spoilt", arrays())
    image = folder / "spoilt" / "image.npy"
    image.write_bytes(image.read_bytes().replace(b"}", b"(", 1))
    return place


def cut_npy(folder: Path) -> str:
    write_npy_folder(folder / "pair", arrays())
    cut(str(folder / "pair" / "image.npy"), 10)
    return str(folder / "pair")


def uneven(folder: Path) -> str:
    pl.DataFrame({"image": [[1.0, 2.0], [1.0], [1.0, 2.0]], "text": [[1.0, 2.0]] * 3}).write_parquet(
        folder / "a.parquet"
    )
    return str(folder / "a.parquet")


def holed(folder: Path) -> str:
    table = pl.DataFrame({"image": [[1.0, 2.0], [1.0, None], [1.0, 2.0]], "text": [[1.0, 2.0]] * 3})
    table.write_parquet(folder / "a.parquet")
    return str(folder / "a.parquet")


def without_a_row(folder: Path) -> str:
    pl.DataFrame({"image": [[1.0, 2.0], None], "text": [[1.0, 2.0]] * 2}).write_parquet(folder / "a.parquet")
    return str(folder / "a.parquet")


def as_words(folder: Path) -> str:
    pl.DataFrame({"image": ["a", "b"], "text": ["a", "b"]}).write_parquet(folder / "a.parquet")
    return str(folder / "a.parquet")


def as_column(name: str, kind: Any) -> Callable[[Path], str]:
    """A table whose column of that name is of another type."""

    def write(folder: Path) -> str:
        value: Any = 1
        if isinstance(kind, pl.List | pl.Array):
            value = {"a": 1.0} if isinstance(kind.inner, pl.Struct) else [1.0, 2.0]
            value = [value, value]
        elif kind == pl.Categorical:
            value = "cat"
        whole: dict[str, Any] = {"image": [[1.0, 2.0], [2.0, 1.0]], "text": [[1.0, 2.0], [2.0, 1.0]], "labels": [0, 1]}
        table = pl.DataFrame({**whole, name: pl.Series([value, value], dtype=kind)})
        table.write_parquet(folder / "a.parquet")
        return str(folder / "a.parquet")

    return write


def packed(kind: str, width: float) -> Callable[[Path], str]:
    """A .safetensors file of numbers that are `width` bytes wide, written by hand as other programs write them."""

    def write(folder: Path) -> str:
        size = int(ROWS * WIDTH * width)
        header = {
            name: {"dtype": kind, "shape": [ROWS, WIDTH], "data_offsets": [place * size, (place + 1) * size]}
            for place, name in enumerate(("image", "text"))
        }
        written = json.dumps(header).encode()
        content = struct.pack("<Q", len(written)) + written + bytes(1 + place % 99 for place in range(2 * size))
        (folder / "packed.safetensors").write_bytes(content)
        return str(folder / "packed.safetensors")

    return write


def two_formats(folder: Path) -> str:
    write_npz(folder / "a", arrays())
    write_parquet(folder / "b", arrays())
    return str(folder)


def lonely_image(folder: Path) -> str:
    np.save(folder / "image_3.npy", arrays()["image"])
    return str(folder)


def other_npys(folder: Path) -> str:
    np.save(folder / "features.npy", arrays()["image"])
    return str(folder)


def prompt_shards(folder: Path) -> str:
    prompts = {"image": arrays()["image"], "text": arrays()["text"][:3], "labels": arrays()["labels"]}
    return shard_folder(folder, prompts, prompts)


HUGE = np.array([0, 1, 2**63, *range(ROWS - 3)], dtype=np.uint64)

# What is wrong, how to make it, and what the answer says.
WRONG: dict[str, tuple[Callable[[Path], str], str]] = {
    "parquet missing": (lambda at: str(at / "no.parquet"), "no such file; expected a parquet table with the columns"),
    "safetensors missing": (lambda at: str(at / "no.safetensors"), "no such file; expected a .safetensors file with"),
    "npy missing": (lambda at: f"{at}/a.npy,{at}/b.npy", "a.npy: no such file; expected what numpy.save writes"),
    "three npy files": (lambda at: "a.npy,b.npy,c.npy", "expected two .npy files, the images' and the texts'"),
    "a pair of other files": (lambda at: "a.npz,b.npz", "expected two .npy files, the images' and the texts'"),
    "parquet cut short": (lambda at: cut(write_parquet(at / "a", arrays())), "not a parquet table, or a damaged one"),
    "parquet of nothing": (lambda at: cut(write_parquet(at / "a", arrays()), 10**9), "not a parquet table"),
    "safetensors cut short": (
        lambda at: cut(write_safetensors(at / "a", arrays())),
        "not a .safetensors file, or a damaged one",
    ),
    "safetensors of nothing": (lambda at: cut(write_safetensors(at / "a", arrays()), 10**9), "not a .safetensors file"),
    "npy with a spoilt header": (spoilt_header, "image.npy: a damaged .npy file"),
    "npy cut short": (cut_npy, "image.npy: a damaged .npy file"),
    "npz shard cut short": (
        lambda at: str(Path(cut(write_npz(at / "a", arrays()))).parent),
        "a.npz: not an .npz archive",
    ),
    "an object array": (pickled_npy, "image.npy: a pickle or an object array, which is never loaded"),
    "a pickle": (plain_pickle, "image.npy: a pickle or an object array, which is never loaded"),
    "no image column": (
        lambda at: write_parquet(at / "a", {"text": arrays()["text"]}),
        "a.parquet: no column `image`; the table has text",
    ),
    "no text tensor": (
        lambda at: write_safetensors(at / "a", {"image": arrays()["image"]}),
        "a.safetensors: no array `text`; the file has image",
    ),
    "lists of two lengths": (uneven, "`image`: 1 numbers in row 1; expected 2, as in row 0"),
    "a missing number": (holed, "`image`: an entry is missing in row 1; expected 2 numbers in every row"),
    "a missing list": (without_a_row, "`image`: nothing in row 1; expected a value in every row"),
    "words for numbers": (as_words, "`image`: of type String; expected lists of floats"),
    **{
        f"parquet of {kind}": (as_column(name, kind), f"`{name}`: of type {kind}; expected {expected}")
        for name, kind, expected in (
            ("image", pl.List(pl.List(pl.Float64)), "lists of floats"),
            ("text", pl.Array(pl.Float32, (2, 2)), "lists of floats"),
            ("image", pl.List(pl.Struct({"a": pl.Float64})), "lists of floats"),
            ("labels", pl.Int128, "whole numbers of at most 64 bits"),
            ("labels", pl.Decimal(38, 2), "whole numbers of at most 64 bits"),
            ("text_to_image", pl.Categorical, "whole numbers of at most 64 bits"),
        )
    },
    **{
        f"safetensors of {kind}": (packed(kind, width), f"`image`: of type {kind}, several numbers in a byte")
        for kind, width in (("F4", 0.5), ("F6_E2M3", 0.75), ("F6_E3M2", 0.75))
    },
    "safetensors of complex numbers": (packed("C64", 8), "`image`: of type complex64; expected floating-point"),
    "safetensors of whole numbers": (packed("U16", 2), "`image`: of type uint16; expected floating-point"),
    "safetensors of an unknown kind": (packed("F3", 0.5), "not a .safetensors file, or a damaged one ("),
    "NaN in parquet": (lambda at: write_parquet(at / "a", with_value("text", 3, np.nan)), "`text`: row 3 holds NaN"),
    "infinity in safetensors": (
        lambda at: write_safetensors(at / "a", with_value("image", 5, np.inf)),
        "`image`: row 5 holds infinite",
    ),
    "zeros in npy": (
        lambda at: write_npy_folder(at / "a", spoilt(text=np.zeros((ROWS, WIDTH), np.float32))),
        f"`text`: row 0 is all zeros (the first of {ROWS} such rows)",
    ),
    "other width in npy": (
        lambda at: write_npy_folder(at / "a", spoilt(text=np.ones((ROWS, 3), np.float32))),
        "`text`: 3 wide; expected 4, the width of `image`",
    ),
    "one row in parquet": (lambda at: write_parquet(at / "a", part(arrays(), slice(0, 1))), "`image`: a single row"),
    "labels beyond int64": (
        lambda at: write_npz(at / "a", spoilt(labels=HUGE)),
        "`labels`: 9223372036854775808 in row 2, beyond int64; expected numbers up to 9223372036854775807",
    ),
    "attributes beyond int64": (
        lambda at: write_safetensors(at / "a", spoilt(attributes=HUGE)),
        "`attributes`: 9223372036854775808 in row 2, beyond int64",
    ),
    "an empty folder": (str, "a folder; expected an .npz archive with the arrays `image` and `text`, or in the folder"),
    "two formats": (two_formats, "files of .npz and .parquet; expected shards of one format"),
    "an image file alone": (lonely_image, "no file text_3.npy beside image_3.npy"),
    "arrays of other names": (other_npys, "no image.npy and text.npy; the folder has features.npy"),
    "class prompts in shards": (prompt_shards, "0.npz: class prompts, which no shards can share"),
    "shards of two widths": (
        lambda at: shard_folder(at, arrays(), arrays(width=5)),
        "1.npz: `image`: 5 wide; expected 4 wide, as 0.npz has it",
    ),
    "a shard without labels": (
        lambda at: shard_folder(at, arrays(), {name: arrays()[name] for name in ("image", "text")}),
        "1.npz: `attributes`: missing; expected 2 wide, as 0.npz has it",
    ),
    "an empty shard": (
        lambda at: shard_folder(at, arrays(), part(arrays(), slice(0, 0))),
        "1.npz: `image`: of shape (0, 4); expected (rows, width), neither of them zero",
    ),
    "NaN in the second shard": (
        lambda at: shard_folder(at, arrays(), with_value("image", 2, np.nan)),
        "1.npz: `image`: row 2 holds NaN",
    ),
    "shards of one row in all": (
        lambda at: write_npz(at / "a", part(arrays(), slice(0, 1))) and str(at),
        "`image`: a single row",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_files_get_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.chdir(tmp_path)
    make, message = WRONG[wrong]

    place = make(tmp_path)
    for verb in ("measure", "intervene"):
        assert_refused(gapctl(verb, "--embeddings", place, "--json"), message)
    assert not Path("unpickled").exists()


def test_files_are_mapped_and_checked_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gapctl.metrics import checks
    from gapctl.metrics import formats as read

    monkeypatch.setattr(checks, "CHECK_BLOCK", 5)
    place = write_npy_folder(tmp_path / "pair", arrays())

    assert isinstance(read.read_embeddings(place).embeddings.image_ND, np.memmap)

    spoilt_place = write_npy_folder(tmp_path / "spoilt", with_value("image", 11, np.nan))
    assert_refused(gapctl("measure", "--embeddings", spoilt_place), "`image`: row 11 holds NaN")
