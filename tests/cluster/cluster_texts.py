"""The shipped cluster files, whole and with mistakes planted in them."""

from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
AWS = REPOSITORY / "cluster.yaml"
GCP = REPOSITORY / "docs" / "cluster" / "gcp.yaml"
KUBERAY = REPOSITORY / "docs" / "cluster" / "kuberay.yaml"
SWEEP = REPOSITORY / "sweeps" / "imbalance.yaml"


class Planted(NamedTuple):
    """A file with a mistake, and the line of it."""

    path: Path
    line: int


def planted(folder: Path, shipped: Path, old: str, new: str, at: str | None = None) -> Planted:
    """A copy with the first `old` replaced; the mistake is in the line of `at`, or else of `new`."""
    text = shipped.read_text(encoding="utf-8")
    assert old in text, old
    path = folder / "cluster.yaml"
    changed = text.replace(old, new, 1)
    path.write_text(changed, encoding="utf-8")
    return Planted(path, changed[: changed.index(at or new)].count("\n") + 1)


class Mistake(NamedTuple):
    """What is replaced by what in which file, and which rule finds it how."""

    file: Path
    old: str
    new: str
    severity: str
    rule: str
    at: str | None = None
