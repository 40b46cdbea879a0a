"""A metric, treatment or loss that raises or returns nonsense is named with its package."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

import gapctl
from command_line import gapctl as run_gapctl
from extension_packages import plan_of, write_package
from gapctl.config.evaluation_sets import find_set
from gapctl.config.trial import PairCaptions
from gapctl.data.treatments import treat_caption
from gapctl.errors import InputError
from gapctl.extensions import ExtensionError
from gapctl.models.losses import GatheredFeatures, make_worker_loss
from sweep_texts import document


def raise_error(*given: object) -> float:
    raise ZeroDivisionError("nothing to divide by")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (raise_error, r"raised ZeroDivisionError: nothing to divide by"),
        (lambda embeddings: None, "returned None; expected a number, or NaN where it is undefined"),
        (lambda embeddings: "0.5", "returned '0.5'; expected a number"),
        (lambda embeddings: math.inf, "returned inf; expected a number"),
        (lambda embeddings: True, "returned True; expected a number"),
        (lambda embeddings: embeddings.image_ND, "raised ValueError: "),
    ],
)
def test_a_metric_that_fails_is_named_with_its_package(
    use: Callable[[Path], None], found: Callable[..., object], text: str
) -> None:
    gapctl.metrics.register("own/metric")(found)
    rows = np.random.default_rng(0).normal(size=(2, 30, 4))

    with pytest.raises(InputError, match=f"metric own/metric of {found.__module__} {text}") as raised:
        gapctl.measure(*rows)
    assert "With `metrics=[]`" in str(raised.value)


@pytest.mark.parametrize("value", [0.25, np.float32(0.25), np.array(0.25), torch.tensor(0.25), math.nan, 1])
def test_a_metric_may_return_any_number(use: Callable[[Path], None], value: object) -> None:
    gapctl.metrics.register("own/metric")(lambda embeddings: value)
    rows = np.random.default_rng(0).normal(size=(2, 30, 4))

    assert gapctl.measure(*rows)["own/metric"] == pytest.approx(float(cast(float, value)), nan_ok=True)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (raise_error, "raised ZeroDivisionError: nothing to divide by"),
        (lambda *features: 1.0, "returned 1.0; expected a scalar tensor with a gradient"),
        (lambda image, *others: image, r"returned a tensor of shape \(4, 3\); expected a scalar"),
        (lambda image, *others: image.detach().sum(), "returned a tensor without a gradient; expected a scalar"),
    ],
)
def test_a_loss_that_fails_is_named(use: Callable[[Path], None], found: Callable[..., object], text: str) -> None:
    gapctl.losses.register("own_loss")(found)
    rows = GatheredFeatures.of(*(torch.randn(4, 6, requires_grad=True) for _ in range(2)), first=0)

    with pytest.raises(ExtensionError, match=f"loss own_loss of {found.__module__} {text}"):
        make_worker_loss("own_loss")(rows, torch.tensor(10.0), None)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (raise_error, "raised ZeroDivisionError: nothing to divide by"),
        (lambda caption, rng: [caption], r"returned \['a b'\] for sample 7; expected a text, which may be empty"),
    ],
)
def test_a_treatment_that_fails_is_named(use: Callable[[Path], None], found: Callable[..., object], text: str) -> None:
    gapctl.treatments.register("own_words")(found)
    rule = cast(PairCaptions, SimpleNamespace(keep="own_words", draw="each_access"))

    with pytest.raises(ExtensionError, match=f"treatment own_words of {found.__module__} {text}"):
        treat_caption(rule, "a b", {}, 0, 0, 7)


@pytest.mark.timeout(600)
def test_a_metric_that_raises_fails_its_training_with_one_line(use: Callable[[Path], None], tmp_path: Path) -> None:
    code = "def value(embeddings):\n    raise KeyError('colour')\n"
    use(write_package(tmp_path / "site", "gapctl-wrong", code, metrics={"own/metric": "value"}))
    content = {
        **document(),
        "base": {"train": {"samples": 64, "batch_size": 64}, "evaluate": {"gallery": 40, "metrics": ["own/metric"]}},
    }
    trial = plan_of(tmp_path, content).trials[0]
    plan = json.loads(run_gapctl("plan", str(tmp_path / "sweep.yaml"), "--json").out)
    trial_id = plan["trials"][0]["id"]
    answer = run_gapctl("train", str(tmp_path / "sweep.yaml"), "--trial", trial_id, "--runs", str(tmp_path / "runs"))

    assert answer.exit_code == 1
    assert f"{trial.label} ({trial_id}) failed" in answer.err
    assert "metric own/metric of gapctl-wrong 0.1 raised KeyError: 'colour'" in answer.err
    assert "Traceback" not in answer.err
    assert "raise KeyError('colour')" in (tmp_path / "runs" / trial_id / "failure.txt").read_text()


def test_a_set_of_a_package_with_a_wrong_definition_is_named(use: Callable[[Path], None], tmp_path: Path) -> None:
    code = "def define(): return {'kind': 'classes'}\n"
    use(write_package(tmp_path / "site", "gapctl-wrong", code, evaluation_sets={"odd": "define"}))

    with pytest.raises(InputError, match=r"evaluation set odd of gapctl-wrong 0\.1 returned a wrong definition: kind"):
        find_set("odd")


def test_a_set_whose_function_fails_is_named(use: Callable[[Path], None], tmp_path: Path) -> None:
    use(
        write_package(
            tmp_path / "site", "gapctl-wrong", "def define(): return 1 / 0\n", evaluation_sets={"odd": "define"}
        )
    )

    with pytest.raises(InputError, match=r"evaluation set odd of gapctl-wrong 0\.1 raised ZeroDivisionError"):
        find_set("odd")
