"""`gapctl intervene --trial` judges a finished trial on its own gallery, zero-shot questions included."""

import json
from pathlib import Path

import numpy as np
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


def test_ideal_words_are_judged_on_a_trial_and_refused_where_no_pairs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    runs = str(tmp_path / "runs")
    base = f"base:\n  data: {{source: {write_digits(tmp_path / 'digits')}}}\n  evaluate: {{gallery: 64}}\n"
    vary = edited(("base:\n", base), ("vary:\n", "vary:\n  evaluate.intervention: [none, ideal_words]\n"))
    (tmp_path / "sweep.yaml").write_text(vary, encoding="utf-8")
    sweep = (str(tmp_path / "sweep.yaml"), "--scale", "quick")
    planned = json.loads(gapctl("plan", *sweep, "--json").out)["trials"]
    first = [each for each in planned if each["seed"] == planned[0]["seed"]]
    at = {each["factors"]["evaluate.intervention"]: each["id"] for each in first}
    for trial in at.values():
        assert gapctl("train", *sweep, "--trial", trial, "--runs", runs).exit_code == 0

    ran = gapctl("intervene", "--trial", at["none"], "--runs", runs, "--ideal-words", "--json", "--lambdas", "1")
    assert (ran.exit_code, ran.err) == (0, "")
    found = json.loads(ran.out)
    (words,) = [each for each in found["interventions"] if each["name"] == "ideal words"]
    assert {"quality/pair_accuracy", "bias/moad_text", "quality/object_accuracy"} <= set(words["changes"])
    report = tmp_path / "closing.html"
    ran = gapctl("intervene", "--trial", at["none"], "--runs", runs, "--ideal-words", "--report", str(report))
    assert ran.out.count("\nideal words ") == 2  # in the table, and in that of what does not fit beside it
    assert "ideal words" in report.read_text(encoding="utf-8")

    plain, moved = (Ledger(runs).trial(at[name]).result() for name in ("none", "ideal_words"))
    assert plain is not None
    assert moved is not None
    assert moved.metrics["bias/moad_text"] != plain.metrics["bias/moad_text"]
    assert moved.metrics["bias/moad_image"] == plain.metrics["bias/moad_image"]

    np.savez(tmp_path / "bare.npz", image=np.eye(20, 8) + 1, text=np.eye(20, 8) + 2)
    ran = gapctl("intervene", "--embeddings", str(tmp_path / "bare.npz"), "--ideal-words")
    assert ran.exit_code == 2
    assert "ideal words: found no `labels` and no `attributes`; expected the object and the attribute" in ran.err
