"""A named treatment changes several values at once, and is a factor like any other."""

from pathlib import Path
from typing import Any

import pytest

from gapctl.config.arms import list_arms, locate_trial_value_in_file, resolve_arm_config
from gapctl.config.base import Problem
from gapctl.config.load import LoadedSweep
from gapctl.errors import InputError
from gapctl.plan.plan import Plan, build_located_error, hash_design, make_plan
from sweep_texts import complaints, document, loaded

SCHEDULE = {"temperature.mode": "schedule", "temperature.init": 0.2, "temperature.final": 0.02}
PATHS = {"cold": {"temperature.mode": "fixed", "temperature.init": 0.01}, "falling": SCHEDULE, "plain": {}}


def treated(vary: Any = ("plain", "cold", "falling"), paths: Any = None, **others: Any) -> dict[str, Any]:
    """A sweep over caption information and a treatment called `path`."""
    plain = document()
    return {
        **plain,
        "treatments": {"path": PATHS if paths is None else paths},
        "vary": {**plain["vary"], "path": list(vary)},
        **others,
    }


def plan_of(sweep: LoadedSweep) -> Plan:
    return make_plan(sweep, lambda data: "f" * 64)


def test_its_levels_change_what_they_list_and_nothing_else(tmp_path: Path) -> None:
    spec = loaded(tmp_path, treated()).spec
    found = {
        arm["path"]: resolve_arm_config(spec, arm) for arm in list_arms(spec) if arm["data.captions.attributes"] == 5
    }

    assert found["plain"] == spec.base
    assert (found["cold"].temperature.mode, found["cold"].temperature.init) == ("fixed", 0.01)
    assert (found["falling"].temperature.final, found["falling"].train) == (0.02, spec.base.train)


def test_trials_are_those_of_a_file_that_says_the_same_by_single_values(tmp_path: Path) -> None:
    named = plan_of(loaded(tmp_path, treated(vary=["plain"])))
    single = plan_of(loaded(tmp_path, document()))

    assert [trial.id for trial in named.trials] == [trial.id for trial in single.trials]
    assert named.trials[0].label == "attributes=0 path=plain seed=0"
    assert hash_design(named) != hash_design(single)


def test_what_a_level_changes_belongs_to_the_design(tmp_path: Path) -> None:
    warmer = {**PATHS, "cold": {"temperature.mode": "fixed", "temperature.init": 0.02}}
    one, other = (plan_of(loaded(tmp_path, treated(paths=paths))) for paths in (PATHS, warmer))

    assert hash_design(one) != hash_design(other)


def test_hypotheses_compare_its_levels(tmp_path: Path) -> None:
    contrast = {**document()["hypotheses"][1], "factor": "path", "between": ["plain", "cold"]}
    spec = loaded(tmp_path, treated(hypotheses=[contrast])).spec

    assert spec.hypotheses[0].id == "ends"
    (line,) = complaints(tmp_path, treated(hypotheses=[{**contrast, "between": ["plain", "colder"]}]))
    assert "expected a level of path: ['plain', 'cold', 'falling']" in line


def test_a_scale_takes_some_of_its_levels(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, treated(scales={"quick": {"vary.path": ["cold"]}}), "quick")

    assert [trial.factors["path"] for trial in plan_of(sweep).trials] == ["cold", "cold"]


def test_a_value_is_placed_where_the_level_sets_it(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, treated())
    arm = {"data.captions.attributes": 0, "path": "cold"}

    assert locate_trial_value_in_file(sweep.spec, arm, "temperature.init") == (
        "treatments",
        "path",
        "cold",
        "temperature.init",
    )
    assert "treatments.path.cold.temperature.init: no" in str(build_located_error(sweep, arm, "temperature.init", "no"))
    assert sweep.locate_problem(Problem(("treatments", "path"), "no")).endswith("treatments.path: no")


WRONG = [
    (
        treated(vary=["plain", "cald"]),
        "vary.path[1]: found 'cald'; did you mean cold? Expected one of cold, falling",
    ),
    (treated(paths={**PATHS, "cold": {"temperature.int": 1}}), "treatments.path.cold.temperature.int: no such value"),
    (treated(paths={**PATHS, "cold": {"temperature.init": 0}}), "treatments.path.cold.temperature.init: found 0"),
    (treated(paths={**PATHS, "cold": {"temperature.mode": "schedule"}}), "without final"),
    (treated(paths={**PATHS, "cold": {"data.captions.attributes": 1}}), "is set by data.captions.attributes too"),
    (treated(paths={**PATHS, "cold": 3}), "treatments.path.cold: found 3; expected a mapping"),
    ({**treated(), "vary": document()["vary"]}, "treatments.path: nothing varies it"),
    ({**treated(), "treatments": {"a.b": {}}}, "treatments.a.b"),
]


@pytest.mark.parametrize(("content", "said"), WRONG)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    found = complaints(tmp_path, content)

    assert any(said in line for line in found), found


def test_a_setting_cannot_change_it_from_outside(tmp_path: Path) -> None:
    assert "treatments cannot be set" in complaints(tmp_path, treated(), None, ["treatments.path.cold=1"])[0]


def with_scale(changes: dict[str, Any]) -> dict[str, Any]:
    """A sweep whose scale `long` says anew what the levels do, `cold` by other changes."""
    levels = {name: dict(values) for name, values in PATHS.items()} | {"cold": changes}
    return {**treated(), "scales": {"long": {"treatments.path": levels}}}


def test_a_scale_may_change_what_its_levels_do(tmp_path: Path) -> None:
    content = with_scale({**PATHS["cold"], "train.samples": 9_000})

    trials = plan_of(loaded(tmp_path, content, "long")).trials

    assert {trial.config.train.samples for trial in trials if "path=cold" in trial.label} == {9_000}


def test_a_scale_s_wrong_level_is_named_where_it_is_written(tmp_path: Path) -> None:
    found = complaints(tmp_path, with_scale({"train.sample": 1}), "long")

    assert any("scales.long.treatments.path.cold.train.sample" in line for line in found), found


def test_levels_that_are_one_training_are_refused(tmp_path: Path) -> None:
    same = {**PATHS, "cold": {"temperature.mode": "learned"}}
    with pytest.raises(InputError, match=r"vary\.path\[1\]: attributes=0 path=cold seed=0 is the same training as"):
        plan_of(loaded(tmp_path, treated(paths=same)))
