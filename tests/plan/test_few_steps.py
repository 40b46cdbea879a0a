"""A plan says how many steps its trainings take, and warns of those that may learn nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import gapctl
from gapctl.config.load import load_sweep
from gapctl.plan.plan import make_plan
from gapctl.plan.power import list_few_step_warnings


def sweep_file(folder: Path, vary: dict[str, list[Any]] | None = None, **train: Any) -> Path:
    document = {
        "name": "short",
        "question": "Does it?",
        "base": {"train": {"samples": 25_600, "batch_size": 128, **train}},
        "vary": vary or {"data.captions.attributes": [0, 5]},
    }
    path = folder / "short.yaml"
    path.write_text(json.dumps(document))
    return path


def warnings(path: Path) -> list[str]:
    return list_few_step_warnings(make_plan(load_sweep(path), lambda data: "fingerprint"))


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({}, []),
        ({"samples": 12_800}, []),
        ({"samples": 12_799}, ["99 in each training, fewer than 100"]),
        ({"samples": 5_120}, ["40 in each training, fewer than 100"]),
        ({"batch_size": 1_024}, ["25 in each training, fewer than 100"]),
        ({"warmup": 0.5}, []),
        ({"warmup": 0.6}, ["200 in each training, fewer than twice the 120 of the warm-up"]),
    ],
)
def test_fewer_than_a_hundred_or_than_twice_the_warm_up_are_few(
    tmp_path: Path, train: dict[str, Any], said: list[str]
) -> None:
    found = warnings(sweep_file(tmp_path, **train))

    assert len(found) == len(said)
    assert all(words in line for words, line in zip(said, found, strict=True))


def test_only_the_arms_that_are_short_are_named(tmp_path: Path) -> None:
    (line,) = warnings(sweep_file(tmp_path, {"train.batch_size": [128, 512, 64]}))

    assert "50 in 1 of 3 trainings (batch_size=512 seed=0)" in line


def test_one_step_stands_for_models_before_training_beside_longer_ones_only(tmp_path: Path) -> None:
    beside = warnings(sweep_file(tmp_path, {"train.samples": [128, 25_600]}))
    alone = warnings(sweep_file(tmp_path, samples=128))

    assert beside == []
    assert "few steps: 1 in each training" in alone[0]


def test_plan_shows_steps_and_warns_on_a_terminal_and_in_json(tmp_path: Path) -> None:
    path = str(sweep_file(tmp_path, samples=5_120))
    told, document = gapctl("plan", path), json.loads(gapctl("plan", path, "--json").out)

    assert "steps" in told.out.splitlines()[1].split()
    assert "few steps: 40 in each training" in told.out
    assert [trial["steps"] for trial in document["trials"]] == [40, 40]
    assert "40 in each training" in document["totals"]["few_steps"][0]
