"""Names of metrics, treatments and losses: how packages announce them, and how wrong ones are answered."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml

import gapctl
from extension_packages import SWEEP, plan_of, write_package
from gapctl.config.metrics import MetricName, find_metric
from gapctl.errors import InputError
from gapctl.extensions import find_extension
from sweep_texts import complaints, document


def named(place: str, name: str) -> dict[str, Any]:
    """A sweep file with a name at a place of base."""
    content: dict[str, Any] = yaml.safe_load(SWEEP)
    content["hypotheses"], content["vary"], content["treatments"] = [], {"train.lr": [1e-3]}, {}
    section, key = place.rsplit(".", 1)
    inner = content["base"]
    for step in section.split("."):
        inner = inner.setdefault(step, {})
    inner[key] = [name] if key == "metrics" else name
    return content


@pytest.mark.parametrize(
    ("place", "name", "text"),
    [
        ("evaluate.metrics", "spread/mean_nrm", "expected one of spread/mean_norm; did you mean spread/mean_norm?"),
        ("evaluate.metrics", "gap/rmg", "which every training measures; expected a metric of an installed package"),
        ("data.captions.keep", "evry_other", "did you mean every_other? Expected one of full"),
        ("loss.kind", "marginal", "did you mean margin? Expected one of clip, siglip, margin"),
        ("loss.kind", "zzz", "or the name of one that an installed package announces in the group gapctl.losses"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    installed: Path, tmp_path: Path, place: str, name: str, text: str
) -> None:
    (said,) = complaints(tmp_path, named(place, name))

    where = "base.evaluate.metrics[0]" if place == "evaluate.metrics" else f"base.{place}"
    assert f"{where}: found '{name}'" in said
    assert text in said


def test_a_name_that_no_package_announces_imports_nothing(use: Callable[[Path], None], tmp_path: Path) -> None:
    use(write_package(tmp_path / "site", "gapctl-other", "value = 1", metrics={"own/metric": "value"}))

    for place, name in (("loss.kind", "gapctl_other"), ("evaluate.metrics", "gapctl_other:value")):
        assert complaints(tmp_path, named(place, name))
    assert "gapctl_other" not in sys.modules


def test_a_metric_listed_twice_is_refused(installed: Path, tmp_path: Path) -> None:
    content = named("evaluate.metrics", "spread/mean_norm")
    content["base"]["evaluate"]["metrics"] *= 2

    assert "found 'spread/mean_norm' 2 times; expected each metric once" in complaints(tmp_path, content)[0]


def test_a_hypothesis_about_a_metric_that_is_not_listed_is_told_what_to_write(installed: Path, tmp_path: Path) -> None:
    (said,) = complaints(tmp_path, SWEEP.replace(", metrics: [spread/mean_norm]", ""))

    assert "hypotheses[0].response: found 'spread/mean_norm', which no training of this sweep logs" in said
    assert "expected base.evaluate.metrics: [spread/mean_norm]" in said


def test_a_metric_that_is_not_installed_is_reported_once(tmp_path: Path) -> None:
    content = {**yaml.safe_load(SWEEP), "vary": {"train.lr": [1e-3, 2e-3]}, "treatments": {}}
    content["hypotheses"][0] |= {"factor": "train.lr", "between": [1e-3, 2e-3]}
    (said,) = complaints(tmp_path, content)

    assert "expected a metric that an installed package announces in the group gapctl.metrics; none does" in said


def test_what_a_loss_of_a_package_cannot_do_is_refused(installed: Path, tmp_path: Path) -> None:
    images = {**document(), "base": {"data": {"sides": "image_image"}, "loss": {"kind": "margin"}}, "hypotheses": []}
    floor = document()
    floor["base"]["loss"] = {"kind": "margin"}
    floor["hypotheses"][0]["response"] = "train/loss_floor"

    assert "found 'margin' with data.sides image_image; expected clip or siglip" in complaints(tmp_path, images)[0]
    assert "the floor of margin is not known; expected loss.kind clip or siglip" in complaints(tmp_path, floor)[0]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import package_that_is_missing", "cannot be imported (ModuleNotFoundError: No module named"),
        ("raise RuntimeError('no licence')", "cannot be imported (RuntimeError: no licence)"),
        ("other = 1", "cannot be imported (AttributeError: "),
        ("value = 3", "which is no function but a value of type int"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named(
    use: Callable[[Path], None], tmp_path: Path, code: str, text: str
) -> None:
    use(write_package(tmp_path / "site", "gapctl-wrong", code, metrics={"own/metric": "value"}))
    (said,) = complaints(tmp_path, named("evaluate.metrics", "own/metric"))

    assert "metric own/metric: gapctl-wrong 0.1 announces it as gapctl_wrong:value" in said
    assert text in said


def test_two_packages_with_one_name_are_both_named(use: Callable[[Path], None], tmp_path: Path) -> None:
    code = "def value(embeddings): return 1.0"
    for name in ("gapctl-wrong", "gapctl-other"):
        write_package(tmp_path / "site", name, code, metrics={"own/metric": "value"})
    use(tmp_path / "site")

    with pytest.raises(InputError, match=r"gapctl-\w+ 0\.1 and gapctl-\w+ 0\.1 have one of that name each; uninstall"):
        find_extension("metrics", "own/metric")
    assert plan_of(tmp_path, document()).trials  # no other sweep minds


def test_a_function_without_the_decorator_is_registered_by_its_entry_point(
    use: Callable[[Path], None], tmp_path: Path
) -> None:
    code = 'def value(embeddings):\n    """Return one."""\n    return 1.0\n'
    use(write_package(tmp_path / "site", "gapctl-other", code, metrics={"own/metric": "value"}))

    assert complaints(tmp_path, named("evaluate.metrics", "own/metric")) == []
    assert find_metric("own/metric") == MetricName("own/metric", "Return one", "")


def test_an_object_that_is_called_like_a_function_has_its_modules_hash(
    use: Callable[[Path], None], tmp_path: Path
) -> None:
    code = "from functools import partial\ndef power(n, embeddings): return 2.0**n\nvalue = partial(power, 3)\n"
    use(write_package(tmp_path / "site", "gapctl-other", code, metrics={"own/metric": "value"}))
    trial = plan_of(tmp_path, named("evaluate.metrics", "own/metric")).trials[0]

    assert trial.extensions["metrics/own/metric"].sha256 == hashlib.sha256(code.encode()).hexdigest()
    assert gapctl.measure(*np.random.default_rng(0).normal(size=(2, 30, 4)))["own/metric"] == 8


def test_what_is_registered_in_a_notebook_alone_measures_and_does_not_train(
    use: Callable[[Path], None], tmp_path: Path
) -> None:
    gapctl.metrics.register("own/rows", unit="pairs")(lambda embeddings: len(embeddings.image_ND))
    rows = np.random.default_rng(0).normal(size=(2, 30, 4))
    (said,) = complaints(tmp_path, named("evaluate.metrics", "own/rows"))

    assert gapctl.measure(*rows)["own/rows"] == 30
    assert "registered in this process alone, so no other could train with it" in said
    assert "expected an entry point of the group gapctl.metrics in an installed package" in said


def test_a_name_that_is_taken_is_refused_and_a_cell_may_run_twice(installed: Path) -> None:
    def first(*given: object) -> float:
        return 1.0

    def second(*given: object) -> float:
        return 2.0

    for _ in range(2):
        gapctl.metrics.register("own/metric")(first)
    with pytest.raises(InputError, match="metric own/metric: registered already, by metric own/metric of test_exten"):
        gapctl.metrics.register("own/metric")(second)
    with pytest.raises(InputError, match=r"loss margin: gapctl-example 1\.2\.0 has one of that name; choose another"):
        gapctl.losses.register("margin")(first)
    for register, name in (
        (gapctl.metrics.register, "gap/rmg"),
        (gapctl.treatments.register, "half"),
        (gapctl.losses.register, "siglip"),
    ):
        with pytest.raises(InputError, match=f"{name}: gapctl has its own of that name"):
            cast(Any, register)(name)(first)


@pytest.mark.parametrize("name", ["spread", "/key", "group/", "a/b/c", "with space/key", ""])
def test_a_metric_needs_a_group_and_a_key(name: str) -> None:
    with pytest.raises(InputError, match="expected a group and a key, such as 'spread/mean_norm'"):
        gapctl.metrics.register(name)


@pytest.mark.parametrize("name", ["two words", "a-b", "", "1st"])
def test_treatments_and_losses_need_a_word(name: str) -> None:
    for register in (gapctl.treatments.register, gapctl.losses.register):
        with pytest.raises(InputError, match="expected a name of letters, digits and underscores"):
            cast(Any, register)(name)
