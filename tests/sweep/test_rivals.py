"""Every rival explanation of the shipped sweep trains, and its trials are measured again to the same numbers."""

import json
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.plan.plan import Trial, pack_trials
from sweep_texts import REPOSITORY, SHIPPED
from trained_alone import plan_trials, trained_alone

RIVALS = REPOSITORY / "sweeps" / "rivals.yaml"
SHORT = ("base.train.samples=512", "base.train.batch_size=64", "base.evaluate.every=512", "base.evaluate.gallery=128")
LEVELS = ("siglip", "shared-blocks", "same-modality", "mismatched-start", "uniform")
TRAINED_ONLY = ("train/loss", "train/loss_floor", "train/loss_bayes", "train/loss_excess")


def trial_with(rival: str) -> Trial:
    wanted = {"data.captions.attributes": 5, "rival": rival}
    (found,) = (trial for trial in plan_trials(*SHORT, file=RIVALS) if trial.factors == wanted)
    return found


@pytest.mark.parametrize("rival", LEVELS)
def test_each_is_trained_and_measured_again(rival: str, tmp_path: Path) -> None:
    trial = trial_with(rival)
    metrics = trained_alone(trial, tmp_path).metrics
    expected = {key: value for key, value in metrics.items() if key not in TRAINED_ONLY}

    answer = gapctl("measure", "--trial", trial.id, "--runs", str(tmp_path), "--json")

    assert answer.exit_code == 0, answer.err
    found = json.loads(answer.out)["metrics"]
    assert {key: found[key] for key in expected} == expected
    assert metrics["gap/rmg"] > 0


def test_without_a_rival_and_with_its_seeds_they_are_the_trials_of_the_question_itself() -> None:
    rivals = [
        trial
        for trial in plan_trials("first_seed=0", "seeds=3", file=RIVALS, scale="laptop")
        if trial.factors["rival"] == "none"
    ]
    known = {trial.id for trial in plan_trials(file=SHIPPED, scale="laptop")}

    assert len(rivals) == 6
    assert {trial.id for trial in rivals} < known


def test_captions_are_packed_within_a_rival_and_no_two_rivals_together() -> None:
    packs = pack_trials(plan_trials(*SHORT, file=RIVALS), 8)

    assert len(packs) == len({"none", "late-start", *LEVELS})
    assert all({trial.factors["data.captions.attributes"] for trial in pack} == {0, 5} for pack in packs)
