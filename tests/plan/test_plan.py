"""A plan is the full factorial in a fixed order, each trial named by what decides its numbers."""

import copy
import pickle
from pathlib import Path

import pytest

from gapctl.config.load import load_sweep
from gapctl.config.trial import MadData, TrialConfig
from gapctl.errors import InputError
from gapctl.plan.estimate import count_trial_flops, estimate_training_cost
from gapctl.plan.plan import Plan, find_trial, hash_design, make_plan, shorten_paths
from gapctl.plan.power import list_verdict_warnings
from gapctl.plan.trial_id import compute_trial_id

REPOSITORY = Path(__file__).parents[2]


def plan(*overrides: str, fingerprint: str = "abc") -> Plan:
    return make_plan(load_sweep(REPOSITORY / "sweeps/imbalance.yaml", None, overrides), lambda data: fingerprint)


def test_the_grid_is_whole_and_ordered_by_seed_then_level() -> None:
    labels = [trial.label for trial in plan("seeds=2").trials]

    assert labels[0] == "attributes=0 seed=0"
    assert labels[5:7] == ["attributes=5 seed=0", "attributes=0 seed=1"]
    assert len(labels) == 12


def test_ids_are_twelve_hex_digits_and_all_differ() -> None:
    ids = [trial.id for trial in plan().trials]

    assert len(set(ids)) == len(ids)
    assert all(len(item) == 12 and int(item, 16) >= 0 for item in ids)


def test_adding_a_level_keeps_the_ids_of_the_others() -> None:
    few = plan("vary.data.captions.attributes=[0,5]").trials
    many = plan("vary.data.captions.attributes=[0,3,5]").trials

    assert {trial.id for trial in few} < {trial.id for trial in many}


@pytest.mark.parametrize("setting", ["tracking.uri=sqlite:///other.db", "resources.cpus=2", "alpha=0.01"])
def test_what_does_not_decide_the_numbers_is_not_part_of_an_id(setting: str) -> None:
    assert [trial.id for trial in plan().trials] == [trial.id for trial in plan(setting).trials]


@pytest.mark.parametrize("setting", ["base.train.lr=0.002", "base.model.embed_dim=32", "base.temperature.init=0.1"])
def test_what_decides_the_numbers_is_part_of_an_id(setting: str) -> None:
    assert not {trial.id for trial in plan().trials} & {trial.id for trial in plan(setting).trials}


def test_the_temperatures_learning_rate_is_part_of_the_ids_of_those_that_learn_it() -> None:
    both = [plan("vary.temperature.mode=[learned, fixed]", f"base.temperature.lr={rate}") for rate in (0.001, 0.01)]

    same = [one.id == other.id for one, other in zip(*(each.trials for each in both), strict=True)]
    assert same == [trial.config.temperature.mode == "fixed" for trial in both[0].trials]


def test_a_rate_of_a_temperature_that_no_arm_learns_is_refused() -> None:
    with pytest.raises(InputError, match=r"base.temperature.lr: found 0.01, which no training uses; expected"):
        plan("base.temperature.mode=fixed", "base.temperature.lr=0.01")


def test_the_rate_of_a_temperature_that_some_arms_learn_is_part_of_the_design() -> None:
    modes = ("base.temperature.mode=fixed", "vary.temperature.mode=[learned, fixed]")
    designs = [hash_design(plan(*modes, f"base.temperature.lr={rate}")) for rate in (0.001, 0.01)]

    assert designs[0] != designs[1]


def test_other_data_gives_other_trials_but_a_moved_folder_does_not() -> None:
    here, there = (TrialConfig(data=MadData(source=source)) for source in ("here", "there"))

    assert compute_trial_id(here, 0, "abc") == compute_trial_id(there, 0, "abc")
    assert compute_trial_id(here, 0, "abc") != compute_trial_id(here, 0, "abd")


def test_factors_with_the_same_last_name_are_labelled_by_their_whole_path() -> None:
    assert shorten_paths(["data.captions.attributes", "train.lr"]) == {
        "data.captions.attributes": "attributes",
        "train.lr": "lr",
    }
    assert shorten_paths(["a.kind", "b.kind"]) == {"a.kind": "a.kind", "b.kind": "b.kind"}


def test_a_gap_at_the_start_is_not_labelled_as_a_gap_that_was_measured() -> None:
    assert shorten_paths(["init.gap", "train.lr"]) == {"init.gap": "init.gap", "train.lr": "lr"}


def test_cost_grows_with_samples_and_is_shared_by_slots() -> None:
    trials = plan().trials
    one, two = estimate_training_cost(trials, 1), estimate_training_cost(trials, 2)

    assert one.samples == 18 * 51_200
    assert one.flops == sum(count_trial_flops(trial) for trial in trials)
    assert two.wall_hours == pytest.approx(one.wall_hours / 2)


def test_a_trial_is_found_by_the_beginning_of_its_id() -> None:
    found = plan()

    assert find_trial(found, found.trials[3].id[:10]) == found.trials[3]
    with pytest.raises(InputError, match=r"--trial zzz: no trial of .*imbalance.yaml begins with that"):
        find_trial(found, "zzz")


def test_what_cannot_be_decided_is_said_before_anything_is_trained() -> None:
    assert list_verdict_warnings(plan().sweep.spec) == []
    (line,) = list_verdict_warnings(plan("seeds=1").sweep.spec)
    assert "a verdict needs at least 2 seeds" in line
    law = make_plan(load_sweep(REPOSITORY / "sweeps/one_law.yaml", "smoke"), lambda data: "data").sweep.spec
    (line,) = list_verdict_warnings(law)
    assert line.endswith("; those of 5 predictions are over levels, and need one")


def test_a_correlation_over_too_few_arms_is_said(tmp_path: Path) -> None:
    text = (REPOSITORY / "sweeps/imbalance.yaml").read_text(encoding="utf-8")
    blocks = text[: text.index("hypotheses:")], text[text.index("\nalpha:") :]
    stated = "{id: c, claim: c, test: correlation, response: gap/rmg, against: gap/l2m, direction: increasing}"
    correlation = f"hypotheses: [{stated[:-1]}, smallest_effect: 0.1}}]"
    file = tmp_path / "few.yaml"
    file.write_text(correlation.join(blocks), encoding="utf-8")

    def said(*overrides: str) -> list[str]:
        return list_verdict_warnings(make_plan(load_sweep(file, None, overrides), lambda data: "abc").sweep.spec)

    (line,) = said()
    assert "over 6 arms cannot fall below 0.5" in line
    assert (
        "so no result can support it, as that takes p below 0.05: vary more factors, or a factor with named levels"
        in line
    )


def test_trials_can_be_copied_to_other_processes() -> None:
    trials = plan().trials

    assert pickle.loads(pickle.dumps(trials)) == copy.deepcopy(trials) == trials


CANNOT_DECIDE = {"object_attribute": 5, "next_confounds": 2}
"""Shipped sweeps whose published questions stay as they were asked, by how many hypotheses no result can support.

`accuracies` and `public_attributes` ask them so that they can be decided.
"""


def test_shipped_sweeps_can_decide_each_correlation_but_those_of_two_published_questions() -> None:
    lines = {
        path.stem: [line for line in list_verdict_warnings(load_sweep(path).spec) if "cannot fall below" in line]
        for path in (REPOSITORY / "sweeps").glob("*.yaml")
    }

    assert {"accuracies", "public_attributes", *CANNOT_DECIDE} < set(lines)
    assert {name: len(found) for name, found in lines.items() if found} == CANNOT_DECIDE
