"""What is hashed of a sweep: all that it asks, and its hypotheses alone."""

from typing import Final

from gapctl.spec.added_later import lasting
from gapctl.spec.canonical import sha256_of
from gapctl.spec.sweep import SweepFile

_NOT_ASKED: Final = ("asks_again", "resources", "tracking", "limits", "scales", "default_scale")


def spec_sha256(spec: SweepFile) -> str:
    """The hash of what a sweep asks, whatever runs and shows it."""
    return sha256_of({name: value for name, value in lasting(spec).items() if name not in _NOT_ASKED})


def hypotheses_sha256(spec: SweepFile) -> str:
    """The hash that a declaration keeps: the hypotheses in their order, and alpha."""
    return sha256_of({"hypotheses": [lasting(item) for item in spec.hypotheses], "alpha": spec.alpha})
