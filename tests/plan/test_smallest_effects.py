"""A plan puts smallest effects in words of the design, warns of those out of reach, and notes what is measured when."""

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import gapctl
from gapctl.config.load import load_sweep
from gapctl.config.sweep import SweepFile
from gapctl.plan.design_warnings import describe_smallest_effects, list_measurement_notes, list_smallest_effect_warnings
from gapctl.plan.plan import Plan, make_plan

ATTRIBUTES = "data.captions.attributes"
MISMATCHED = "train.mismatched"
TREND = {"test": "trend", "factor": MISMATCHED, "direction": "increasing"}
CONTRAST = {"test": "contrast", "factor": ATTRIBUTES, "between": [0, 5], "direction": "either"}
MEDIATION = {
    "test": "mediation",
    "factor": ATTRIBUTES,
    "between": [0, 5],
    "mediator": MISMATCHED,
    "free": 0.2,
    "fixed": 0.01,
    "direction": "increasing",
}


def write_file(folder: Path, *hypotheses: dict[str, Any], **base: Any) -> Path:
    document = {
        "name": "small",
        "question": "Does it?",
        "base": {"train": {"samples": 25_600, "batch_size": 128}, **base},
        "vary": {ATTRIBUTES: [0, 5], MISMATCHED: [0.2, 0.01, 0.1]},
        "seeds": 3,
        "hypotheses": [{"id": "h", "claim": "So it is.", "response": "gap/rmg", **stated} for stated in hypotheses],
    }
    path = folder / "small.yaml"
    path.write_text(json.dumps(document))
    return path


def make(folder: Path, *hypotheses: dict[str, Any], **base: Any) -> Plan:
    return make_plan(load_sweep(write_file(folder, *hypotheses, **base)), lambda data: "fingerprint")


def spec(folder: Path, **stated: Any) -> SweepFile:
    return make(folder, stated).sweep.spec


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        (TREND, "0.02 per unit of mismatched = 0.0038 from 0.01 to 0.2"),
        (CONTRAST, "0.02 from attributes=0 to 5"),
        ({**CONTRAST, "test": "equivalence", "direction": None}, "less than 0.02 either way from attributes=0 to 5"),
        (MEDIATION, "0.02 of the step from attributes=0 to 5, at mismatched=0.2 less at 0.01"),
        ({"test": "threshold", "value": 0.3, "direction": "decreasing"}, "0.02 below 0.3"),
        ({"test": "correlation", "against": "gap/l2m", "direction": "either"}, "0.02 of Kendall's tau with gap/l2m"),
    ],
)
def test_a_smallest_effect_is_put_in_words_of_the_design(tmp_path: Path, stated: dict[str, Any], words: str) -> None:
    given = {key: value for key, value in stated.items() if value is not None}

    assert describe_smallest_effects(spec(tmp_path, smallest_effect=0.02, **given)) == [f"h: smallest effect {words}"]


@pytest.mark.parametrize(
    ("stated", "response", "most"),
    [
        (CONTRAST, "gap/rmg", 1),
        (CONTRAST, "quality/object_accuracy", 100),
        (CONTRAST, "bias/moad_image", 2),
        (MEDIATION, "gap/rmg", 2),
    ],
)
def test_what_a_bounded_response_cannot_reach_is_warned_of(
    tmp_path: Path, stated: dict[str, Any], response: str, most: float
) -> None:
    inside, outside = (
        list_smallest_effect_warnings(spec(tmp_path, **stated, response=response, smallest_effect=size))
        for size in (0.99 * most, 1.01 * most)
    )

    assert inside == []
    assert len(outside) == 1
    assert outside[0].startswith(f"h: no result lies beyond the smallest effect of {1.01 * most:.4g}: {response} is a ")


def test_no_responses_between_0_and_1_have_a_slope_beyond_the_limit_that_is_named(tmp_path: Path) -> None:
    """With responses 0, 0, 1 at 0.01, 0.1, 0.2 the slope is that limit: 5.35 by hand."""
    (line,) = list_smallest_effect_warnings(spec(tmp_path, **TREND, smallest_effect=5.36))

    assert line.endswith("gap/rmg is a share and changes by at most 1, with a slope of at most 5.35 from 0.01 to 0.2")
    assert list_smallest_effect_warnings(spec(tmp_path, **TREND, smallest_effect=5.34)) == []


def test_responses_without_bounds_are_not_warned_of(tmp_path: Path) -> None:
    assert (
        list_smallest_effect_warnings(spec(tmp_path, **CONTRAST, response="entropy/i2t_nats", smallest_effect=1000))
        == []
    )


def test_trainings_that_measure_nothing_on_their_way_are_noted(tmp_path: Path) -> None:
    (line,) = list_measurement_notes(make(tmp_path, {**CONTRAST, "smallest_effect": 0.1}, evaluate={"every": 25_601}))

    assert line.startswith("evaluate.every is 25,601, more than train.samples in each training")
    assert (
        list_measurement_notes(make(tmp_path, {**CONTRAST, "smallest_effect": 0.1}, evaluate={"every": 25_600})) == []
    )


def test_a_hypothesis_about_the_training_loss_is_noted(tmp_path: Path) -> None:
    (line,) = list_measurement_notes(make(tmp_path, {**CONTRAST, "response": "train/loss", "smallest_effect": 0.1}))

    assert line.startswith("h: train/loss is of the pairs trained on, not of held-out ones")


def test_plan_prints_all_of_it_and_keeps_the_warnings_in_its_json(tmp_path: Path) -> None:
    file = str(write_file(tmp_path, {**CONTRAST, "smallest_effect": 1.5}, evaluate={"every": 51_200}))
    people, totals = gapctl("plan", file), json.loads(gapctl("plan", file, "--json").out)["totals"]

    assert people.exit_code == 0
    assert "1 hypothesis; hypotheses sha256" in people.out
    assert ", scale base\n" in people.out
    assert "h: smallest effect 1.5 from attributes=0 to 5\n" in people.out
    assert [line for line in (*totals["notes"], *totals["unreachable"]) if line not in people.out] == []
    assert (len(totals["notes"]), len(totals["unreachable"])) == (1, 1)
