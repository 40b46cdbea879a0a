"""A plan puts smallest effects in words of the design, warns of those out of reach, and notes what is measured when."""

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import gapctl
from gapctl.config.load import load_sweep
from gapctl.config.sweep import SweepFile
from gapctl.plan.plan import Plan, make_plan
from gapctl.plan.power import describe_smallest_effects, list_measurement_notes, list_smallest_effect_warnings

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


def threshold(direction: str, value: float) -> dict[str, Any]:
    return {"test": "threshold", "direction": direction, "value": value}


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
        (threshold("decreasing", 0.3), "0.02 below 0.3"),
        ({"test": "correlation", "against": "gap/l2m", "direction": "either"}, "0.02 of Kendall's tau with gap/l2m"),
    ],
)
def test_a_smallest_effect_is_put_in_words_of_the_design(tmp_path: Path, stated: dict[str, Any], words: str) -> None:
    given = {key: value for key, value in stated.items() if value is not None}

    assert describe_smallest_effects(spec(tmp_path, smallest_effect=0.02, **given)) == [f"h: smallest effect {words}"]


@pytest.mark.parametrize(
    ("stated", "response", "most", "why"),
    [
        (CONTRAST, "gap/rmg", 1, "gap/rmg lies between 0 and 1, so that its difference lies between -1 and 1"),
        (CONTRAST, "gap/l2m", 2, "so that its difference lies between -2 and 2"),
        (CONTRAST, "gap/rmg_excess", 2, "lies between -1 and 1, so that its difference lies between -2 and 2"),
        (CONTRAST, "gap/l2m_excess", 4, "lies between -2 and 2, so that its difference lies between -4 and 4"),
        (CONTRAST, "quality/object_accuracy", 100, "lies between 0 and 100, so that"),
        (CONTRAST, "bias/object_same_image", 2, "lies between -1 and 1, so that"),
        (CONTRAST, "bias/moad_image", 8, "lies between -4 and 4, so that"),
        (MEDIATION, "gap/rmg", 2, "so that the difference of two of its differences lies between -2 and 2"),
        # With responses 0, 0, 1 at 0.01, 0.1, 0.2 the slope is 5.351 by hand.
        (TREND, "gap/rmg", 5.351, "so that its slope from mismatched=0.01 to 0.2 lies between -5.351 and 5.351"),
        (threshold("increasing", 0.9), "gap/rmg", 0.1, "so that its mean less 0.9 lies between -0.9 and 0.1"),
        (threshold("decreasing", 0.9), "gap/rmg", 0.9, "so that its mean less 0.9 lies between -0.9 and 0.1"),
        (threshold("either", 0.3), "gap/rmg", 0.7, "so that its mean less 0.3 lies between -0.3 and 0.7"),
        (threshold("decreasing", 2), "entropy/i2t_nats", 2, "is at least 0, so that its mean less 2 is at least -2"),
    ],
)
def test_an_effect_that_the_range_of_the_response_does_not_hold_cannot_be_supported(
    tmp_path: Path, stated: dict[str, Any], response: str, most: float, why: str
) -> None:
    inside, outside = (
        list_smallest_effect_warnings(spec(tmp_path, **stated, response=response, smallest_effect=size))
        for size in (0.99 * most, 1.01 * most)
    )

    assert inside == []
    (line,) = outside
    smallest = f"the smallest effect of {1.01 * most:.4g}"
    assert line.startswith(f"h: no result lies beyond {smallest}, so nothing can support it: {response} ")
    assert why in line


@pytest.mark.parametrize(("value", "size"), [(0.9, 0.1), (0.7, 0.3), (0.4, 0.6)], ids=lambda number: f"{number}")
def test_a_smallest_effect_that_only_the_end_of_the_range_reaches_cannot_be_supported(
    tmp_path: Path, value: float, size: float
) -> None:
    """No interval lies wholly beyond the end, whichever way the difference was rounded."""
    (line,) = list_smallest_effect_warnings(spec(tmp_path, **threshold("increasing", value), smallest_effect=size))

    assert "nothing can support it" in line


@pytest.mark.parametrize(("direction", "value"), [("increasing", -0.3), ("decreasing", 1.3), ("either", 1.3)])
def test_a_value_that_the_response_always_lies_beyond_cannot_be_refuted(
    tmp_path: Path, direction: str, value: float
) -> None:
    (line,) = list_smallest_effect_warnings(spec(tmp_path, **threshold(direction, value), smallest_effect=0.2))

    assert line.startswith("h: no result lies short of the smallest effect of 0.2, so nothing can refute it: gap/rmg ")


def test_an_equivalence_within_more_than_the_response_can_change_cannot_be_refuted(tmp_path: Path) -> None:
    equivalence = {"test": "equivalence", "factor": ATTRIBUTES, "between": [0, 5]}
    (line,) = list_smallest_effect_warnings(spec(tmp_path, **equivalence, smallest_effect=1))

    assert line.startswith("h: no result lies beyond the smallest effect of 1, so nothing can refute it: gap/rmg lies")
    assert list_smallest_effect_warnings(spec(tmp_path, **equivalence, smallest_effect=0.99)) == []


@pytest.mark.parametrize("response", ["entropy/i2t_nats", "train/loss", "gap/centroid_share"])
def test_responses_without_bounds_are_not_warned_of(tmp_path: Path, response: str) -> None:
    assert list_smallest_effect_warnings(spec(tmp_path, **CONTRAST, response=response, smallest_effect=1000)) == []


def test_metrics_of_evaluation_sets_have_the_range_of_the_metric(tmp_path: Path) -> None:
    found = spec(tmp_path, **CONTRAST, smallest_effect=101)
    on_set = found.hypotheses[0].model_copy(update={"response": "coco/quality/accuracy"})
    (line,) = list_smallest_effect_warnings(found.model_copy(update={"hypotheses": [on_set]}))

    assert "nothing can support it: coco/quality/accuracy lies between 0 and 100" in line


def test_a_fixed_temperature_may_change_by_more_than_a_cosine(tmp_path: Path) -> None:
    document = json.loads(write_file(tmp_path, temperature={"mode": "fixed"}).read_text())
    document["vary"] = {"temperature.init": [1, 10]}
    stated = {**CONTRAST, "factor": "temperature.init", "between": [1, 10], "response": "temperature/tau"}
    document["hypotheses"] = [{"id": "h", "claim": "So it is.", **stated, "smallest_effect": 3}]
    (tmp_path / "small.yaml").write_text(json.dumps(document))

    assert list_smallest_effect_warnings(load_sweep(tmp_path / "small.yaml").spec) == []


def test_trainings_that_measure_nothing_on_their_way_are_noted(tmp_path: Path) -> None:
    (line,) = list_measurement_notes(make(tmp_path, {**CONTRAST, "smallest_effect": 0.1}, evaluate={"every": 25_601}))

    assert line.startswith("evaluate.every is 25,601, in each training more than its train.samples: nothing")
    assert (
        list_measurement_notes(make(tmp_path, {**CONTRAST, "smallest_effect": 0.1}, evaluate={"every": 25_600})) == []
    )


@pytest.mark.parametrize(("last", "noted"), [(50_000, True), (40_000, False)])
def test_each_training_is_compared_with_its_own_samples(tmp_path: Path, last: int, noted: bool) -> None:
    """Trainings of 25,600 samples measured every 30,000, and of 40,000 measured every `last`."""
    document = json.loads(write_file(tmp_path).read_text())
    arms = {
        "short": {"train.samples": 25_600, "evaluate.every": 30_000},
        "long": {"train.samples": 40_000, "evaluate.every": last},
    }
    document |= {"vary": {"length": [*arms]}, "treatments": {"length": arms}}
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(document))
    notes = list_measurement_notes(make_plan(load_sweep(file), lambda data: "fingerprint"))

    assert [line.partition(":")[0] for line in notes] == (
        ["evaluate.every is 30,000 to 50,000, in each training more than its train.samples"] if noted else []
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
