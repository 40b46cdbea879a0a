"""Metrics, treatments and losses of an installed package train by their names; wrong ones are answered plainly."""

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml

import gapctl
from command_line import gapctl as run_gapctl
from extension_packages import install_example, write_package
from gapctl import extensions
from gapctl.analysis.learning import check_learning
from gapctl.config.metrics import MetricName, find_metric, list_metrics
from gapctl.config.trial import PairCaptions
from gapctl.data.treatments import treat_caption
from gapctl.errors import InputError
from gapctl.extensions import ExtensionError, find_extension, list_extensions, require_same_code
from gapctl.models.losses import GatheredFeatures, make_local_loss
from gapctl.plan.plan import Plan, hash_design, make_plan, pack_trials
from gapctl.report.text import explain_metric, get_metric_unit
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.trainer import build_single_step
from open_models import CPU, TINY, tiny_model, tiny_rule
from sweep_texts import complaints, document, loaded

SWEEP = """\
name: extended
question: Do a treatment and a loss of one's own change a metric of one's own?
base:
  data: {dataset: image_text, captions: {keep: full}}
  model: {preset: pairs-small, embed_dim: 16}
  train: {samples: 32, batch_size: 16, precision: float32}
  evaluate: {every: 16, gallery: 20, metrics: [spread/mean_norm]}
vary:
  treatment: [none, own]
treatments:
  treatment:
    none: {data.captions.keep: full, loss.kind: clip}
    own: {data.captions.keep: every_other, loss.kind: margin}
hypotheses:
  - id: spread
    claim: It spreads the images.
    test: contrast
    response: spread/mean_norm
    factor: treatment
    between: [none, own]
    direction: decreasing
    smallest_effect: 0.01
"""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_example(tmp_path_factory.mktemp("example"))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Make packages of a folder importable here and in processes that start from here, and forget them afterwards."""
    before = set(sys.modules)
    monkeypatch.setattr(extensions, "_REGISTERED", {})

    def make_importable(site: Path) -> None:
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))

    yield make_importable
    for name in set(sys.modules) - before:
        if name.startswith(("gapctl_example", "gapctl_wrong", "gapctl_other")):
            del sys.modules[name]


@pytest.fixture
def installed(example: Path, use: Callable[[Path], None], tmp_path: Path) -> Path:
    """A copy of the installed example, which a test may change."""
    site = shutil.copytree(example, tmp_path / "site")
    use(site)
    return site


def plan_of(folder: Path, content: str | dict[str, Any] = SWEEP) -> Plan:
    return make_plan(loaded(folder, content), lambda data: "fingerprint")


def test_an_installed_package_is_found_here_and_in_another_process(installed: Path) -> None:
    program = (
        "from gapctl.extensions import *; print([find_extension(k, n).name for k in KINDS for n in list_extensions(k)])"
    )
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert elsewhere.stdout.strip() == "['spread/mean_norm', 'every_other', 'margin']"
    assert [list_extensions(kind) for kind in extensions.KINDS] == [["spread/mean_norm"], ["every_other"], ["margin"]]


def test_public_names_register_without_numpy_and_torch() -> None:
    program = (
        "import sys, gapctl\n"
        "gapctl.metrics.register('own/metric')(lambda embeddings: 1.0)\n"
        "gapctl.treatments.register('own')(lambda caption, rng: caption)\n"
        "gapctl.losses.register('own')(lambda *features: None)\n"
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
    done = subprocess.run(
        [sys.executable, "-m", "gapctl", "train", "sweep.yaml", "--trial", trial_id],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

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
    require_same_code(trial.config.extensions, trial.extensions)
    with (installed / "gapctl_example.py").open("a") as file:
        file.write("\n# Changed.\n")

    with pytest.raises(ExtensionError, match=r"other code than the sweep was planned with \(gapctl-example 1\.2\.0"):
        require_same_code(trial.config.extensions, trial.extensions)


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
    assert list(list_metrics())[-1] == "spread/mean_norm"
    assert (explain_metric("spread/mean_norm"), get_metric_unit("spread/mean_norm")) == (meaning, "length")


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
    checks = {check.check: check for check in check_learning(plan, metrics)}

    assert not checks["train/loss"].failed
    assert checks["train/loss"].reason == "loss.kind margin has no known value for guessing"


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
        make_local_loss("own_loss")(rows, torch.tensor(10.0), None)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (raise_error, "raised ZeroDivisionError: nothing to divide by"),
        (lambda caption, rng: [caption], r"returned \['a b'\] for sample 7; expected a text, which may be empty"),
    ],
)
def test_a_treatment_that_fails_is_named(use: Callable[[Path], None], found: Callable[..., object], text: str) -> None:
    gapctl.treatments.register("own_words")(found)
    rule = cast(PairCaptions, SimpleNamespace(keep="own_words"))

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
