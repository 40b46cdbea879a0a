"""Equal meaning has one hash, and other meaning another."""

import json
import math
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapctl.config.base import format_canonical_json, hash_value, replace_at_path, select_hashed_fields
from gapctl.config.trial import Temperature, Train, TrialConfig
from sweep_texts import SHIPPED, TINY, document, edited, loaded

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MAPPINGS = st.dictionaries(st.text(), VALUES, max_size=5)


def shuffled(value: Any, random: Random) -> Any:
    """The same value with the keys of its mappings in another order."""
    if isinstance(value, list):
        return [shuffled(item, random) for item in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    random.shuffle(keys)
    return {key: shuffled(value[key], random) for key in keys}


def retyped(value: Any) -> Any:
    """The same value with every whole number as the other kind of number."""
    if isinstance(value, list):
        return [retyped(item) for item in value]
    if isinstance(value, dict):
        return {key: retyped(item) for key, item in value.items()}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return float(value) if abs(value) < 2**53 else value


@given(value=MAPPINGS, random=st.randoms(use_true_random=False))
def test_the_order_of_keys_is_not_part_of_a_hash(value: dict[str, Any], random: Random) -> None:
    assert format_canonical_json(shuffled(value, random)) == format_canonical_json(value)


@given(value=MAPPINGS)
def test_a_whole_number_has_one_text_whether_it_was_written_with_a_point_or_not(value: dict[str, Any]) -> None:
    assert format_canonical_json(retyped(value)) == format_canonical_json(value)


@given(value=MAPPINGS)
def test_a_canonical_text_says_all_of_its_value_and_is_its_own_canonical_text(value: dict[str, Any]) -> None:
    text = format_canonical_json(value)

    assert json.loads(text) == value
    assert format_canonical_json(json.loads(text)) == text
    assert text.isascii()


@given(one=MAPPINGS, other=MAPPINGS)
def test_only_equal_values_share_a_text(one: dict[str, Any], other: dict[str, Any]) -> None:
    if format_canonical_json(one) == format_canonical_json(other):
        assert one == other


@pytest.mark.parametrize(("one", "other"), [(True, 1), (False, 0), ("1", 1), (None, 0), ([], None), ("", None)])
def test_values_that_python_or_yaml_may_confuse_have_different_hashes(one: Any, other: Any) -> None:
    assert hash_value({"value": one}) != hash_value({"value": other})


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), (0.0, -0.0), (0, -0.0), (1e22, 10**22), (1e-3, 0.001)])
def test_equal_numbers_share_a_hash(one: float, other: float) -> None:
    assert hash_value({"value": one}) == hash_value({"value": other})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_lacks_has_no_hash(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        format_canonical_json({"value": value})


def test_a_text_is_the_same_on_every_machine_and_in_every_version() -> None:
    text = format_canonical_json({"b": [1.0, -0.0, 0.1, 1e-07, True, None], "a": "é"})

    assert text == r'{"a":"\u00e9","b":[1,0,0.1,1e-07,true,null]}'
    assert hash_value({"b": 1, "a": 2}) == "d3626ac30a87e6f7a6428233b3c68299976865fa5508e4267c5415c76af7a772"


def test_a_model_and_its_values_share_a_hash() -> None:
    config = TrialConfig(train=Train(lr=1), temperature=Temperature(init=1))

    assert hash_value(config) == hash_value(select_hashed_fields(config))
    assert hash_value(config) == hash_value(TrialConfig(train=Train(lr=1.0), temperature=Temperature(init=1.0)))


SAME = {
    "a comment": TINY.replace("base:", "base: # one training"),
    "a default written out": edited(("  train:", "  loss: {kind: clip}\n  train:")),
    "blocks for braces": edited(("{samples: 512, batch_size: 64}", "\n    batch_size: 64\n    samples: 512")),
    "quotes": edited(("name: tiny", 'name: "tiny"')),
    "underscores": edited(("samples: 512", "samples: 5_12")),
    "levels with a point in a contrast": edited(("between: [0, 5]", "between: [0.0, 5.0]")),
    "other scales": edited(("seeds: 1", "seeds: 2")),
    "other resources": TINY + "resources: {cpus: 2}\n",
    "another store": TINY + "tracking: {uri: sqlite:///other.db}\n",
}


@pytest.mark.parametrize("name", SAME)
def test_a_sweep_has_the_same_hashes_after(tmp_path: Path, name: str) -> None:
    before, after = loaded(tmp_path, TINY), loaded(tmp_path, SAME[name])

    assert after.spec_sha256 == before.spec_sha256
    assert after.hypotheses_sha256 == before.hypotheses_sha256


@given(random=st.randoms(use_true_random=False))
def test_a_sweep_has_the_same_hashes_whatever_the_order_of_its_keys(
    tmp_path_factory: pytest.TempPathFactory, random: Random
) -> None:
    folder = tmp_path_factory.getbasetemp()
    before, after = loaded(folder, TINY), loaded(folder, shuffled(document(), random))

    assert (after.spec_sha256, after.hypotheses_sha256) == (before.spec_sha256, before.hypotheses_sha256)


@pytest.mark.parametrize("path", ["name", "question", "base.train.lr", "base.temperature.init", "seeds"])
def test_what_a_sweep_asks_is_in_its_hash_but_not_in_that_of_its_hypotheses(tmp_path: Path, path: str) -> None:
    value: Any = {"name": "other", "question": "Why?"}.get(path, 2)
    before = loaded(tmp_path, document())
    after = loaded(tmp_path, replace_at_path(document(), path.split("."), value))

    assert after.spec_sha256 != before.spec_sha256
    assert after.hypotheses_sha256 == before.hypotheses_sha256


HYPOTHESES_CHANGED = [
    ("claim: It closes.", "claim: It opens."),
    ("test: trend", "source: a paper\n    test: trend"),
    ("direction: decreasing", "direction: increasing"),
    ("direction: decreasing\n    smallest_effect: 0.02", "direction: decreasing\n    smallest_effect: 0.021"),
    ("between: [0, 5]", "between: [5, 0]"),
    ("id: gap", "id: gap-2"),
    ("scales:", "alpha: 0.01\nscales:"),
]


@pytest.mark.parametrize(("old", "new"), HYPOTHESES_CHANGED)
def test_whatever_changes_in_a_hypothesis_changes_the_hash_of_the_hypotheses(
    tmp_path: Path, old: str, new: str
) -> None:
    assert loaded(tmp_path, edited((old, new))).hypotheses_sha256 != loaded(tmp_path, TINY).hypotheses_sha256


def test_the_scale_is_in_the_hash_where_it_changes_what_is_asked(tmp_path: Path) -> None:
    folder = tmp_path
    hashes = {loaded(folder, SHIPPED.read_text(), scale).spec_sha256 for scale in ("smoke", "laptop", "paper")}
    declared = {loaded(folder, SHIPPED.read_text(), scale).hypotheses_sha256 for scale in ("smoke", "laptop", "paper")}

    assert len(hashes) == 3
    assert len(declared) == 1


def test_a_data_set_of_image_text_pairs_has_one_hash_under_its_name_and_its_former_one() -> None:
    named = [
        TrialConfig.model_validate({"data": {"dataset": name}, "model": {"preset": "pairs-small"}})
        for name in ("image_text", "cc12m")
    ]

    assert named[0] == named[1]
    assert hash_value(named[0]) == hash_value(named[1])
