"""Metrics that no training knows alone: how the gaps of several trainings agree, with pairs of seeds as replicates."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from analysis_ledgers import ATTRIBUTES, RMG, finish, plan_of, sweep_file
from scipy import stats
from scipy.stats import ortho_group

from gapctl.analysis.analyze import analyze_finished_trials, compute_curves
from gapctl.analysis.between_trainings import (
    compute_axis_agreement,
    compute_excess_agreement,
    compute_leading_agreement,
)
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.tables import read_trial_tables
from gapctl.ledger import Ledger
from gapctl.metrics.embedding_set import normalise_rows
from gapctl.metrics.gap import gap_direction, measure_dimension_overlap
from gapctl.plan.plan import Plan, Trial
from gapctl.plan.power import list_verdict_warnings
from sweep_texts import complaints, document

SEEDS, ARMS = "agreement/axis_seeds", "agreement/axis_arms"
PRESETS, WIDTHS, LEADING = "agreement/axis_architectures", "agreement/axis_widths", "agreement/leading_dims_seeds"
EXCESS = "agreement/axis_excess_seeds"
AGREES: Mapping[str, Any] = {
    "id": "it-agrees",
    "claim": "Gaps agree.",
    "test": "threshold",
    "response": SEEDS,
    "value": 0.0,
    "direction": "increasing",
    "smallest_effect": 0.1,
}
LEVELS = {ATTRIBUTES: [0, 5]}
WIDE = {"model.embed_dim": [16, 32], "model.preset": ["mad-tiny", "mad-patch4"]}
Rows = Callable[[Trial], Sequence[float]]
IMAGES = 40


def images(trial: Trial, noise: float = 0.5) -> Sequence[float]:
    """Places along a gap that all trainings share but for noise of their own."""
    shared = np.random.default_rng(1).normal(size=IMAGES)
    own = np.random.default_rng(int(trial.id, 16)).normal(size=IMAGES)
    return [float(place) for place in shared + noise * own]


def planned(
    folder: Path, *responses: str, vary: Mapping[str, Sequence[Any]] = LEVELS, seeds: int = 4, first_seed: int = 0
) -> Plan:
    hypotheses = [{**AGREES, "id": response.split("/")[1], "response": response} for response in responses]
    return plan_of(sweep_file(folder, *hypotheses, vary=vary, seeds=seeds, first_seed=first_seed))


def filled(
    folder: Path, plan: Plan, row: Rows = images, trials: Sequence[Trial] | None = None, mean: Rows | None = None
) -> Ledger:
    ledger = Ledger(str(folder / "runs"))
    ledger.declare_plan(plan)
    mean = mean or row
    for trial in plan.trials if trials is None else trials:
        places = row(trial)
        ledger.trial(trial.id).save_axis(places, places, mean(trial), [image % 4 for image in range(len(places))])
        finish(ledger, trial, {RMG: 0.1})
    return ledger


def table(plan: Plan, ledger: Ledger) -> pl.DataFrame:
    return read_trial_tables(plan, ledger).trials


def single(places: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """As the ledger keeps them."""
    return np.asarray(places, dtype=np.float32).astype(np.float64)


def test_the_axis_orders_samples_alike_however_an_embedding_is_rotated_and_whatever_its_width() -> None:
    rng = np.random.default_rng(0)
    image_ND, text_ND = normalise_rows(rng.normal(size=(50, 8)) + 1), normalise_rows(rng.normal(size=(50, 8)) - 1)
    turn_DD = ortho_group.rvs(8, random_state=1)
    wide = [np.hstack([rows_ND @ turn_DD, np.zeros((50, 5))]) for rows_ND in (image_ND, text_ND)]

    places = [
        found @ gap_direction(found.mean(axis=0), text.mean(axis=0)) for found, text in ((image_ND, text_ND), wide)
    ]

    assert compute_axis_agreement(np.stack(places)) == pytest.approx([1.0, 1.0])


def test_an_axis_agrees_by_its_mean_correlation_with_the_others() -> None:
    places_KN = np.random.default_rng(2).normal(size=(3, 30))
    r = np.corrcoef(places_KN)

    expected = [(r[0, 1] + r[0, 2]) / 2, (r[0, 1] + r[1, 2]) / 2, (r[0, 2] + r[1, 2]) / 2]
    assert compute_axis_agreement(places_KN) == pytest.approx(expected)


def test_unrelated_axes_agree_by_nothing_on_average_also_where_images_have_few_directions() -> None:
    rng = np.random.default_rng(3)
    image_ND = rng.normal(size=(100, 3))
    found = [compute_axis_agreement(rng.normal(size=(2, 3)) @ image_ND.T)[0] for _ in range(2_000)]

    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    assert np.mean(np.abs(found)) > 0.4, "which is why signs count"


def test_images_in_one_place_have_no_direction_to_agree_on() -> None:
    assert np.isnan(compute_axis_agreement(np.stack([np.ones(5), np.arange(5.0)]))).all()


def along(rng: np.random.Generator, *shared: np.ndarray[Any, np.dtype[np.float64]]) -> FloatArray:
    """Two models' places of images: what they share, and as much again of their own."""
    return np.stack([sum(shared) + rng.normal(size=len(shared[0])) for _ in range(2)])


@pytest.mark.parametrize("seed", range(5))
def test_gaps_that_agree_by_the_mean_image_alone_have_no_agreement_beyond_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    common_N, label_N = rng.normal(size=1_000), rng.integers(0, 10, 1_000)
    gap_KN, mean_KN = along(rng, common_N), along(rng, common_N)

    assert (compute_axis_agreement(gap_KN) > 0.4).all()
    assert np.abs(compute_excess_agreement(gap_KN, mean_KN, label_N)).max() < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_gaps_that_agree_by_what_labels_say_have_no_agreement_beyond_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label_N = rng.integers(0, 10, 1_000)
    gap_KN, mean_KN = along(rng, np.linspace(-1.5, 1.5, 10)[label_N]), rng.normal(size=(2, 1_000))

    assert (compute_axis_agreement(gap_KN) > 0.3).all()
    assert np.abs(compute_excess_agreement(gap_KN, mean_KN, label_N)).max() < 0.1


@pytest.mark.parametrize("seed", range(5))
def test_gaps_that_order_images_of_one_label_alike_agree_beyond_labels_and_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    common_N, label_N = rng.normal(size=1_000), rng.integers(0, 10, 1_000)
    gap_KN, mean_KN = along(rng, common_N), rng.normal(size=(2, 1_000))
    found_K = compute_excess_agreement(gap_KN, mean_KN, label_N)

    assert (found_K > 0.3).all()
    assert (found_K < compute_axis_agreement(gap_KN)).all()


def test_an_excess_is_computed_from_what_trainings_kept_and_not_from_those_of_earlier_versions(tmp_path: Path) -> None:
    plan = planned(tmp_path, EXCESS, vary=LEVELS)
    ledger = filled(tmp_path, plan, mean=lambda trial: images(trial, noise=100.0))
    whole = table(plan, ledger)[EXCESS]
    old = tmp_path / "runs" / plan.trials[0].id / "axis.parquet"
    pl.read_parquet(old).select("image", "text").write_parquet(old)

    assert whole.null_count() == 0
    assert (whole > 0.2).all()
    assert table(plan, ledger)[EXCESS].null_count() == 2


def test_leading_dimensions_are_those_of_gapctl_measure_less_chance() -> None:
    one_D, other_D = np.random.default_rng(4).normal(size=(2, 30))
    expected = measure_dimension_overlap(one_D, other_D, 10)

    assert compute_leading_agreement(np.stack([one_D, other_D])) == pytest.approx(
        [expected.share - expected.chance] * 2
    )


def test_each_metric_compares_the_trainings_that_it_says(tmp_path: Path) -> None:
    plan = planned(tmp_path, SEEDS, ARMS, PRESETS, WIDTHS, vary=WIDE)
    trials = table(plan, filled(tmp_path, plan))
    chosen = plan.trials[0]
    place = {trial.id: single(images(trial)) for trial in plan.trials}

    def mean_with(*others: Trial) -> float:
        return float(np.mean([np.corrcoef(place[chosen.id], place[other.id])[0, 1] for other in others]))

    def like(**changes: Any) -> list[Trial]:
        wanted = {"seed": chosen.seed, **chosen.factors, **changes}
        return [trial for trial in plan.trials if {"seed": trial.seed, **trial.factors} == wanted]

    found = trials.row(by_predicate=pl.col("trial") == chosen.id, named=True)
    assert found[SEEDS] == pytest.approx(mean_with(*like(seed=1)))
    assert found[WIDTHS] == pytest.approx(mean_with(*like(**{"model.embed_dim": 32})))
    assert found[PRESETS] == pytest.approx(mean_with(*like(**{"model.preset": "mad-patch4"})))
    arms = [trial for trial in plan.trials if trial.seed == chosen.seed and trial is not chosen]
    assert found[ARMS] == pytest.approx(mean_with(*arms))


def test_nothing_is_computed_that_no_hypothesis_asks_for(tmp_path: Path) -> None:
    plan = planned(tmp_path, RMG)

    assert not any(name.startswith("agreement/") for name in table(plan, filled(tmp_path, plan)).columns)


def test_pairs_of_seeds_are_the_replicates(tmp_path: Path) -> None:
    plan = planned(tmp_path, SEEDS, seeds=6)
    ledger = filled(tmp_path, plan)
    (found,) = analyze_finished_trials(plan, ledger).verdicts
    by_pair = table(plan, ledger).group_by(pl.col("seed") // 2).agg(pl.col(SEEDS).mean()).sort("seed")[SEEDS].to_numpy()

    assert (found.verdict, found.seeds, found.trials, found.exploratory) == ("supported", 6, 12, False)
    assert found.estimate == pytest.approx(by_pair.mean())
    assert found.p_direction == pytest.approx(stats.ttest_1samp(by_pair, 0.0, alternative="greater").pvalue)
    assert found.reason.startswith("All 3 pairs of seeds lie above 0, by 0.")


def test_charts_count_pairs_as_well(tmp_path: Path) -> None:
    plan = planned(tmp_path, SEEDS, seeds=6)
    found = compute_curves(table(plan, filled(tmp_path, plan)), plan.sweep.spec.vary, 0.05)

    assert found.filter(pl.col("metric") == SEEDS)["seeds"].to_list() == [3, 3]
    assert found.filter(pl.col("metric") == RMG)["seeds"].to_list() == [6, 6]


def test_a_seed_without_a_partner_is_in_no_pair_and_a_plan_says_so(tmp_path: Path) -> None:
    plan = planned(tmp_path, SEEDS, seeds=5, first_seed=3)
    (found,) = analyze_finished_trials(plan, filled(tmp_path, plan)).verdicts
    (said,) = list_verdict_warnings(plan.sweep.spec)

    assert (found.seeds, found.exploratory) == (4, False)
    assert said.startswith("axis_seeds: seeds are compared two by two (0 with 1, 2 with 3)")
    assert "5 from 3 on make 2 pairs" in said
    assert list_verdict_warnings(planned(tmp_path, SEEDS, ARMS, seeds=4).sweep.spec) == []


def test_a_pair_with_a_training_to_do_is_left_out_and_named(tmp_path: Path) -> None:
    plan = planned(tmp_path, SEEDS)
    (found,) = analyze_finished_trials(plan, filled(tmp_path, plan, trials=plan.trials[:-1])).verdicts

    assert (found.seeds, found.exploratory) == (2, True)
    assert found.reason.startswith("The only complete pair of seeds lies above 0, by ")
    assert "an interval needs at least two pairs of seeds" in found.reason
    assert "seeds 2 and 3 are left out as 7 of 8 trainings are done" in found.reason


def test_a_training_that_kept_no_such_file_is_named(tmp_path: Path) -> None:
    plan = planned(tmp_path, ARMS)
    ledger = filled(tmp_path, plan)
    (tmp_path / "runs" / plan.trials[0].id / "axis.parquet").unlink()
    (found,) = analyze_finished_trials(plan, ledger).verdicts

    assert found.seeds == 3
    assert "seed 0 is left out as agreement/axis_arms was not recorded in attributes=0 seed=0" in found.reason


def test_a_damaged_file_is_told_and_the_others_are_judged(tmp_path: Path) -> None:
    plan = planned(tmp_path, ARMS)
    ledger = filled(tmp_path, plan)
    (tmp_path / "runs" / plan.trials[0].id / "axis.parquet").write_bytes(b"PAR1")
    tables = read_trial_tables(plan, ledger)

    assert len(tables.trials) == len(plan.trials)
    assert tables.trials[ARMS].null_count() == 2
    assert [plan.trials[0].id in line and "axis.parquet: damaged" in line for line in tables.damaged] == [True]


def test_pairs_of_seeds_compare_whatever_gallery_their_arm_has(tmp_path: Path) -> None:
    plan = planned(tmp_path, SEEDS, vary={"evaluate.gallery": [IMAGES, 2 * IMAGES]})
    ledger = filled(tmp_path, plan, lambda trial: list(images(trial)) * (trial.config.evaluate.gallery // IMAGES))

    assert table(plan, ledger)[SEEDS].null_count() == 0


@pytest.mark.parametrize(
    ("response", "vary", "expected"),
    [
        (WIDTHS, LEVELS, "differ in model.embed_dim alone, and that does not vary"),
        (PRESETS, WIDE | {"model.preset": ["mad-tiny"]}, "differ in model.preset alone, and that does not vary"),
        (ARMS, {ATTRIBUTES: [0]}, "it compares arms, and the sweep has one"),
        (ARMS, {"evaluate.gallery": [64, 128]}, "on one gallery, and evaluate.gallery varies"),
        ("agreement/axis_excess_widths", LEVELS, "differ in model.embed_dim alone, and that does not vary"),
        (LEADING, {"model.embed_dim": [4, 8]}, "of ten dimensions, all are leading"),
    ],
)
def test_what_could_never_be_compared_is_refused(
    tmp_path: Path, response: str, vary: Mapping[str, Any], expected: str
) -> None:
    (line,) = complaints(tmp_path, {**document(), "vary": vary, "hypotheses": [{**AGREES, "response": response}]})

    assert expected in line


def false_verdicts(seeds: int, shared: float, rounds: int, *, in_pairs: bool) -> float:
    """How often p < 0.05 for no agreement, where seeds' agreement is their product of a trait each, plus noise.

    A trait that one training brings to all its comparisons (`shared`) is what makes them depend on each other.
    """
    rng = np.random.default_rng(seeds)
    trait_RS = rng.normal(size=(rounds, seeds))
    noise_RSS = rng.normal(size=(rounds, seeds, seeds))
    symmetric_RSS = (noise_RSS + noise_RSS.transpose(0, 2, 1)) / np.sqrt(2)
    found_RSS = shared * (trait_RS[:, :, None] + trait_RS[:, None, :]) + symmetric_RSS
    if in_pairs:
        values_RS = found_RSS[:, range(0, seeds, 2), range(1, seeds, 2)]
    else:
        others = ~np.eye(seeds, dtype=bool)
        values_RS = found_RSS[:, others].reshape(rounds, seeds, seeds - 1).mean(axis=2)
    return float((stats.ttest_1samp(values_RS, 0.0, axis=1, alternative="greater").pvalue < 0.05).mean())


@pytest.mark.parametrize("shared", [0.0, 1.0])
@pytest.mark.parametrize("seeds", [4, 8])
def test_pairs_that_share_no_training_keep_the_rate_of_false_verdicts_which_all_others_do_not(
    seeds: int, shared: float
) -> None:
    assert false_verdicts(seeds, shared, 20_000, in_pairs=True) == pytest.approx(0.05, abs=0.006)
    assert false_verdicts(seeds, shared, 20_000, in_pairs=False) > 0.12
