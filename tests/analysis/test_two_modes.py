"""A few trainings that do not take off mark what is said of all of them."""

import random
from pathlib import Path

import numpy as np
import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, fill, first_verdict, shown_everywhere, sweep_file

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.estimates import compute_effect_p
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.results import AnalysisResults
from gapctl.analysis.two_modes import compute_distances, find_second_mode
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial


def is_marked(values_SA: FloatArray) -> bool:
    return bool(find_second_mode(compute_distances(values_SA)).any())


def draw_noise(rng: np.random.Generator, seeds: int, arms: int = 6) -> FloatArray:
    return np.arange(arms) + rng.standard_normal((seeds, 1)) + rng.standard_normal((seeds, arms))


def measure(trial: Trial) -> dict[str, float]:
    """RMG that falls with each attribute, but for one training."""
    level = float(trial.factors[ATTRIBUTES])
    apart = 0.4 if (level, trial.seed) == (2, 1) else 0.0
    return {RMG: 0.5 - 0.05 * level + apart + random.Random(f"{trial.seed} {level}").gauss(0.0, 0.005)}


def judged(folder: Path, **options: int) -> AnalysisResults:
    plan = load_plan(sweep_file(folder, TREND, CONTRAST, **options), None, None)
    fill(Ledger(str(folder / "runs")), plan, measure)
    return analyze_finished_trials(plan, Ledger(str(folder / "runs")))


def test_one_training_far_from_all_others_is_found() -> None:
    values = draw_noise(np.random.default_rng(1), 4)
    values[2, 3] -= 15

    assert np.argwhere(find_second_mode(compute_distances(values))).tolist() == [[2, 3]]


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_noise_alone_is_seldom_taken_for_two_modes(seeds: int) -> None:
    """About one round in fifty at three seeds; of 200 rounds more than 11 come once in 1,000."""
    rng = np.random.default_rng(2)

    assert sum(is_marked(draw_noise(rng, seeds)) for _ in range(200)) <= 11


@pytest.mark.parametrize("seeds", [5, 10])
def test_most_false_support_from_seeds_that_all_took_off_is_marked(seeds: int) -> None:
    """In each arm but the first a training in ten ends 10 lower, and the means of first and last are the same."""
    rng, supported, unmarked = np.random.default_rng(3), 0, 0
    for _ in range(300):
        failed = rng.random((seeds, 6)) < 0.1
        values = draw_noise(rng, seeds) - np.arange(6) + np.where(np.arange(6) > 0, 1 - 10 * failed, 0)
        false = compute_effect_p(values[:, -1] - values[:, 0], "increasing").p < 0.025
        supported += false
        unmarked += false and not is_marked(values)

    assert supported > 24
    assert unmarked < 15


def test_two_seeds_or_few_trainings_have_no_modes() -> None:
    far = np.zeros((2, 8))
    far[0, 0] = 50

    assert not is_marked(far + draw_noise(np.random.default_rng(4), 2, 8))
    assert not is_marked(np.array([[0.0, 1.0], [0.1, 1.1], [50.0, 1.2]]))


def test_equal_numbers_have_one_mode() -> None:
    assert not is_marked(np.ones((5, 6)))


def test_a_verdict_is_marked_by_a_training_that_it_does_not_compare(tmp_path: Path) -> None:
    contrast = judged(tmp_path).verdicts[1]
    (mode,) = contrast.two_modes

    assert (contrast.verdict, contrast.marks) == ("supported", ("two modes",))
    assert (mode.metric, mode.trainings) == (RMG, ("attributes=2 seed=1",))
    assert mode.distance > 6 > 2 * mode.rest


def test_the_mark_stands_wherever_the_verdict_does(tmp_path: Path) -> None:
    judged(tmp_path)
    document = first_verdict(tmp_path)

    for said in shown_everywhere(tmp_path):
        assert "two modes" in said.lower()
        assert "of attributes=2 seed=1 lies" in said
    assert document["marks"] == ["two modes"]
    assert document["two_modes"][0]["trainings"] == ["attributes=2 seed=1"]
