"""Recipes as replicates: drawn once from declared ranges, the same in every arm, refused where none can be trained."""

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from command_line import gapctl
from gapctl.config.load import LoadedSweep
from gapctl.config.recipes import draw_value, list_recipes
from gapctl.config.sweep import Domain
from gapctl.plan.plan import Plan, hash_design, make_plan
from sweep_texts import complaints, document, loaded

SPACE: dict[str, Any] = {"train.lr": {"log": [3.0e-4, 3.0e-3]}, "train.batch_size": {"choice": [64, 128]}}


def over(space: dict[str, Any] = SPACE, draws: int = 5, **others: Any) -> dict[str, Any]:
    """The small sweep with recipes of this space as its replicates."""
    return {**document(), "replicates": {"over": "recipes", "draws": draws, "space": space}, "scales": {}, **others}


def planned(sweep: LoadedSweep) -> Plan:
    return make_plan(sweep, lambda data: "fingerprint")


def test_every_arm_is_trained_by_the_same_recipes_which_only_their_declaration_decides(tmp_path: Path) -> None:
    plan, again = planned(loaded(tmp_path, over())), planned(loaded(tmp_path, over()))
    recipes = [(trial.config.train.lr, trial.config.train.batch_size, trial.seed) for trial in plan.trials]

    assert [trial.id for trial in plan.trials] == [trial.id for trial in again.trials]
    assert recipes[0::2] == recipes[1::2]
    assert len({rate for rate, _, _ in recipes}) == 5
    assert [trial.label for trial in plan.trials[:3]] == [
        "attributes=0 recipe=0",
        "attributes=5 recipe=0",
        "attributes=0 recipe=1",
    ]


def test_more_draws_another_path_and_other_hypotheses_leave_the_recipes_as_they_are(tmp_path: Path) -> None:
    first = list_recipes(loaded(tmp_path, over()).spec)
    wider = over({**SPACE, "train.weight_decay": {"uniform": [0.0, 0.2]}}, draws=9, name="other", hypotheses=[])

    others = list_recipes(loaded(tmp_path, wider).spec)

    assert [recipe.values for recipe in first] == [
        {path: recipe.values[path] for path in SPACE} for recipe in others[:5]
    ]


def test_a_recipe_is_the_training_that_a_file_of_its_values_and_its_seed_asks_for(tmp_path: Path) -> None:
    plan = planned(loaded(tmp_path, over(first_seed=7)))
    recipe, trial = list_recipes(plan.sweep.spec)[2], plan.trials[4]
    plain = document()
    plain["base"]["train"] |= {path.removeprefix("train."): value for path, value in recipe.values.items()}

    alone = planned(loaded(tmp_path, {**plain, "seeds": 1, "first_seed": 9, "scales": {}}))

    assert (recipe.number, trial.seed, trial.recipe) == (9, 9, recipe.values)
    assert alone.trials[0].id == trial.id


def test_values_are_drawn_evenly_by_factors_or_from_a_list() -> None:
    log, uniform, choice = Domain(log=(1e-4, 1e-2)), Domain(uniform=(2.0, 4.0)), Domain(choice=[32, 64, "auto"])
    drawn = [[draw_value("a", domain, number) for number in range(2_000)] for domain in (log, uniform, choice)]
    shares = [[math.log10(float(value)) / 2 + 2 for value in drawn[0]], [float(value) / 2 - 1 for value in drawn[1]]]

    for share in shares:
        assert stats.kstest(share, "uniform").pvalue > 0.001
    assert min(Counter(drawn[2]).values()) > 580
    assert {f"{value:.3g}" for value in drawn[0][:50]} == {f"{value:g}" for value in drawn[0][:50]}


def test_two_paths_of_one_range_are_drawn_apart() -> None:
    domain = Domain(uniform=(0.0, 1.0))
    one, other = (
        [draw_value(path, domain, number) for number in range(2_000)] for path in ("train.lr", "train.warmup")
    )

    assert abs(stats.pearsonr(one, other).statistic) < 0.08


def test_a_setting_of_whole_numbers_gets_whole_numbers(tmp_path: Path) -> None:
    spec = loaded(tmp_path, over({"train.samples": {"log": [512, 5_120]}})).spec
    drawn = [recipe.values["train.samples"] for recipe in list_recipes(spec)]

    assert all(type(samples) is int and 512 <= samples <= 5_120 for samples in drawn)


def test_ranges_are_part_of_the_design_and_their_number_is_declared_beside_it(tmp_path: Path) -> None:
    designs = [
        hash_design(planned(loaded(tmp_path, content)))
        for content in (over(), over(draws=9), over({**SPACE, "train.lr": {"log": [1.0e-4, 3.0e-3]}}))
    ]

    assert designs[0] == designs[1] != designs[2]


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (over(seeds=3), "seeds: found beside replicates, whose recipes are the replicates"),
        (over({"train.rate": {"log": [1, 2]}}), "replicates.space.train.rate: no such value in base"),
        (
            over({"data.captions.attributes": {"choice": [1, 2]}}),
            "space.data.captions.attributes: data.captions.attributes is set by vary and by replicates.space",
        ),
        (over({"train.batch_size": {"choice": [64, 100_000]}}, draws=12), "recipe 0 (train.batch_size=100000): "),
        (over({"train.lr": {"log": [1, 2], "uniform": [1, 2]}}), "found log and uniform; expected one of log"),
        (over(draws=1), "replicates.draws: found 1; expected at least 2"),
        (
            over(treatments={"path": {"a": {"train.lr": 0.1}, "b": {}}}, vary={"path": ["a", "b"]}, hypotheses=[]),
            "space.train.lr: train.lr is set by treatments.path and by replicates.space; expected one of them",
        ),
        (over({"train.lr": {"logg": [1, 2]}}), "lr.logg: unknown key; did you mean log? Expected one of choice, log,"),
        (over({"train.lr": {"log": [3.0e-4]}}), "replicates.space.train.lr.log[1]: missing; expected two numbers"),
        ({**document(), "replicates": 5}, "replicates: found 5; expected a mapping: write seeds: 5"),
        (
            over(hypotheses=[{**document()["hypotheses"][1], "response": "agreement/axis_seeds"}]),
            "found 'agreement/axis_seeds', which compares two seeds of one recipe",
        ),
    ],
)
def test_recipes_that_cannot_be_trained_or_paired_are_refused(
    tmp_path: Path, content: dict[str, Any], answer: str
) -> None:
    found = complaints(tmp_path, content)

    assert [line for line in found if answer in line], found


def test_a_recipe_that_no_arm_can_train_is_named_once_at_the_value_that_is_wrong(tmp_path: Path) -> None:
    space = {"train.lr": {"log": [3.0e-4, 3.0e-3]}, "train.samples": {"log": [10, 60]}}

    (line,) = complaints(tmp_path, over(space))

    assert "replicates.space.train.samples: recipe 0 (train.lr=" in line
    assert line.endswith("is smaller than batch_size (64): not one step would run")


def test_a_number_of_replicates_is_answered_with_seeds(tmp_path: Path) -> None:
    (line,) = complaints(tmp_path, document(), None, ["replicates=5"])

    assert line.endswith("no such setting; expected seeds=5, or replicates.draws=5 where the file has replicates")


def test_a_scale_may_draw_fewer_recipes(tmp_path: Path) -> None:
    content = over(scales={"quick": {"replicates.draws": 2}})

    assert len(loaded(tmp_path, content, "quick").spec.replicate_numbers) == 2


def test_the_plan_lists_the_recipes(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, over(draws=2))
    values = list_recipes(sweep.spec)[1].values
    told = gapctl("plan", str(sweep.path)).out

    assert "2 recipes, drawn from replicates.space, the same in every arm:" in told
    assert f"  recipe=1: lr={values['train.lr']}, batch_size={values['train.batch_size']}" in told
