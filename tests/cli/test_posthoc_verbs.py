"""A sweep that measures weights of another training under interventions, verb by verb."""

import json
from pathlib import Path

import pytest

from command_line import Answer, gapctl
from gapctl.ledger import Ledger
from idx_files import write_digits

SWEEP = """\
name: closing
question: Does it help?
base:
  data: {{source: {digits}}}
  train: {{samples: 0, batch_size: 64}}
  evaluate: {{gallery: 64}}
  init_from: {{train.samples: 128}}
vary:
  evaluate.intervention: [none, centre]
hypotheses:
  - id: closes
    claim: It closes.
    test: contrast
    response: gap/l2m
    factor: evaluate.intervention
    between: [none, centre]
    direction: decreasing
    smallest_effect: 0.05
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("gapctl.training.evaluation.FITTING_PAIRS", 300)
    text = SWEEP.format(digits=write_digits(tmp_path / "digits"))
    (tmp_path / "sweep.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def verb(folder: Path, name: str, *more: str) -> Answer:
    ran = gapctl(name, str(folder / "sweep.yaml"), *more)
    assert ran.exit_code == 0, ran.err
    return ran


def test_a_model_is_trained_once_and_measured_twice(folder: Path) -> None:
    runs = ("--runs", str(folder / "runs"))
    planned = json.loads(verb(folder, "plan", "--json").out)
    plain, centred = (trial["id"] for trial in planned["trials"] if trial["factors"])

    assert planned["totals"]["samples"] == 128
    said = [verb(folder, "train", "--trial", trial, *runs) for trial in (plain, centred)]
    assert ["preparation samples=128 seed=0: 100%" in answer.out + answer.err for answer in said] == [True, False]
    assert "intervention=centre seed=0: measured, nothing to train" in said[1].out + said[1].err

    state = json.loads(verb(folder, "status", "--json", *runs).out)
    assert state["totals"]["done"] == 3
    judged = json.loads(verb(folder, "analyze", "--json", *runs).out)
    assert judged["verdicts"][0]["trials"] == 2
    assert judged["verdicts"][0]["estimate"] < -0.05
    result = Ledger(runs[1]).result(centred)
    assert result is not None
    assert result.samples_seen == 0
    found = json.loads(gapctl("measure", "--trial", centred, *runs, "--json").out)["metrics"]
    assert {key: found[key] for key in result.metrics} == result.metrics


def test_weights_that_are_to_be_measured_have_to_be_trained_by_something(folder: Path) -> None:
    file = folder / "sweep.yaml"
    file.write_text(file.read_text().replace("train.samples: 128", "evaluate.every: 64"), encoding="utf-8")

    ran = gapctl("plan", str(file))

    assert ran.exit_code == 2
    assert "base.init_from: train.samples: found 0 without init_from; expected at least a batch" in ran.err
