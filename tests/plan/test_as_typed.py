"""Commands that are printed to be typed again."""

from pathlib import Path

import pytest

from gapctl.config.load import load_sweep
from gapctl.plan.command_line import build_ui_arguments, format_result_file_prefix

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


def test_results_of_a_changed_sweep_have_files_of_their_own() -> None:
    def name(*overrides: str) -> str:
        return format_result_file_prefix(load_sweep(FILE, "smoke", overrides))

    assert name() == "imbalance.smoke"
    assert name("resources.cpus=2", "tracking.uri=http://mlflow.lab:5000") == "imbalance.smoke"
    assert name("seeds=4").startswith("imbalance.smoke.")
    assert len({name(), name("seeds=4"), name("seeds=5"), name("alpha=0.01")}) == 4
    assert name("seeds=4", "alpha=0.01") == name("alpha=0.01", "seeds=4", "resources.cpus=2")
