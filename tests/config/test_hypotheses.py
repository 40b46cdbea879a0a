"""The seven tests of a hypothesis in a sweep file: what each takes, and what is answered where it is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gapctl.config.hypotheses import TESTS
from sweep_schema import VALIDATOR
from sweep_texts import complaints, loaded

SIZES = ["tiny", "small", "middling", "large", "huge"]
GRID = {"data.captions.attributes": [0, 2, 5], "temperature.mode": ["learned", "fixed"], "size": SIZES}
TREATMENTS = {"size": {name: {"train.lr": 1e-4 * (place + 1)} for place, name in enumerate(SIZES)}}
COMMON = {"id": "it", "claim": "It does.", "response": "gap/rmg", "smallest_effect": 0.02}
FACTOR = {"factor": "data.captions.attributes"}
BETWEEN = {**FACTOR, "between": [5, 0]}
SOUND: dict[str, dict[str, Any]] = {
    "trend": {**FACTOR, "direction": "decreasing"},
    "contrast": {**BETWEEN, "direction": "either"},
    "equivalence": BETWEEN,
    "correlation": {"against": "gap/l2m", "given": ["temperature.mode", "train/loss"], "direction": "either"},
    "mediation": {
        **BETWEEN,
        "mediator": "temperature.mode",
        "free": "learned",
        "fixed": "fixed",
        "direction": "increasing",
    },
    "threshold": {"value": 0.1, "direction": "increasing"},
    "prediction": {"factor": "size", "predictors": ["train/loss"]},
}

DECLARED_AS_LEVEL = "0778e1382c28ab99f56fa57d3f61bf2750acdeaa8177a5de1dd35f675302d0d1"
"""The hash of the hypotheses of `document("threshold")` when its test was called `level`."""


def document(test: str, as_test: str | None = None, **changes: Any) -> dict[str, Any]:
    hypothesis = {**COMMON, "test": as_test or test, **SOUND[test], **changes}
    kept = {key: value for key, value in hypothesis.items() if value is not None}
    return {
        "name": "tiny",
        "question": "Does it?",
        "base": {},
        "treatments": TREATMENTS,
        "vary": GRID,
        "hypotheses": [kept],
    }


def test_every_test_has_its_sound_example() -> None:
    assert set(SOUND) == set(TESTS)


@pytest.mark.parametrize("test", SOUND)
def test_a_sound_hypothesis_is_read(tmp_path: Path, test: str) -> None:
    assert loaded(tmp_path, document(test)).spec.hypotheses[0].test == test


def test_a_threshold_is_read_and_hashed_alike_under_its_former_name(tmp_path: Path) -> None:
    now, before = (loaded(tmp_path, document("threshold", as_test=name)) for name in ("threshold", "level"))

    assert now.spec.hypotheses == before.spec.hypotheses
    assert now.spec_sha256 == before.spec_sha256
    assert now.hypotheses_sha256 == before.hypotheses_sha256 == DECLARED_AS_LEVEL
    VALIDATOR.validate(document("threshold", as_test="level"))


def test_a_misspelt_test_is_answered_with_present_names(tmp_path: Path) -> None:
    (answer,) = complaints(tmp_path, document("threshold", as_test="levels"))

    assert "expected trend, contrast, equivalence, correlation, mediation, threshold or prediction" in answer


@pytest.mark.parametrize("test", SOUND)
def test_a_hypothesis_may_look_at_some_trainings_only(tmp_path: Path, test: str) -> None:
    where = {} if test in ("mediation", "correlation") else {"temperature.mode": "learned"}

    assert loaded(tmp_path, document(test, where=where)).spec.hypotheses[0].where == where


@pytest.mark.parametrize("test", SOUND)
def test_the_schema_follows_it_and_finds_a_misspelt_key(test: str) -> None:
    assert VALIDATOR.is_valid(document(test))
    assert not VALIDATOR.is_valid(document(test, where={"temperature.mod": "learned"}))


def test_an_empty_where_is_no_part_of_the_hash(tmp_path: Path) -> None:
    plain, empty = (loaded(tmp_path, document("contrast", **more)) for more in ({}, {"where": {}}))
    narrowed = loaded(tmp_path, document("contrast", where={"temperature.mode": "learned"}))

    assert plain.hypotheses_sha256 == empty.hypotheses_sha256 != narrowed.hypotheses_sha256


REQUIRED = {
    "trend": ("factor", "direction"),
    "contrast": ("factor", "between", "direction"),
    "equivalence": ("factor", "between"),
    "correlation": ("against", "direction"),
    "mediation": ("factor", "between", "mediator", "free", "fixed", "direction"),
    "threshold": ("value", "direction"),
    "prediction": ("factor", "predictors"),
}


@pytest.mark.parametrize(("test", "key"), [(test, key) for test, keys in REQUIRED.items() for key in keys])
def test_what_a_test_needs_is_missed(tmp_path: Path, test: str, key: str) -> None:
    assert any(
        f"hypotheses[0].{key}: missing; expected it here" in line for line in answered(tmp_path, test, key, None)
    )


def answered(folder: Path, test: str, key: str, value: Any) -> list[str]:
    return complaints(folder, document(test, **{key: value}))


LEVELS = "expected a level of temperature.mode: ['learned', 'fixed']"
WRONG: list[tuple[str, str, Any, str, str]] = [
    ("equivalence", "smallest_effect", 0, "smallest_effect", "found 0; expected a number above 0"),
    ("equivalence", "direction", "either", "direction", "unknown key; expected one of between, claim, factor"),
    (
        "equivalence",
        "between",
        [5, 4],
        "between[1]",
        "found 4; expected a level of data.captions.attributes: [0, 2, 5]",
    ),
    ("correlation", "agianst", "gap/l2m", "agianst", "did you mean against?"),
    ("correlation", "factor", "temperature.mode", "factor", "unknown key; expected one of against, claim, direction"),
    ("correlation", "against", "gap/l2", "against", "did you mean gap/l2m?"),
    ("correlation", "against", "gap/rmg", "against", "found 'gap/rmg' again; expected another metric"),
    ("correlation", "given", ["gap/rmg"], "given[0]", "found 'gap/rmg' again; expected another metric or factor"),
    ("correlation", "given", ["temperature.mod"], "given[0]", "did you mean temperature.mode?"),
    ("correlation", "given", "gap/l2i", "given", "found 'gap/l2i'; expected a list"),
    ("correlation", "given", list(GRID), "given", "no two arms are left to correlate metrics over"),
    ("correlation", "smallest_effect", 1.0, "smallest_effect", "found 1.0; expected a number below 1"),
    ("correlation", "smallest_effect", 0, "smallest_effect", "found 0 with direction either, which nothing can refute"),
    ("mediation", "mediator", "temperature.mod", "mediator", "did you mean temperature.mode?"),
    ("mediation", "mediator", "data.captions.attributes", "mediator", "the treatment itself; expected another factor"),
    ("mediation", "free", "lerned", "free", f"found 'lerned'; {LEVELS}"),
    ("mediation", "fixed", "frozen", "fixed", f"found 'frozen'; {LEVELS}"),
    ("mediation", "fixed", "learned", "fixed", "found 'learned' again; expected another level than free's"),
    ("threshold", "value", "high", "value", "found 'high'; expected a number"),
    ("threshold", "factor", "temperature.mode", "factor", "unknown key; expected one of claim, direction, id"),
    ("threshold", "where", {"temperature.mode": "frozen"}, "where.temperature.mode", f"found 'frozen'; {LEVELS}"),
    ("contrast", "where", {"temperature.mod": "learned"}, "where.temperature.mod", "did you mean temperature.mode?"),
    ("contrast", "where", {"temperature.mode": "frozen"}, "where.temperature.mode", f"found 'frozen'; {LEVELS}"),
    ("prediction", "direction", "increasing", "direction", "Expected one of beyond, claim, factor"),
    ("prediction", "factor", "sise", "factor", "did you mean size?"),
    (
        "prediction",
        "factor",
        "data.captions.attributes",
        "factor",
        "its levels are the numbers [0, 2, 5]; expected names",
    ),
    ("prediction", "factor", "temperature.mode", "factor", "it has 2 levels; expected at least 5 to forecast each"),
    (
        "prediction",
        "beyond",
        ["gap/l2m"],
        "factor",
        "has 5 levels; expected at least 6 to forecast each from the others by 2",
    ),
    ("prediction", "beyond", ["train/loss"], "beyond[0]", "found 'train/loss' again; expected another metric"),
    ("prediction", "predictors", ["train/los"], "predictors[0]", "did you mean train/loss?"),
    ("prediction", "predictors", ["gap/rmg"], "predictors[0]", "found 'gap/rmg' again; expected another metric"),
    ("prediction", "predictors", ["temperature/bias"], "predictors[0]", "only loss.kind siglip has a bias"),
    ("prediction", "predictors", [], "predictors", "found an empty list; expected at least one entry"),
    ("prediction", "smallest_effect", 1, "smallest_effect", "found 1; expected a number below 1"),
    (
        "mediation",
        "where",
        {"temperature.mode": "fixed"},
        "where.temperature.mode",
        "already compared by this hypothesis; expected another factor",
    ),
]


@pytest.mark.parametrize(("test", "key", "value", "place", "expected"), WRONG)
def test_a_wrong_value_is_answered_at_its_place(
    tmp_path: Path, test: str, key: str, value: Any, place: str, expected: str
) -> None:
    found = answered(tmp_path, test, key, value)
    lines = yaml.safe_dump(document(test, **{key: value}), sort_keys=False).splitlines()

    assert any(f": hypotheses[0].{place}: " in line and expected in line for line in found), found
    assert all(lines[int(line.split(":")[1]) - 1].strip() for line in found)


def test_a_trend_or_contrast_whose_factor_has_one_level_is_answered(tmp_path: Path) -> None:
    for test in ("trend", "contrast", "equivalence", "mediation"):
        found = complaints(tmp_path, {**document(test), "vary": {**GRID, "data.captions.attributes": [5]}})
        assert any("5" in line and "expected" in line for line in found), test


def test_a_sweep_of_one_arm_has_nothing_to_correlate(tmp_path: Path) -> None:
    alone = {**document("correlation", given=None), "vary": {"data.captions.attributes": [5]}}

    assert any("the sweep has one arm to correlate metrics over" in line for line in complaints(tmp_path, alone))
