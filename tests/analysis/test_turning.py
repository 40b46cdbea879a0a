"""An average over treatments under which the effect has opposite signs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, Measure, fill, plan_of, sweep_file

from findings_estimates import SignReversal, find_sign_reversal
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial

WIDTH, LR, BATCH = "model.embed_dim", "train.lr", "train.batch_size"
TWO: Mapping[str, Sequence[Any]] = {ATTRIBUTES: [0, 5], WIDTH: [32, 64, 128]}
EQUIVALENCE = {name: value for name, value in CONTRAST.items() if name != "direction"} | {"test": "equivalence"}
MEDIATION = CONTRAST | {"test": "mediation", "mediator": LR, "free": 0.001, "fixed": 0.01}


def effects(by: Mapping[tuple[Any, ...], float], *factors: str) -> Measure:
    """RMG whose difference by attributes is what `by` has for the trial's levels of the factors; seeds differ."""

    def measure(trial: Trial) -> dict[str, float]:
        effect = by[tuple(trial.factors[factor] for factor in factors)] + 0.001 * trial.seed
        return {RMG: 0.5 + effect * (trial.factors[ATTRIBUTES] == 5)}

    return measure


def found(
    folder: Path,
    hypothesis: Mapping[str, Any],
    measure: Measure,
    vary: Mapping[str, Sequence[Any]] = TWO,
) -> SignReversal | None:
    plan, ledger = plan_of(sweep_file(folder, hypothesis, vary=vary)), Ledger(str(folder / "runs"))
    fill(ledger, plan, measure)
    spec = plan.sweep.spec
    return find_sign_reversal(spec.hypotheses[0], analyze_finished_trials(plan, ledger).trials, spec)


@pytest.mark.parametrize("hypothesis", [CONTRAST, EQUIVALENCE])
def test_the_lowest_and_the_highest_cell_are_as_where_would_give_them(
    tmp_path: Path, hypothesis: Mapping[str, Any]
) -> None:
    measure = effects({(32,): -0.3, (64,): 0.1, (128,): 0.2}, WIDTH)

    turned = found(tmp_path, hypothesis, measure)
    where = sweep_file(tmp_path, hypothesis | {"where": {WIDTH: 128}}, vary=TWO)
    (alone,) = analyze_finished_trials(plan_of(where), Ledger(str(tmp_path / "runs"))).verdicts

    assert turned is not None
    assert (turned.lowest.levels, turned.highest.levels) == ({WIDTH: 32}, {WIDTH: 128})
    assert turned.lowest.estimate == pytest.approx(-0.299)
    assert (turned.highest.estimate, turned.highest.ci) == (alone.estimate, alone.ci)


@pytest.mark.parametrize(
    "by",
    [
        {(32,): -0.3, (64,): -0.1, (128,): -0.2},
        {(32,): -0.3, (64,): 0.04, (128,): 0.0},
        {(32,): 0.3, (64,): -0.051, (128,): 0.0},
    ],
    ids=["one sign", "too small to count", "an interval across the smallest effect"],
)
def test_effects_that_do_not_count_on_both_sides_are_no_turn(
    tmp_path: Path, by: Mapping[tuple[Any, ...], float]
) -> None:
    assert found(tmp_path, CONTRAST, effects(by, WIDTH)) is None


def test_an_effect_where_the_factor_is_named_is_no_average(tmp_path: Path) -> None:
    measure = effects({(32,): -0.3, (64,): 0.1, (128,): 0.2}, WIDTH)

    assert found(tmp_path, CONTRAST | {"where": {WIDTH: 64}}, measure) is None
    assert found(tmp_path, TREND, measure) is None


def test_two_factors_are_taken_apart_and_three_are_not(tmp_path: Path) -> None:
    vary = {ATTRIBUTES: [0, 5], WIDTH: [32, 64], LR: [0.001, 0.01]}
    by = {(32, 0.001): 0.2, (32, 0.01): -0.1, (64, 0.001): 0.0, (64, 0.01): -0.2}
    (tmp_path / "three").mkdir()

    two = found(tmp_path, CONTRAST, effects(by, WIDTH, LR), vary)
    three = found(tmp_path / "three", CONTRAST, effects(by, WIDTH, LR), {**vary, BATCH: [128, 256]})

    assert two is not None
    assert two.lowest.levels == {WIDTH: 64, LR: 0.01}
    assert two.highest.levels == {WIDTH: 32, LR: 0.001}
    assert three is None


def test_what_a_mediator_carries_may_turn_too(tmp_path: Path) -> None:
    vary = {ATTRIBUTES: [0, 5], WIDTH: [32, 64], LR: [0.001, 0.01]}
    by = {(32, 0.001): 0.2, (32, 0.01): 0.0, (64, 0.001): 0.0, (64, 0.01): 0.2}

    turned = found(tmp_path, MEDIATION, effects(by, WIDTH, LR), vary)

    assert turned is not None
    assert turned.lowest.levels == {WIDTH: 64}
    assert turned.lowest.estimate == pytest.approx(-0.2)
    assert turned.highest.estimate == pytest.approx(0.2)
