"""`gapctl measure --against` compares the dimensions that carry the gap of two models."""

import json
from pathlib import Path

import numpy as np
import pytest

from command_line import gapctl
from gapctl.metrics.embedding_set import normalise_rows

WIDTH = 20


def saved(folder: Path, name: str, carrying: list[int], width: int = WIDTH) -> str:
    """Embeddings whose means differ in these dimensions, most in the first."""
    rng = np.random.default_rng(3)
    push_D = np.zeros(width)
    push_D[carrying] = np.linspace(3, 1, len(carrying))
    image_ND, text_ND = rng.normal(size=(2, 400, width))
    np.savez(folder / name, image=normalise_rows(image_ND + push_D), text=normalise_rows(text_ND - push_D))
    return str(folder / name)


@pytest.fixture
def first(tmp_path: Path) -> str:
    return saved(tmp_path, "first.npz", [4, 7, 1])


def test_shared_dimensions_are_counted_beside_their_chance(first: str, tmp_path: Path) -> None:
    other = saved(tmp_path, "other.npz", [4, 7, 9])

    ran = gapctl("measure", "--embeddings", first, "--against", other, "--json")

    leading = json.loads(ran.out)["against"]["leading_dimensions"]
    assert leading["1"] == {"share": 1.0, "chance": 0.05, "p": pytest.approx(0.05)}
    assert leading["3"]["share"] == pytest.approx(2 / 3)
    assert leading["3"]["chance"] == pytest.approx(3 / WIDTH)


def test_the_table_says_how_many_are_shared(first: str) -> None:
    ran = gapctl("measure", "--embeddings", first, "--against", first)

    assert ran.exit_code == 0
    assert "shared with" in ran.out
    assert ran.out.rstrip().splitlines()[-1].split()[:2] == ["10", "10"]


def test_another_width_is_refused(first: str, tmp_path: Path) -> None:
    ran = gapctl("measure", "--embeddings", first, "--against", saved(tmp_path, "narrow.npz", [1], width=8))

    assert ran.exit_code == 2
    assert "8 wide; expected 20 as the first" in ran.err


def test_a_model_has_nothing_to_be_compared_with() -> None:
    ran = gapctl("measure", "--model", "ViT-B-32", "--pretrained", "x", "--data", "y", "--against", "z")

    assert ran.exit_code == 2
    assert "found it without either" in ran.err
