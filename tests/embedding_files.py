"""Small saved embeddings, written in the formats that `gapctl measure --embeddings` reads."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import save_file

ROWS, WIDTH = 12, 4
Arrays = Mapping[str, np.ndarray]


def arrays(count: int = ROWS, width: int = WIDTH) -> dict[str, np.ndarray]:
    """Return images, texts, labels and two factors of attributes, drawn at random."""
    draws = np.random.Generator(np.random.Philox(7))
    image, text = draws.normal(size=(2, count, width)).astype(np.float32)
    label_N, attribute_NF = np.arange(count) % 3, np.arange(2 * count).reshape(count, 2) % 4
    return {"image": image, "text": text, "labels": label_N, "attributes": attribute_NF}


def write_npz(path: Path, content: Arrays) -> str:
    np.savez(path.with_suffix(".npz"), **content)
    return str(path.with_suffix(".npz"))


def write_safetensors(path: Path, content: Arrays) -> str:
    save_file(dict(content), path.with_suffix(".safetensors"))
    return str(path.with_suffix(".safetensors"))


def write_npy_folder(path: Path, content: Arrays) -> str:
    path.mkdir()
    for name, array in content.items():
        np.save(path / f"{name}.npy", array)
    return str(path)


def part(whole: Arrays, rows: slice) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(array[rows]) for name, array in whole.items()}


def write_parquet(path: Path, content: Arrays) -> str:
    table = pl.DataFrame({name: pl.Series(name, list(array)) for name, array in content.items()})
    table.write_parquet(path.with_suffix(".parquet"))
    return str(path.with_suffix(".parquet"))
