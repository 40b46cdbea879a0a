"""`gapctl intervene --trial` judges a finished trial on its own gallery, zero-shot questions included."""

import json
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.ledger import Ledger
from idx_files import write_digits
from sweep_texts import edited


def test_a_finished_trial_is_judged_by_retrieval_and_by_its_own_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    runs = str(tmp_path / "runs")
    base = f"base:\n  data: {{source: {write_digits(tmp_path / 'digits')}}}\n  evaluate: {{gallery: 64}}\n"
    (tmp_path / "sweep.yaml").write_text(edited(("base:\n", base)), encoding="utf-8")
    sweep = (str(tmp_path / "sweep.yaml"), "--scale", "quick")
    trial = json.loads(gapctl("plan", *sweep, "--json").out)["trials"][1]["id"]
    assert gapctl("train", *sweep, "--trial", trial, "--runs", runs).exit_code == 0

    ran = gapctl("intervene", "--trial", trial, "--runs", runs, "--json", "--lambdas", "0,1")
    assert (ran.exit_code, ran.err) == (0, "")
    found = json.loads(ran.out)
    qualities = {"object_accuracy", "attribute_accuracy", "i2t_recall_1", "t2i_recall_10"}
    assert {f"quality/{name}" for name in qualities} < set(found["before"])
    assert found["inputs"]["trial"] == trial
    assert found["split"]["calibration_images"] + found["split"]["held_out_images"] == 64
    trained = Ledger(runs).trial(trial).result()
    assert trained is not None
    assert found["before"]["gap/rmg"] == pytest.approx(trained.metrics["gap/rmg"], abs=0.1)


def test_a_trial_with_full_held_out_captions_is_judged_on_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    runs, said = str(tmp_path / "runs"), {}
    base = f"base:\n  data: {{source: {write_digits(tmp_path / 'digits')}}}\n  evaluate: {{gallery: 64}}\n"
    vary = edited(("base:\n", base), ("vary:\n", "vary:\n  data.captions.held_out: [own, full]\n"))
    (tmp_path / "sweep.yaml").write_text(vary, encoding="utf-8")
    sweep = (str(tmp_path / "sweep.yaml"), "--scale", "quick")
    for trial in json.loads(gapctl("plan", *sweep, "--json").out)["trials"]:
        if trial["factors"]["data.captions.attributes"] == 0:
            assert gapctl("train", *sweep, "--trial", trial["id"], "--runs", runs).exit_code == 0
            ran = gapctl("intervene", "--trial", trial["id"], "--runs", runs, "--json", "--lambdas", "0,1")
            assert (ran.exit_code, ran.err) == (0, "")
            captions = json.loads(ran.out)["split"]["held_out_captions"]
            said[trial["factors"]["data.captions.held_out"]] = captions

    assert said["own"] <= 10
    assert said["full"] is None  # no two images share one
