"""A verdict on trainings that learned nothing says so, wherever it is shown."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, fill, finish, plan_of, sweep_file
from scipy import stats

from command_line import gapctl
from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.learning import (
    CHANCE_P,
    _describe_failures,
    _SeedCheck,
    compute_guessing_loss,
    find_least_above_chance,
)
from gapctl.analysis.results import AnalysisResults
from gapctl.cli.options import load_plan
from gapctl.config.information import compute_bayes_loss
from gapctl.config.trial import FACTOR_VALUES, Loss, MadData
from gapctl.data.mad.factors import FACTORS
from gapctl.ledger import Ledger
from gapctl.plan.plan import Trial
from gapctl.report.markdown import format_verdict_counts, render_verdict_markdown

WIDTH = "model.embed_dim"
GUESSING = math.log(256)  # the batch of `sweep_file`
WIDER: Mapping[str, Any] = {
    "id": "width",
    "claim": "Wider embeddings leave a larger gap.",
    "test": "trend",
    "response": RMG,
    "factor": WIDTH,
    "direction": "increasing",
    "smallest_effect": 0.0001,
}


def judged(
    folder: Path,
    measure: Any,
    *hypotheses: Mapping[str, Any],
    vary: Mapping[str, Sequence[Any]] | None = None,
    **options: Any,
) -> AnalysisResults:
    ledger = Ledger(str(folder / "runs"))
    plan = plan_of(sweep_file(folder, *hypotheses, vary=vary, **options))
    fill(ledger, plan, measure)
    return analyze_finished_trials(plan, ledger)


def learned(trial: Trial) -> dict[str, float]:
    """A gap that falls with attributes by 0.05, a loss far below guessing's, and digits that are told apart."""
    gap = 0.5 - 0.05 * int(trial.factors[ATTRIBUTES]) + noise(trial)
    return {RMG: gap, "train/loss": 2.6, "quality/object_accuracy": 60}


def noise(trial: Trial) -> float:
    """Drawn for each training, the same each time."""
    return random.Random(trial.label).gauss(0.0, 0.002)


def of_one(attributes: int, seeds: Sequence[int], **metrics: float) -> Any:
    """As `learned`, but for one arm's trainings of some seeds; `__` is a slash."""

    def measure(trial: Trial) -> dict[str, float]:
        odd = trial.factors[ATTRIBUTES] == attributes and trial.seed in seeds
        return learned(trial) | ({name.replace("__", "/"): value for name, value in metrics.items()} if odd else {})

    return measure


def test_models_that_learned_have_no_mark(tmp_path: Path) -> None:
    found = judged(tmp_path, learned, TREND, CONTRAST)

    assert [(one.verdict, one.marks) for one in found.verdicts] == [("supported", ())] * 2
    assert {check.check for check in found.learning} >= {"train/loss", "quality/object_accuracy"}
    assert not any(check.failed for check in found.learning)


@pytest.mark.parametrize(
    ("loss", "marked"), [(GUESSING * 0.979, False), (GUESSING * 0.981, True), (GUESSING * 1.03, True), (math.nan, True)]
)
def test_a_loss_within_two_percent_of_guessing_s_or_above_it_is_not_learned(
    tmp_path: Path, loss: float, marked: bool
) -> None:
    (found,) = judged(tmp_path, of_one(0, [0, 1, 2], train__loss=loss), TREND).verdicts

    assert found.marks == (("not learned",) if marked else ())
    assert found.verdict == "supported", "the mark stands beside the verdict and does not change it"


def test_one_seed_of_an_arm_is_enough_and_is_named(tmp_path: Path) -> None:
    (found,) = judged(tmp_path, of_one(3, [1], train__loss=5.54), TREND).verdicts
    (check,) = found.not_learned

    assert (check.arm, check.check, check.failed, check.seeds) == ("attributes=3", "train/loss", (1,), (0, 1, 2))
    assert check.reason == "loss 5.540 in 1 of 3 seeds (1), not 2 % below the 5.545 of guessing"


def test_the_check_of_the_loss_has_the_least_that_any_model_can_reach(tmp_path: Path) -> None:
    found = judged(tmp_path, learned, TREND)
    of_loss = [check for check in found.learning if check.check == "train/loss"]
    least = [compute_bayes_loss(MadData.model_validate({"captions": {"attributes": k}}), "clip", 256) for k in range(6)]

    assert [check.loss_bayes for check in of_loss] == least
    assert [check.loss for check in of_loss] == pytest.approx([2.6] * 6)
    assert all(check.loss is None is check.loss_bayes for check in found.learning if check not in of_loss)


def test_captions_that_no_model_can_learn_from_are_not_held_against_it(tmp_path: Path) -> None:
    wrong = {ATTRIBUTES: [0], "data.captions.noise": [0.0, 0.9]}  # nine of ten digits are wrong: any is as likely
    hypothesis = {**CONTRAST, "factor": "data.captions.noise", "between": [0.0, 0.9], "direction": "either"}

    def measure(trial: Trial) -> dict[str, float]:
        return {RMG: 0.5, "train/loss": 5.5 if trial.config.data.captions.noise else 4.0}  # type: ignore[union-attr]

    found = judged(tmp_path, measure, hypothesis, vary=wrong)
    right, useless = (check for check in found.learning if check.check == "train/loss")

    assert right.failed == ()
    assert useless.seeds == ()
    assert useless.reason.startswith("no model can get below 5.545")


def test_only_arms_that_are_compared_count(tmp_path: Path) -> None:
    slope, difference = judged(tmp_path, of_one(3, [1], train__loss=5.54), TREND, CONTRAST).verdicts

    assert slope.marks == ("not learned",)
    assert difference.marks == (), "it compares 0 with 5"


def test_trainings_outside_of_where_do_not_count(tmp_path: Path) -> None:
    def measure(trial: Trial) -> dict[str, float]:
        return learned(trial) | ({"train/loss": 5.6} if trial.factors["temperature.mode"] == "fixed" else {})

    modes = {ATTRIBUTES: [0, 5], "temperature.mode": ["learned", "fixed"]}
    within = {**CONTRAST, "id": "within", "where": {"temperature.mode": "learned"}}
    found = judged(tmp_path, measure, CONTRAST, within, vary=modes).verdicts

    assert [one.marks for one in found] == [("not learned",), ()]


@pytest.mark.parametrize(("percent", "marked"), [(9.0, True), (11.3, True), (11.4, True), (12.2, False), (60.0, False)])
def test_accuracy_that_cannot_be_told_from_chance_is_not_learned(tmp_path: Path, percent: float, marked: bool) -> None:
    measure = of_one(0, [2], quality__object_accuracy=percent)
    (found,) = judged(tmp_path, measure, TREND).verdicts  # a gallery of 4,096: 11.5 % is above the 10 % of chance

    assert bool(found.marks) is marked


@pytest.mark.parametrize(("gallery", "judged_by_accuracy"), [(2, False), (3, False), (4, True), (64, True)])
def test_a_gallery_too_small_to_tell_any_accuracy_from_chance_marks_nothing(
    tmp_path: Path, gallery: int, judged_by_accuracy: bool
) -> None:
    path = sweep_file(tmp_path, TREND)
    document = json.loads(path.read_text())
    document["base"].setdefault("evaluate", {})["gallery"] = gallery
    path.write_text(json.dumps(document))
    ledger, plan = Ledger(str(tmp_path / "runs")), plan_of(path)
    fill(ledger, plan, lambda trial: learned(trial) | {"quality/object_accuracy": 100.0})
    found = analyze_finished_trials(plan, ledger)

    assert not found.verdicts[0].marks
    checks = [check for check in found.learning if check.check == "quality/object_accuracy"]
    assert all(bool(check.seeds) is judged_by_accuracy for check in checks)
    assert judged_by_accuracy or "too few to tell any accuracy from chance" in checks[0].reason


def test_chance_is_that_of_the_main_factor(tmp_path: Path) -> None:
    measure = of_one(5, [0], quality__object_accuracy=51.0)
    for factor, marked in (("fracture", True), ("colour", False)):
        folder = tmp_path / factor
        folder.mkdir()
        path = sweep_file(folder, TREND)
        document = json.loads(path.read_text())
        document["base"]["data"] = {"dataset": "mad", "main_factor": factor}
        path.write_text(json.dumps(document))
        ledger, plan = Ledger(str(folder / "runs")), plan_of(path)
        fill(ledger, plan, measure)

        assert bool(analyze_finished_trials(plan, ledger).verdicts[0].marks) is marked


def test_the_chance_of_each_factor_is_that_of_its_values() -> None:
    assert {factor.name: len(factor.values) for factor in FACTORS} == FACTOR_VALUES


def test_another_factor_counts_where_captions_name_it_and_the_verdict_is_of_it(tmp_path: Path) -> None:
    told = {**CONTRAST, "id": "told", "response": "quality/accuracy_fracture", "direction": "increasing"}

    def measure(trial: Trial) -> dict[str, float]:
        return learned(trial) | {"quality/accuracy_fracture": 50.0 + trial.seed / 10}

    gap, fracture = judged(tmp_path, measure, CONTRAST, told).verdicts

    assert gap.marks == (), "what captions name beside the digit need not be learned for a gap"
    assert [check.arm for check in fracture.not_learned] == ["attributes=5"], "without attributes, none is named"


@pytest.mark.parametrize(("images", "classes"), [(16, 2), (64, 5), (512, 10), (4096, 1000)])
def test_the_least_right_answers_above_chance_are_those_of_the_binomial_test(images: int, classes: int) -> None:
    p = stats.binom.sf(np.arange(images + 1) - 1, images, 1 / classes)

    assert find_least_above_chance(images, classes) == int(np.argmax(p < CHANCE_P))


def test_untrained_models_seldom_pass_for_ones_that_learned() -> None:
    """Simulated truth: of trainings at chance one in a thousand passes, of those well above it nearly none fails."""
    rng = np.random.default_rng(0)

    def passing(accuracy: float) -> float:
        right = rng.binomial(1024, accuracy, 20_000)
        return float(np.mean(stats.binom.sf(right - 1, 1024, 0.1) < CHANCE_P))

    assert passing(0.1) < 2 * CHANCE_P
    assert passing(0.2) > 0.999


def test_models_that_cannot_tell_pairs_apart_have_the_loss_of_guessing() -> None:
    torch = pytest.importorskip("torch")
    from gapctl.models.losses import make_contrastive_loss

    same = torch.nn.functional.normalize(torch.ones(128, 4), dim=-1)
    softmax = make_contrastive_loss("clip")(same, same, torch.tensor(14.0))
    best = -math.log(127) - 14.0
    sigmoid = make_contrastive_loss("siglip")(same, same, torch.tensor(14.0), torch.tensor(best))

    assert float(softmax) == pytest.approx(compute_guessing_loss(Loss(), 128), abs=1e-5)
    assert float(sigmoid) == pytest.approx(compute_guessing_loss(Loss(kind="siglip"), 128), abs=1e-4)


def test_siglip_is_held_against_its_own_guessing(tmp_path: Path) -> None:
    kinds = {ATTRIBUTES: [0, 5], "loss.kind": ["clip", "siglip"]}
    (found,) = judged(
        tmp_path, lambda trial: learned(trial) | {"train/loss": 5.6}, CONTRAST, vary=kinds
    ).verdicts  # 5.545 by softmax, 6.543 by sigmoid

    assert {check.levels["loss.kind"] for check in found.not_learned} == {"clip"}


def test_a_check_that_does_not_apply_says_why(tmp_path: Path) -> None:
    weights = {ATTRIBUTES: [0, 5], "loss.uniformity": [0.5, 1.0]}
    found = judged(tmp_path, lambda trial: learned(trial) | {"train/loss": 9.0}, CONTRAST, vary=weights)
    losses = [check for check in found.learning if check.check == "train/loss"]

    assert found.verdicts[0].marks == ()
    assert all("added to the contrastive loss" in check.reason and check.seeds == () for check in losses)


def test_models_before_training_may_be_held_against_trained_ones_but_not_alone(tmp_path: Path) -> None:
    at_start = {"id": "start", "claim": "There is one.", "test": "threshold", "response": RMG, "value": 0.0}
    alone = {**at_start, "where": {"train.samples": 256}, "direction": "increasing", "smallest_effect": 0.1}
    closes = {**CONTRAST, "id": "closes", "factor": "train.samples", "between": [256, 25600]}

    def measure(trial: Trial) -> dict[str, float]:
        before = trial.config.train.samples == 256
        rest = {"train/loss": 5.8, "quality/object_accuracy": 10.0} if before else {}
        return {
            RMG: (0.9 if before else 0.4) + noise(trial),
            "train/loss": 2.0,
            "quality/object_accuracy": 60,
        } | rest

    found = judged(tmp_path, measure, closes, alone, vary={"train.samples": [256, 25600]}).verdicts

    assert [(one.verdict, one.marks) for one in found] == [("supported", ()), ("supported", ("not learned",))]


def test_a_trial_that_measures_weights_is_checked_by_the_training_that_made_them(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, {**CONTRAST, "factor": "evaluate.intervention", "between": ["none", "centre"]})
    document = json.loads(path.read_text())
    document["base"] |= {"init_from": {"train.samples": 25600}, "train": {"samples": 0, "batch_size": 256}}
    document["base"]["temperature"] = {"mode": "frozen"}
    document["base"]["init_from"]["temperature.mode"] = "learned"
    document["vary"] = {"evaluate.intervention": ["none", "centre"]}
    path.write_text(json.dumps(document))
    ledger, plan = Ledger(str(tmp_path / "runs")), plan_of(path)
    gap = {"none": 0.6, "centre": 0.1}
    fill(ledger, plan, lambda trial: {RMG: gap[str(trial.factors["evaluate.intervention"])] + noise(trial)})
    (unknown,) = analyze_finished_trials(plan, ledger).verdicts
    for trial in plan.preparations:
        finish(ledger, trial, {RMG: 0.6, "train/loss": 5.5, "quality/object_accuracy": 10.2})

    (found,) = analyze_finished_trials(plan, ledger).verdicts

    assert (unknown.verdict, unknown.marks) == ("supported", ())
    assert (found.verdict, found.marks) == ("supported", ("not learned",))


def short_widths(trial: Trial) -> dict[str, float]:
    """40 steps at three widths as they were measured once: loss, accuracy over 512 images; the gap made to follow."""
    measured = {16: (4.86, 4.90, 9.0), 64: (4.83, 4.88, 11.0), 256: (4.79, 4.84, 17.0)}
    width = int(trial.factors[WIDTH])
    low, high, accuracy = measured[width]
    return {
        RMG: 0.3 + 0.0004 * width + trial.seed / 5000,
        "train/loss": low + (high - low) * trial.seed / 4,
        "quality/object_accuracy": accuracy,
    }


def test_widths_that_were_hardly_trained_cannot_end_in_an_unmarked_verdict(tmp_path: Path) -> None:
    found = judged(
        tmp_path,
        short_widths,
        WIDER,
        vary={WIDTH: [16, 64, 256]},
        seeds=5,
        train={"samples": 5120, "batch_size": 128},
    )
    (verdict,) = found.verdicts

    assert (verdict.verdict, verdict.marks) == ("supported", ("not learned",))
    assert {check.arm for check in verdict.not_learned} == {"embed_dim=16", "embed_dim=64", "embed_dim=256"}


def test_the_mark_stands_wherever_the_verdict_is_shown(tmp_path: Path) -> None:
    path, runs = sweep_file(tmp_path, TREND), str(tmp_path / "runs")
    plan = load_plan(path, None, None)
    fill(Ledger(runs), plan, of_one(0, [0], train__loss=5.6))
    found = analyze_finished_trials(plan, Ledger(runs))
    pages = [tmp_path / f"report.{ending}" for ending in ("html", "md", "tex")]
    for page in pages:
        assert gapctl("analyze", str(path), "--runs", runs, "--out", str(page)).exit_code == 0
    html, markdown, latex = (page.read_text() for page in pages)
    told = gapctl("analyze", str(path), "--runs", runs)
    (verdict,) = json.loads(gapctl("analyze", str(path), "--runs", runs, "--json").out)["verdicts"]
    why = "attributes=0: loss 5.600 in 1 of 3 seeds (0), not 2 % below the 5.545 of guessing"

    assert "slope: supported (not learned)" in told.out
    assert "supported (not learned)  " in told.out.partition("slope: ")[0]
    assert f"Not learned: {why}." in " ".join(told.out.split())
    assert "NOT LEARNED</span>" in html
    assert '<strong class="badge">supported</strong>' in html
    assert "<b>1 supported (not learned)</b>" in html
    assert "✓ **supported**" not in markdown
    assert why in html
    assert "**supported** (not learned)" in markdown
    assert why in markdown.replace("\\", "")
    assert "supported (not learned)" in latex
    assert verdict["marks"] == ["not learned"]
    assert verdict["not_learned"][0]["failed"] == [0]
    assert f"attributes=0: {verdict['not_learned'][0]['reason']}" == why
    assert format_verdict_counts(found) == "1 supported (not learned)"
    assert why in render_verdict_markdown(found)


def test_a_failure_names_the_criterion_of_each_model_where_they_differ() -> None:
    failed = [
        _SeedCheck(0, passed=False, value=4.852, criterion="not 2 % below the 4.852 of guessing", model="one"),
        _SeedCheck(1, passed=False, value=3.466, criterion="not 2 % below the 3.466 of guessing", model="two"),
    ]
    assert _describe_failures("train/loss", failed, 2) == (
        "loss 3.466 to 4.852 in all 2 models, one not 2 % below the 4.852 of guessing; "
        "two not 2 % below the 3.466 of guessing"
    )


def test_a_table_is_checked_by_the_loss_at_its_end_and_by_no_prompts(tmp_path: Path) -> None:
    def ended(at: float) -> Any:
        def measure(trial: Trial) -> dict[str, float]:
            ending = {"train/loss": 9.0, "train/loss_end": at, "quality/object_accuracy": 10}
            return learned(trial) | ending

        return measure

    table = {"model.preset": ["table"], ATTRIBUTES: range(6)}
    found = [judged(tmp_path, ended(at), TREND, vary=table, name=f"at-{at:.0f}").verdicts[0] for at in (2.6, GUESSING)]

    assert ["not learned" in verdict.marks for verdict in found] == [False, True]
