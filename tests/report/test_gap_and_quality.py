"""Kendall's tau between gap and quality: known answers, and agreement with scipy."""

import numpy as np
import pytest
from analysis_examples import ATTRIBUTES, analysis
from scipy.stats import kendalltau

from gapctl.report.figures import compute_kendall_tau, plot_gap_and_qualities
from gapctl.report.page_parts import RunRecord
from gapctl_charts.look import PAGE_LOOK

HELD_OUT, ORDER = "data.captions.held_out", "data.captions.order"


def test_over_all_pairs_it_is_scipys_tau_b_with_ties() -> None:
    drawn = np.random.default_rng(0)
    one, other = drawn.integers(0, 5, 40).astype(float), drawn.integers(0, 5, 40).astype(float)

    assert np.isclose(compute_kendall_tau(one, other, np.ones((40, 40), bool)), kendalltau(one, other).statistic)


def test_pairs_of_other_arms_do_not_count() -> None:
    """Within each arm quality rises with the gap; between the arms it falls."""
    gap, quality = np.array([1.0, 2.0, 11.0, 12.0]), np.array([11.0, 12.0, 1.0, 2.0])
    arm = np.array([0, 0, 1, 1])

    assert compute_kendall_tau(gap, quality, arm[:, None] == arm) == 1.0
    assert compute_kendall_tau(gap, quality, np.ones((4, 4), bool)) < 0


def test_nothing_to_compare_gives_nothing() -> None:
    assert compute_kendall_tau(np.array([1.0, 1.0]), np.array([1.0, 2.0]), np.ones((2, 2), bool)) is None


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
