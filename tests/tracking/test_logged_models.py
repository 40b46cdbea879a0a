"""A finished trial's model in MLflow: loaded by MLflow alone, with the numbers that gapctl's own call gives."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_sweep import FINGERPRINT, Runs, Shown

from gapctl.config.load import load_sweep
from gapctl.errors import InputError
from gapctl.inference.logged_model import build_unpickler
from gapctl.ledger.trial import WEIGHTS
from gapctl.plan import estimate
from gapctl.plan.plan import Plan, make_plan
from gapctl.tracking.mlflow_sync import sync_sweep
from gapctl.training.checkpoint import pack_weights
from gapctl.training.trial_state import build_trial_model

SIDES = """\
name: small
question: Does it?
base: {train: {samples: 2_560, batch_size: 256}}
vary:
  data.sides: [image_text, image_image]
seeds: 1
"""
COMPARE = """
import json
import sys

import mlflow
import torch

import gapctl

def compare(address, trial):
    loaded = mlflow.pytorch.load_model(address)
    own, preprocess, tokenizer = gapctl.load_model(trial, runs=sys.argv[1])
    random = torch.Generator().manual_seed(0)
    image_BCHW = torch.randn((4, 3, 28, 28), generator=random)
    texts = tokenizer(["3-thickening-red", "7"])
    assert type(loaded) is type(own) and not loaded.training
    for context in (torch.no_grad, torch.enable_grad):
        with context():
            assert torch.equal(loaded.encode_image(image_BCHW), own.encode_image(image_BCHW)), "the images differ"
            two_images = hasattr(own, "second")
            one, other = (each.second(image_BCHW) if two_images else each.encode_text(texts) for each in (loaded, own))
            assert torch.equal(one, other), "the other side differs"
    print(address, "equal")


for address, trial in json.loads(sys.argv[2]).items():
    compare(address, trial)
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two trials, one of images and captions and one of images and images, with weights of other seeds than theirs."""
    file = tmp_path / "small.yaml"
    file.write_text(SIDES)
    return make_plan(load_sweep(file, None, ()), lambda data: FINGERPRINT)


def finish_with_weights(runs: Runs, plan: Plan) -> None:
    """Finish each trial, and put weights in place of the empty ones that `Runs.finish` writes."""
    for trial in plan.trials:
        runs.finish(trial)
        model = build_trial_model(trial.config, seed=99)
        runs.ledger.trial(trial.id).write(WEIGHTS, pack_weights(model))


@pytest.mark.timeout(600)
def test_mlflow_loads_a_ready_model_by_its_id_or_its_run_with_the_same_bits_as_gapctl(
    plan: Plan, runs: Runs, uri: str, shown: Shown
) -> None:
    finish_with_weights(runs, plan)
    sync_sweep(plan, runs.ledger, uri)

    models = shown.models()
    text, images = plan.trials
    run_id = shown.trials()[images.id].info.run_id
    asked = {
        f"models:/{models[text.id].model_id}": text.id,
        f"runs:/{run_id}/{models[images.id].name}": images.id,
    }
    assert {model.status.name for model in models.values()} == {"READY"}
    done = subprocess.run(
        [sys.executable, "-c", COMPARE, runs.ledger.root, json.dumps(asked)],
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [f"{address} equal" for address in asked], done.stderr
    assert "does not match" not in done.stderr, "the version of torch is the one that is installed"


def test_the_logged_weights_are_those_of_the_ledger(plan: Plan, runs: Runs, uri: str, shown: Shown) -> None:
    finish_with_weights(runs, plan)
    sync_sweep(plan, runs.ledger, uri)

    trial = plan.trials[0]
    location = Path(str(shown.models()[trial.id].artifact_location).removeprefix("file://"))
    assert (location / "data" / "model.pth").read_bytes() == runs.ledger.trial(trial.id).read(WEIGHTS)


def test_a_model_of_more_weights_than_mlflow_gets_is_pending_and_says_how_to_load_it(
    plan: Plan, runs: Runs, uri: str, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_with_weights(runs, plan)
    monkeypatch.setattr(estimate, "LOGGED_WEIGHTS_BYTES", 1_000)
    sync_sweep(plan, runs.ledger, uri)

    for trial_id, model in shown.models().items():
        assert model.status.name == "PENDING"
        assert model.tags["gapctl.load"] == f"gapctl.load_model('{trial_id}', runs='{runs.ledger.everywhere}')"
        assert Path(model.tags["gapctl.weights"]).is_file()


def test_a_logged_model_reads_nothing_but_tensors(plan: Plan, runs: Runs, tmp_path: Path) -> None:
    trial = plan.trials[0]
    runs.begin(trial)
    description, weights = tmp_path / "trial.yaml", tmp_path / "model.pth"
    description.write_bytes(runs.ledger.trial(trial.id).read("trial.yaml") or b"")
    torch.save({"weights": len}, weights)

    class Module:
        """A pickle module, as MLflow imports it."""

        Unpickler = build_unpickler(description)

    with pytest.raises(pickle.UnpicklingError, match=r"refer to \w+\.len, not to tensors"):
        torch.load(weights, pickle_module=Module)


def test_a_logged_model_whose_loss_is_of_a_missing_package_says_which(plan: Plan, runs: Runs, tmp_path: Path) -> None:
    trial, description = plan.trials[0], tmp_path / "trial.yaml"
    runs.begin(trial)
    text = (runs.ledger.trial(trial.id).read("trial.yaml") or b"").decode()
    description.write_text(f"extensions: {{losses/far: {{package: far-away, version: '2', sha256: ab}}}}\n{text}")

    with pytest.raises(InputError, match=r"trial\.yaml: .* loss far of far-away 2.* install that package"):
        build_unpickler(description)
