"""Metrics, treatments, losses and evaluation sets of an installed package are used by their names."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import gapctl
from command_line import gapctl as run_gapctl
from extension_packages import SWEEP, plan_of
from gapctl import extensions
from gapctl.analysis.learning import run_learning_checks
from gapctl.config.metrics import MetricName, find_metric, load_metrics_by_name
from gapctl.config.trial import PairCaptions
from gapctl.data.treatments import treat_caption
from gapctl.errors import InputError
from gapctl.extensions import ExtensionError, list_extensions, require_planned_extension_code
from gapctl.ledger import Ledger
from gapctl.plan.plan import hash_design, pack_trials
from gapctl.report.text import explain_catalog_metric, get_metric_unit
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.trainer import build_single_step
from open_models import CPU, TINY, tiny_model, tiny_rule
from small_sets import sweep_with_sets, write_composition
from sweep_texts import document


def test_an_installed_package_is_found_here_and_in_another_process(installed: Path) -> None:
    program = (
        "from gapctl.extensions import *; print([find_extension(k, n).name for k in KINDS for n in list_extensions(k)])"
    )
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert elsewhere.stdout.strip() == "['spread/mean_norm', 'every_other', 'margin', 'squares']"
    assert [list_extensions(kind) for kind in extensions.KINDS] == [
        ["spread/mean_norm"],
        ["every_other"],
        ["margin"],
        ["squares"],
    ]


def test_public_names_register_without_numpy_and_torch() -> None:
    program = (
        "import sys, gapctl\n"
        "gapctl.metrics.register('own/metric')(lambda embeddings: 1.0)\n"
        "gapctl.treatments.register('own')(lambda caption, rng: caption)\n"
        "gapctl.losses.register('own')(lambda *features: None)\n"
        "gapctl.evaluation_sets.register('own')(lambda: {'kind': 'retrieval'})\n"
        "print([name for name in ('numpy', 'torch', 'ray', 'mlflow', 'polars') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.timeout(600)
def test_a_sweep_trains_with_a_metric_a_treatment_and_a_loss_of_a_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    own = plan_of(tmp_path).trials[1]
    listed = subprocess.run(
        [sys.executable, "-m", "gapctl", "plan", "sweep.yaml", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    trial_id = json.loads(listed.stdout)["trials"][1]["id"]
    trained = run_gapctl("train", str(tmp_path / "sweep.yaml"), "--trial", trial_id, "--runs", str(tmp_path / "runs"))
    assert trained.exit_code == 0, trained.err

    folder = tmp_path / "runs" / trial_id
    described = yaml.safe_load((folder / "trial.yaml").read_text())
    result = json.loads((folder / "result.json").read_text())
    assert list(described["extensions"]) == ["metrics/spread/mean_norm", "treatments/every_other", "losses/margin"]
    for code in described["extensions"].values():
        assert code == {"package": "gapctl-example", "version": "1.2.0", "sha256": code["sha256"]}
        assert code["sha256"] == own.extensions["losses/margin"].sha256
    assert result["versions"]["gapctl-example"] == "1.2.0"
    assert 0 < result["metrics"]["spread/mean_norm"] <= 1
    again = run_gapctl("measure", "--trial", trial_id, "--runs", str(tmp_path / "runs"), "--json")
    assert json.loads(again.out)["metrics"]["spread/mean_norm"] == result["metrics"]["spread/mean_norm"]
    assert result["metrics"]["captions/share_kept"] == pytest.approx(0.5, abs=0.15)
    assert 0 < result["metrics"]["train/loss"] < 0.5  # a hinge of cosines, and no logarithm of 16
    assert "train/loss_floor" not in result["metrics"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_of_ray_find_the_package_and_the_verdict_is_about_its_metric(installed: Path, tmp_path: Path) -> None:
    content = {**document(), "vary": {"loss.kind": ["clip", "margin"]}, "seeds": 2}
    content["base"] = {
        "train": {"samples": 256, "batch_size": 64},
        "evaluate": {"every": 128, "gallery": 40, "metrics": ["spread/mean_norm"]},
    }
    content["hypotheses"] = [
        {
            **content["hypotheses"][1],
            "factor": "loss.kind",
            "between": ["clip", "margin"],
            "response": "spread/mean_norm",
        }
    ]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    done = subprocess.run(
        [sys.executable, "-m", "gapctl", "sweep", "sweep.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    answer = run_gapctl("analyze", str(tmp_path / "sweep.yaml"), "--runs", str(tmp_path / "runs"), "--json")
    (verdict,) = json.loads(answer.out)["verdicts"]
    assert verdict["trials"] == 4
    assert math.isfinite(verdict["estimate"])
    (page,) = (tmp_path / "runs").glob("*.report.html")
    assert "Length of the mean image embedding" in page.read_text()


def test_a_changed_file_gives_other_trials_to_those_that_use_it_alone(installed: Path, tmp_path: Path) -> None:
    content = document()
    plain = plan_of(tmp_path, content)
    before = plan_of(tmp_path)
    with (installed / "gapctl_example.py").open("a") as file:
        file.write("\n# Changed.\n")
    after = plan_of(tmp_path)

    assert not {trial.id for trial in before.trials} & {trial.id for trial in after.trials}
    assert hash_design(before) != hash_design(after)
    assert [trial.id for trial in plan_of(tmp_path, content).trials] == [trial.id for trial in plain.trials]
    assert all(not trial.extensions for trial in plain.trials)


def test_a_machine_with_other_code_does_not_train(installed: Path, tmp_path: Path) -> None:
    trial = plan_of(tmp_path).trials[1]
    require_planned_extension_code(trial.config.extensions, trial.extensions)
    with (installed / "gapctl_example.py").open("a") as file:
        file.write("\n# Changed.\n")

    with pytest.raises(ExtensionError, match=r"other code than the sweep was planned with \(gapctl-example 1\.2\.0"):
        require_planned_extension_code(trial.config.extensions, trial.extensions)


def test_a_treatment_is_a_function_of_sample_seed_and_epoch(installed: Path) -> None:
    rule = PairCaptions(keep="every_other")
    caption = "one two three four five"

    def read(seed: int, epoch: int, sample: int) -> str:
        treated = treat_caption(rule, caption, {}, seed, epoch, sample)
        assert treated is not None
        assert (treated.kept, treated.words) == (len(treated.text.split()), 5)
        return treated.text

    drawn = [read(0, epoch, sample) for epoch in range(4) for sample in range(4)]
    assert drawn == [read(0, epoch, sample) for epoch in range(4) for sample in range(4)]
    assert set(drawn) == {"one three five", "two four"}


def test_the_treatments_of_packages_are_shown_beside_gapctls(installed: Path) -> None:
    answer = run_gapctl("data", "captions", "--keep", "full,every_other", "--json")
    shown = json.loads(answer.out)["treatments"]

    assert [row["keep"] for row in shown] == ["full", "every_other"]
    assert shown[1]["removes"] == "Every other word, beginning with the first or the second"
    assert shown[1]["random_per_access"]
    assert "did you mean every_other" in run_gapctl("data", "captions", "--keep", "evry_other").err


def test_a_metric_of_a_package_has_a_meaning_and_a_unit_wherever_metrics_are_named(installed: Path) -> None:
    meaning = "Length of the mean image embedding: 1 where all images are alike, near 0 where they fill the sphere"

    assert find_metric("spread/mean_norm") == MetricName("spread/mean_norm", meaning, "length")
    assert list(load_metrics_by_name())[-1] == "spread/mean_norm"
    assert (explain_catalog_metric("spread/mean_norm"), get_metric_unit("spread/mean_norm")) == (meaning, "length")


def test_measures_include_the_metrics_of_packages_and_leave_them_out_on_request(installed: Path) -> None:
    rng = np.random.default_rng(0)
    images, texts = 3 * rng.normal(size=(40, 8)) + 1, rng.normal(size=(40, 8))
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    found = gapctl.measure(images, texts)

    assert found["spread/mean_norm"] == pytest.approx(np.linalg.norm(unit.mean(axis=0)), abs=1e-12)
    assert list(found)[-1] == "spread/mean_norm"
    assert "Length of the mean image embedding" in found._repr_html_()
    assert dict(gapctl.measure(images, texts, metrics=["spread/mean_norm"])) == dict(found)
    assert set(found) - set(gapctl.measure(images, texts, metrics=[])) == {"spread/mean_norm"}
    with pytest.raises(InputError, match=r"metric spread/mean: expected one of .*; did you mean spread/mean_norm\?"):
        gapctl.measure(images, texts, metrics=["spread/mean"])


def test_the_verb_measures_what_the_function_does(installed: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"image": rng.normal(size=(40, 8)), "text": rng.normal(size=(40, 8))}
    np.savez(tmp_path / "embeddings.npz", **arrays)
    answer = run_gapctl("measure", "--embeddings", str(tmp_path / "embeddings.npz"), "--json")

    found = json.loads(answer.out)["metrics"]
    assert found["spread/mean_norm"] == gapctl.measure(arrays["image"], arrays["text"])["spread/mean_norm"]


def test_a_trial_is_measured_on_the_set_of_a_package_with_the_metric_of_that_package(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUARES", str(write_composition(tmp_path / "squares")))
    monkeypatch.chdir(tmp_path)
    content = sweep_with_sets(tmp_path, evaluate="sets: [squares], metrics: [spread/mean_norm]").read_text()
    Path("sets.yaml").write_text(content, encoding="utf-8")
    trial = json.loads(run_gapctl("plan", "sets.yaml", "--json").out)["trials"][0]["id"]

    ran = run_gapctl("train", "sets.yaml", "--trial", trial)

    assert ran.exit_code == 0, ran.err
    result = Ledger("runs").trial(trial).result()
    assert result is not None
    assert 0 < result.metrics["squares/spread/mean_norm"] <= 1
    assert "squares/bias/moad_text" in result.metrics


@pytest.mark.parametrize(("name", "complaint"), [("coco", "gapctl has its own"), ("gap", "is a group of metrics")])
def test_a_set_cannot_have_a_name_that_is_taken(name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        extensions.register_evaluation_set(name)(lambda: {"kind": "retrieval"})


def test_trials_with_a_loss_of_a_package_are_trained_alone_and_by_autograd(installed: Path, tmp_path: Path) -> None:
    content = {**document(), "vary": {"loss.kind": ["clip", "margin"]}, "seeds": 2, "hypotheses": []}
    packs = pack_trials(plan_of(tmp_path, content).trials, 4)
    kinds = [[trial.config.loss.kind for trial in pack] for pack in packs]

    assert sorted(kinds) == [["clip", "clip"], ["margin"], ["margin"]]
    assert isinstance(build_single_step(tiny_model(TINY), TINY, tiny_rule(TINY, "margin"), CPU), AutogradStep)


def test_whether_a_model_learned_by_a_loss_of_a_package_is_not_guessed(installed: Path, tmp_path: Path) -> None:
    content = {**document(), "vary": {"loss.kind": ["margin"]}, "hypotheses": []}
    plan = plan_of(tmp_path, content)
    metrics = {plan.trials[0].id: {"train/loss": 9.0, "quality/object_accuracy": 100.0}}
    checks = {check.check: check for check in run_learning_checks(plan, metrics)}

    assert not checks["train/loss"].failed
    assert checks["train/loss"].reason == "loss.kind margin has no known value for guessing"
