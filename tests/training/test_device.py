"""A GPU that is reserved for a trial is used, or the trial does not begin."""

import json
from pathlib import Path

import pytest
import torch

from command_line import gapctl
from gapctl.errors import InputError
from gapctl.training.hardware import select_training_device
from sweep_texts import TINY, written

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use a GPU here")


def test_without_a_gpu_a_trial_is_the_processors() -> None:
    assert select_training_device(gpu=False).type == "cpu"


@without_gpu
def test_a_gpu_that_torch_cannot_use_is_refused_with_all_versions() -> None:
    with pytest.raises(InputError, match=r"^resources\.gpus: a GPU is reserved .*, but torch cannot use it") as told:
        select_training_device(gpu=True)

    for named in (f"torch {torch.__version__}", f"CUDA {torch.version.cuda}", "NVIDIA driver", "resources.gpus=0"):
        assert named in str(told.value)
    assert "\n" not in str(told.value)


@without_gpu
def test_a_trial_alone_that_asks_for_a_gpu_does_not_take_the_processor(tmp_path: Path) -> None:
    file, runs = written(tmp_path, TINY), str(tmp_path / "runs")
    trial = json.loads(gapctl("plan", str(file), "--json", "--runs", runs).out)["trials"][0]["id"]

    answer = gapctl("train", str(file), "--trial", trial, "--set", "resources.gpus=1", "--runs", runs)

    assert answer.exit_code == 2
    assert "resources.gpus: a GPU is reserved" in answer.err
    assert not list((tmp_path / "runs").glob("*/result.json"))
