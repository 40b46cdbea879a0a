"""Small sweep files for tests, and what the loader answers to wrong ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from gapctl.config.base import SpecError
from gapctl.config.load import LoadedSweep, load_sweep

REPOSITORY = Path(__file__).parents[1]
SHIPPED = REPOSITORY / "sweeps" / "imbalance.yaml"

TINY = """\
name: tiny
question: Does it?
base:
  train: {samples: 512, batch_size: 64}
vary:
  data.captions.attributes: [0, 5]
hypotheses:
  - id: gap
    claim: It closes.
    test: trend
    response: gap/rmg
    factor: data.captions.attributes
    direction: decreasing
    smallest_effect: 0.02
  - id: ends
    claim: The ends differ.
    test: contrast
    response: gap/rmg
    factor: data.captions.attributes
    between: [0, 5]
    direction: either
    smallest_effect: 0.02
scales:
  quick: {seeds: 1}
"""


def written(folder: Path, text: str | bytes) -> Path:
    """The text as a sweep file."""
    path = folder / "sweep.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def edited(*edits: tuple[str, str]) -> str:
    """`TINY` with each first text, which occurs once in it, replaced by the second."""
    text = TINY
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def document() -> dict[str, Any]:
    """`TINY` as plain values."""
    found: dict[str, Any] = yaml.safe_load(TINY)
    return found


def loaded(
    folder: Path, content: str | bytes | dict[str, Any], scale: str | None = None, *overrides: str
) -> LoadedSweep:
    """The sweep that a text, or a file of these values, gives."""
    text = yaml.safe_dump(content, sort_keys=False) if isinstance(content, dict) else content
    return load_sweep(written(folder, text), scale, overrides)


def complaints(
    folder: Path, content: str | bytes | dict[str, Any], scale: str | None = None, overrides: Sequence[str] = ()
) -> list[str]:
    """The lines of the answer to a wrong file, with `F` for its path; none where it loads."""
    try:
        loaded(folder, content, scale, *overrides)
    except SpecError as error:
        return str(error).replace(str(folder / "sweep.yaml"), "F").splitlines()
    return []
