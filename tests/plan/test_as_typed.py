"""Commands that are printed to be typed again."""

from pathlib import Path

import pytest

from gapctl.config.load import load_sweep
from gapctl.plan.command_line import build_ui_arguments

FILE = Path(__file__).parents[2] / "sweeps" / "imbalance.yaml"


@pytest.mark.parametrize(
    ("scale", "overrides", "words"),
    [
        (None, [], []),
        ("smoke", [], ["--scale", "smoke"]),
        (None, ["tracking.uri=http://mlflow.lab:5000"], ["--uri", "http://mlflow.lab:5000"]),
        (None, ["tracking.uri=postgresql://me:secret@host/db"], []),
        (None, ["tracking.uri=postgresql://me@srv:secret@host/db"], []),
    ],
)
def test_ui_is_told_the_store_that_was_typed_but_no_password(
    scale: str | None, overrides: list[str], words: list[str]
) -> None:
    assert build_ui_arguments(load_sweep(FILE, scale, overrides)) == [str(FILE), *words]
