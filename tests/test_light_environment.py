"""Without torch, Ray and MLflow, as requirements-measure.lock leaves them out: what works, and what says why not."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from command_line import Answer, gapctl_in_turn
from gapctl.errors import InputError, is_installed, make_missing_package_error, require_packages

REPOSITORY = Path(__file__).parents[1]
GOLDEN = REPOSITORY / "tests" / "golden"
PAIRS = str(GOLDEN / "pairs_small.npz")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
BEYOND = (
    "torch", "torchvision", "ray", "mlflow", "sqlalchemy", "open_clip", "optuna", "pandas", "pyarrow", "skimage",
    "webdataset", "braceexpand", "torchmetrics", "lightning", "sklearn", "matplotlib", "tqdm", "PIL", "requests",
)  # fmt: skip
"""Modules that requirements-measure.lock does not bring."""
WITHOUT = f"""
import sys

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {BEYOND} else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Hiding, sys.meta_path)
"""


def run_without(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", WITHOUT + code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


WORKS = {
    "plan": (["plan", "imbalance"], "18 trials"),
    "list": (["list"], "gapctl sweep imbalance"),
    "status": (["status", "imbalance"], "18 missing"),
    "metrics": (["metrics", "rmg"], "gap/rmg"),
    "new": (["new", "my.yaml", "--from", "imbalance"], "named my"),
    "measure": (["measure", "--embeddings", PAIRS], "linear_separability"),
    "intervene": (["intervene", "--embeddings", PAIRS], "image-to-text recall at 1"),
}


LACKS = {
    "sweep": (["sweep", "imbalance", "--scale", "smoke"], "ray"),
    "train": (["train", "imbalance", "--trial", "27c8"], "torch"),
    "measure of a model": (["measure", "--model", "a", "--pretrained", "b", "--data", "c"], "torch"),
    "ui": (["ui", "--uri", "postgresql://host/db"], "sqlalchemy"),
    "cluster": (["cluster", "lint", str(REPOSITORY / "cluster.yaml")], "ray"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Answer]:
    """What each verb says, in one process for all: its imports are most of its time."""
    commands = {verb: arguments for verb, (arguments, _) in {**WORKS, **LACKS}.items()}
    ran = gapctl_in_turn(*commands.values(), folder=tmp_path_factory.mktemp("empty"), before=WITHOUT)
    return dict(zip(commands, ran, strict=True))


@pytest.mark.parametrize("verb", WORKS)
def test_a_verb_works_without(verb: str, answers: Mapping[str, Answer]) -> None:
    _, expected = WORKS[verb]
    ran = answers[verb]

    assert ran.exit_code == 0, ran.err
    assert expected in ran.out


@pytest.mark.parametrize("verb", LACKS)
def test_a_verb_says_what_it_lacks(verb: str, answers: Mapping[str, Answer]) -> None:
    _, module = LACKS[verb]
    ran = answers[verb]

    assert ran.exit_code == 2
    assert ran.err.splitlines()[-1] == f"gapctl: {make_missing_package_error(module)}"
    assert "Traceback" not in ran.err


def test_the_doctor_looks_at_the_cache_and_its_images(tmp_path: Path) -> None:
    code = "from gapctl.cli import doctor; print(doctor.check_cache(), doctor.check_images('bundled'), sep='\\n')"
    ran = run_without(code, tmp_path)
    cache, images = ran.stdout.splitlines()

    assert "GB free" in cache
    assert "not made yet" in images or "in the cache" in images


def test_the_doctor_names_what_was_never_installed_once_with_one_command(tmp_path: Path) -> None:
    code = f"""
from gapctl.cli import doctor
known = doctor.find_version
absent = {{name for name in doctor.list_required_packages() if doctor.list_modules([name], thorough=True)[0].partition(
    ".")[0] in {BEYOND}}}
doctor.find_version = lambda name: None if name in absent else known(name)
from gapctl.cli.main import run
run(["doctor", "--json", "--thorough"])
"""
    ran = run_without(code, tmp_path)
    checks = json.loads(ran.stdout)["checks"]
    (wrong,) = [check for check in checks if check["state"] == "problem" and check["name"] != "memory"]

    assert ran.returncode == 1
    assert wrong["name"] == "packages"
    assert {"torch", "ray", "mlflow", "open-clip-torch"} <= set(re.findall(r"[\w-]+", wrong["found"]))
    assert wrong["fix"] == "python -m pip install gapctl"
    assert sum("torch" in check["found"] for check in checks) == 1
    assert next(check for check in checks if check["name"] == "imports")["state"] == "ok"


def test_golden_values_are_measured_from_python(tmp_path: Path) -> None:
    code = f"""
import gapctl, numpy
data = numpy.load({PAIRS!r})
found = gapctl.measure(*(data[name] for name in data.files[:2]))
print(found["gap/rmg"], found["gap/l2m"])
"""
    ran = run_without(code, tmp_path)

    assert ran.returncode == 0, ran.stderr
    official = json.loads((GOLDEN / "expected.json").read_text())["pairs_small"]
    rmg, l2m = map(float, ran.stdout.split())
    assert rmg == pytest.approx(official["rmg_off_diagonal"], rel=1e-6)
    assert l2m == pytest.approx(official["l2m"], rel=1e-6)


def test_a_package_that_is_missing_is_named_with_the_command_that_brings_it() -> None:
    assert is_installed("numpy.linalg")
    with pytest.raises(InputError, match=r"no_such_package is not installed.* Run `pip install no_such_package`"):
        require_packages("numpy", "no_such_package")
