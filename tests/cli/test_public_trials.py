"""Trials of public models by the command line: trained, killed, measured again, loaded, and refused where damaged."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import gapctl
from command_line import gapctl as run_verb
from gapctl.cli.options import load_plan
from gapctl.plan.estimate import estimate_disk
from tiny_models import HALVES, TINY_RESNET, TINY_SIGLIP, write_model

SWEEP = """\
name: public
question: Does fine-tuning change the gap?
base:
  data: {{dataset: image_text, captions: {{keep: words}}}}
  model: {{architecture: tiny/open_clip_config.json, weights: "local-dir:tiny"}}
  loss: {{kind: {loss}}}
  train: {{samples: {samples}, batch_size: 16, precision: float32}}
  evaluate: {{every: 32, gallery: 20}}
vary: {{train.lr: [1.0e-3]}}
"""
KILLS = 3
LONGEST_SECONDS = 300.0
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a SigLIP-like model and a sweep file that measures it."""
    write_model(tmp_path / "tiny", TINY_SIGLIP, preprocess=HALVES)
    write_sweep(tmp_path, samples=0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_sweep(place: Path, samples: int, loss: str = "siglip") -> None:
    (place / "sweep.yaml").write_text(SWEEP.format(samples=samples, loss=loss), encoding="utf-8")


def planned(place: Path) -> str:
    return str(json.loads(run_verb("plan", str(place / "sweep.yaml"), "--json").out)["trials"][0]["id"])


def result(place: Path, runs: str, trial: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((place / runs / trial / "result.json").read_text(encoding="utf-8"))["metrics"]
    return found


def test_a_measured_model_is_measured_again_to_the_last_bit_and_loads(place: Path) -> None:
    trial = planned(place)
    trained = run_verb("train", "sweep.yaml", "--trial", trial)
    assert trained.exit_code == 0, trained.err
    again = json.loads(run_verb("measure", "--trial", trial, "--json").out)["metrics"]
    assert again == result(place, "runs", trial)
    (place / "tiny" / WEIGHTS).unlink()  # the ledger keeps the weights
    model, preprocess, tokenizer = gapctl.load_model(trial, runs=place / "runs")
    assert tokenizer("a dog").shape == (1, 16)
    assert model.logit_bias is not None
    from PIL import Image

    with torch.no_grad():
        assert model.encode_image(preprocess(Image.new("RGB", (40, 60)))[None]).shape == (1, 24)


def test_a_measured_model_takes_the_room_of_its_final_weights_and_of_no_checkpoints(place: Path) -> None:
    trials = load_plan(place / "sweep.yaml", None, None).trials
    assert run_verb("train", "sweep.yaml", "--trial", trials[0].id).exit_code == 0

    folder = place / "runs" / trials[0].id
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["final.pt"]
    assert estimate_disk(trials, 1) == estimate_disk(trials, 0)
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert written < estimate_disk(trials, 1).ledger


def test_damaged_weights_and_those_of_another_architecture_are_refused(place: Path) -> None:
    weights = place / "tiny" / WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    cut = run_verb("train", "sweep.yaml", "--trial", planned(place))
    assert cut.exit_code == 2
    assert f"{WEIGHTS}: damaged, or no checkpoint" in cut.err
    other = write_model(place / "other", TINY_RESNET)
    weights.write_bytes((other / WEIGHTS).read_bytes())
    wrong = run_verb("train", "sweep.yaml", "--trial", planned(place))
    assert wrong.exit_code == 2
    assert "a checkpoint of another architecture than" in wrong.err
    assert "Traceback" not in cut.err + wrong.err


def train(place: Path, runs: str, trial: str) -> list[str]:
    arguments = ["train", str(place / "sweep.yaml"), "--trial", trial, "--runs", str(place / runs)]
    return [sys.executable, "-m", "gapctl", *arguments]


def newest(folder: Path) -> str:
    return max((path.name for path in folder.glob("*/checkpoints/0*.pt")), default="")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["SigLIP", "ResNet"])
def test_kills_at_random_moments_change_no_bit(place: Path, kind: str) -> None:
    if kind == "ResNet":
        for path in (place / "tiny").iterdir():
            path.unlink()
        (place / "tiny").rmdir()
        write_model(place / "tiny", TINY_RESNET)
    write_sweep(place, samples=1600, loss="siglip" if kind == "SigLIP" else "clip")
    trial = planned(place)
    subprocess.run(train(place, "quiet", trial), check=True, capture_output=True, timeout=LONGEST_SECONDS)

    draws, went_on = random.Random(0), 0
    for _ in range(KILLS):
        before = newest(place / "killed")
        process = subprocess.Popen(train(place, "killed", trial), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + LONGEST_SECONDS
        while newest(place / "killed") == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(draws.random())
        went_on += process.poll() is None
        process.kill()
        process.wait()
    subprocess.run(train(place, "killed", trial), check=True, capture_output=True, timeout=LONGEST_SECONDS)

    assert went_on >= KILLS // 2
    assert json.dumps(result(place, "killed", trial)) == json.dumps(result(place, "quiet", trial))
    one, other = (place / runs / trial / "checkpoints" / "final.pt" for runs in ("killed", "quiet"))
    assert one.read_bytes() == other.read_bytes()
