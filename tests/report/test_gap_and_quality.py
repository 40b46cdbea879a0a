"""Kendall's tau between gap and quality: known answers, and agreement with scipy."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from analysis_examples import ATTRIBUTES, analysis
from scipy.stats import kendalltau

from gapctl.report.figures import plot_gap_and_qualities
from gapctl.report.page_parts import RunRecord
from gapctl_charts.look import PAGE_LOOK

HELD_OUT, ORDER = "data.captions.held_out", "data.captions.order"


def caption_of(gaps: Sequence[float], qualities: Sequence[float], arms: Sequence[int]) -> str:
    """The caption of trainings with these gaps and qualities, whose arms are levels of one factor."""
    trials = pl.DataFrame(
        {
            "trial": [f"t{place}" for place in range(len(gaps))],
            "label": [f"t{place}" for place in range(len(gaps))],
            "seed": range(len(gaps)),
            ATTRIBUTES: list(arms),
            "gap/rmg": list(gaps),
            "quality/object_accuracy": list(qualities),
        }
    )
    (drawn,) = plot_gap_and_qualities(replace(analysis({ATTRIBUTES: [0, 5]}), trials=trials), PAGE_LOOK, RunRecord())
    return drawn.caption


def test_over_all_pairs_it_is_scipys_tau_b_with_ties() -> None:
    drawn = np.random.default_rng(0)
    one, other = drawn.integers(0, 5, 40).astype(float), drawn.integers(0, 5, 40).astype(float)
    tau = f"{kendalltau(one, other).statistic:.2f}".replace("-", "−")

    assert f"over all 40 trainings: {tau}; " in caption_of(one.tolist(), other.tolist(), [0] * 40)


def test_pairs_of_other_arms_do_not_count() -> None:
    """Within each arm quality rises with the gap; between the arms it falls."""
    words = caption_of([1.0, 2.0, 11.0, 12.0], [11.0, 12.0, 1.0, 2.0], [0, 0, 5, 5])

    assert words == "Kendall's τ over all 4 trainings: −0.33; between trainings of equal treatment: 1.00."


def test_nothing_to_compare_gives_nothing() -> None:
    assert "over all 2 trainings: –; " in caption_of([1.0, 1.0], [1.0, 2.0], [0, 0])


@pytest.mark.parametrize(
    ("factor", "levels", "held_out", "cautious"),
    [
        (ATTRIBUTES, [0, 5], "own", True),
        (ATTRIBUTES, [0, 5], "full", False),
        (ORDER, ["shuffled", "canonical"], "full", True),
        (HELD_OUT, ["own", "full"], "full", True),
        ("train.lr", [0.1, 0.2], "own", False),
    ],
)
def test_recalls_on_other_captions_are_said_to_be_of_other_tasks(
    factor: str, levels: list[object], held_out: str, *, cautious: bool
) -> None:
    shown = analysis({factor: levels}, metrics=("gap/rmg", "quality/i2t_recall_1", "quality/object_accuracy"))
    record = RunRecord(settings={HELD_OUT: held_out})

    words = {figure.name: figure.caption for figure in plot_gap_and_qualities(shown, PAGE_LOOK, record)}

    assert ("of different tasks" in words["gap-and-i2t-recall-1"]) == cautious
    assert "of different tasks" not in words["gap-and-object-accuracy"]
