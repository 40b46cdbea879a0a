"""The grid is the full factorial in the order of the file, and each arm changes its factors and nothing else."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gapctl.config.arms import list_arms, locate_trial_value_in_file, resolve_config
from gapctl.config.base import list_leaf_paths, replace_at_path
from gapctl.config.trial import TrialConfig
from sweep_texts import complaints, document, edited, loaded

LEARNING_RATES = "data.captions.attributes: [0, 5]\n  train.lr: [0.1, 0.2]"
FACTORS = {
    "train.lr": st.floats(1e-6, 1.0),
    "data.captions.attributes": st.integers(0, 5),
    "data.main_factor": st.sampled_from(["digit", "colour", "scale"]),
    "temperature.init": st.floats(0.01, 10.0),
}
PLAIN = list_leaf_paths(TrialConfig().model_dump())


def value_at(config: TrialConfig, path: str) -> object:
    found: object = config
    for step in path.split("."):
        found = getattr(found, step)
    return found


def test_the_last_factor_varies_fastest(tmp_path: Path) -> None:
    grid = "data.captions.attributes: [5, 0]\n  train.lr: [0.2, 0.1, 0.3]"
    spec = loaded(tmp_path, edited(("data.captions.attributes: [0, 5]", grid))).spec

    assert [tuple(arm.values()) for arm in list_arms(spec)] == list(product([5, 0], [0.2, 0.1, 0.3]))
    assert [list(arm) for arm in list_arms(spec)] == [["data.captions.attributes", "train.lr"]] * 6


def test_the_order_of_factors_in_the_file_is_the_order_of_the_loops(tmp_path: Path) -> None:
    grid = "train.lr: [0.2, 0.1]\n  data.captions.attributes: [0, 5]"
    spec = loaded(tmp_path, edited(("data.captions.attributes: [0, 5]", grid))).spec

    assert [tuple(arm.values()) for arm in list_arms(spec)] == list(product([0.2, 0.1], [0, 5]))


@given(factors=st.fixed_dictionaries({}, optional=FACTORS))
def test_an_arm_changes_its_factors_and_nothing_else(factors: dict[str, float | int | str]) -> None:
    base = TrialConfig()
    config = resolve_config(base, factors)

    assert {path: value_at(config, path) for path in factors} == factors
    assert all(value_at(config, path) == value_at(base, path) for path in PLAIN if path not in factors)


@given(factors=st.fixed_dictionaries({}, optional=FACTORS))
def test_resolving_twice_changes_nothing_more(factors: dict[str, float | int | str]) -> None:
    once = resolve_config(TrialConfig(), factors)

    assert resolve_config(once, factors) == once


@pytest.mark.parametrize("factors", [{"train.lr": "fast"}, {"train.rl": 0.1}, {"train": 3}, {"train.lr.x": 1}])
def test_a_level_or_path_that_does_not_fit_is_refused(factors: dict[str, float | int | str]) -> None:
    with pytest.raises(ValidationError):
        resolve_config(TrialConfig(), factors)


def test_placing_a_value_leaves_the_original_alone() -> None:
    original = {"a": {"b": 1}, "c": 2}

    assert replace_at_path(original, ["a", "d"], 3) == {"a": {"b": 1, "d": 3}, "c": 2}
    assert replace_at_path(original, ["c", "d"], 3) == {"a": {"b": 1}, "c": {"d": 3}}
    assert original == {"a": {"b": 1}, "c": 2}


def test_a_value_comes_from_its_level_or_from_base(tmp_path: Path) -> None:
    spec = loaded(tmp_path, edited(("data.captions.attributes: [0, 5]", LEARNING_RATES))).spec

    assert locate_trial_value_in_file(spec, {"train.lr": 0.2}, "train.lr") == ("vary", "train.lr", 1)
    assert locate_trial_value_in_file(spec, {"train.lr": 0.2}, "train.samples") == ("base", "train", "samples")


def test_a_level_that_contradicts_base_is_named_once_and_not_another_factor(tmp_path: Path) -> None:
    factors = {"data.captions.fixed": ["none", "colour"], "data.captions.synonyms": [1, 2]}
    plain = {**document(), "vary": factors, "hypotheses": [], "scales": {}}
    two = {**plain, "base": {**plain["base"], "data": {"captions": {"attributes": 2}}}}
    listed = "expected 1, as many as captions.fixed lists (colour)"

    (written_one,), (left_out,) = complaints(tmp_path, two), complaints(tmp_path, plain)

    at = "vary.data.captions.fixed[1]: contradicts base.data.captions.attributes"
    assert written_one.endswith(f"{at}: found 2; {listed}")
    assert left_out.endswith(f"{at} (left out, so its default): found 5; {listed}")


def test_of_two_factors_of_one_section_the_one_that_is_wrong_is_named(tmp_path: Path) -> None:
    factors = {"train.batch_size": [64, 1024], "train.lr": [0.001, 0.01]}

    (line,) = complaints(tmp_path, {**document(), "vary": factors, "hypotheses": [], "scales": {}})

    assert "vary.train.batch_size[1]: samples (512) is smaller than batch_size (1024)" in line


def with_lists(levels: list[object], between: list[str]) -> dict[str, object]:
    """The small sweep with lists of fixed factors as levels, and a contrast of two of them."""
    contrast = {**document()["hypotheses"][1], "factor": "data.captions.fixed", "between": between}
    base = {**document()["base"], "data": {"captions": {"attributes": 2}}}
    return {**document(), "base": base, "vary": {"data.captions.fixed": levels}, "hypotheses": [contrast]}


def test_a_list_as_a_level_is_answered_with_the_text_to_write(tmp_path: Path) -> None:
    found = complaints(tmp_path, with_lists(["none", ["colour", "scale"]], ["none", "colour, scale"]))

    assert found[0].endswith('expected a number, text, true or false: write "colour, scale"')


def test_a_level_whose_names_stand_in_another_order_is_answered_with_the_one_that_varies(tmp_path: Path) -> None:
    (line,) = complaints(tmp_path, with_lists(["none", "colour, scale"], ["none", "scale, colour"]))

    assert "hypotheses[0].between[1]: found 'scale, colour'; expected a level of data.captions.fixed" in line
    assert line.endswith("; did you mean 'colour, scale', as vary writes it?")
