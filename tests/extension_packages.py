"""Packages with metrics, treatments and losses: the example, installed for real, and small wrong ones."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gapctl.plan.plan import Plan, make_plan
from sweep_texts import loaded

EXAMPLE = Path(__file__).parent / "extension_package"
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
"""A sweep that uses all that the example offers."""


def install_example(folder: Path) -> Path:
    """Install the example package into `folder / "site"` as a user would, and return that folder."""
    source, site = folder / "source", folder / "site"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--target", str(site), str(source)]
    if importlib.util.find_spec("pip") is not None:
        command = [sys.executable, "-m", "pip", "install", "--no-index", *options]
    else:  # uv makes environments without pip
        command = ["uv", "pip", "install", "--offline", "--python", sys.executable, *options]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return site


def write_package(site: Path, name: str, code: str, **groups: Mapping[str, str]) -> Path:
    """Write a package of one module as an installer leaves it, with entry points `group={name: attribute}`."""
    module = name.replace("-", "_")
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(code)
    about = site / f"{module}-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[gapctl.{group}]", *(f"{key} = {module}:{value}" for key, value in points.items()), ""]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return site


def plan_of(folder: Path, content: str | dict[str, Any] = SWEEP) -> Plan:
    """The plan of a sweep file with this content, on data that nobody has to make."""
    return make_plan(loaded(folder, content), lambda data: "fingerprint")
