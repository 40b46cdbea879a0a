"""Imports packages in processes of their own, so that one that hangs or crashes is only an answer.

Run as a module it is such a process: it prints a JSON line after each import, and what torch sees of the machine.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapctl.cli.checkup.check import Check

LONGEST_SECONDS = 120.0
MODULES = {
    "open-clip-torch": "open_clip",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scipy": "scipy.linalg",
    "vl-convert-python": "vl_convert",
}
"""What to import of a package that is not named like its module, or whose module alone loads no machine code."""
SLOW = ("torchvision", "open_clip", "ray.tune", "scipy.stats")
"""Modules that take seconds each, and that only a thorough look imports."""
WITH_TORCH = frozenset({"torch", "torchvision", "open_clip", "webdataset"})
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Imported:
    """Which modules loaded, why others did not, and what torch says of the machine (empty without torch)."""

    loaded: tuple[str, ...]
    errors: dict[str, str]
    torch: dict[str, Any] = field(default_factory=dict)


def modules_of(packages: Iterable[str], *, thorough: bool) -> list[str]:
    """The modules by which one sees whether packages load."""
    names = [package.lower().replace("_", "-") for package in packages]
    modules = [MODULES.get(name, name.replace("-", "_")) for name in names]
    return list(dict.fromkeys([*modules, *SLOW])) if thorough else [name for name in modules if name not in SLOW]


class Importing:
    """Imports that run while something else is looked at: those that need torch apart from the others."""

    def __init__(self, modules: Iterable[str]) -> None:
        everything = list(modules)
        self._parts = [
            part
            for part in (
                [module for module in everything if module in WITH_TORCH],
                [module for module in everything if module not in WITH_TORCH],
            )
            if part
        ]
        self._children = [_start(part) for part in self._parts]
        self._deadline = time.monotonic() + LONGEST_SECONDS

    def result(self) -> Imported:
        """Waits for the imports, two minutes at most."""
        lines: list[dict[str, Any]] = []
        for part, child in zip(self._parts, self._children, strict=True):
            lines += _answers(part, child, max(0.1, self._deadline - time.monotonic()))
        return Imported(
            loaded=tuple(line["module"] for line in lines if "module" in line and line["error"] is None),
            errors={line["module"]: line["error"] for line in lines if line.get("error")},
            torch=next((line["torch"] for line in lines if "torch" in line), {}),
        )


def import_checks(imported: Imported, *, thorough: bool) -> list[Check]:
    """One line for the modules that load, and one for each that does not."""
    wrong = [
        Check(f"import {module}", "problem", error, "install the package again, with what it asks for")
        for module, error in imported.errors.items()
    ]
    more = "" if thorough else f"; --thorough tries {len(SLOW)} slow ones too"
    fine = [Check("imports", "ok", f"{len(imported.loaded)} load{more}")] if imported.loaded else []
    return [*fine, *wrong]


def torch_checks(seen: dict[str, Any], driver: str | None) -> list[Check]:
    """The number format of `precision: auto` and the GPUs; `driver` is the version of NVIDIA's, if any."""
    if not seen:
        return []
    units = ", ".join(seen["units"]) or "no AVX512, AMX or bfloat16 units"
    precision = Check("number format", "ok", f"{units}: precision auto trains in {seen['precision']}")
    return [precision, _gpu_check(seen, driver)]


def _gpu_check(seen: dict[str, Any], driver: str | None) -> Check:
    if seen["gpus"]:
        return Check("GPU", "ok", ", ".join(seen["gpus"]))
    if driver is None:
        return Check("GPU", "ok", "none: trials train on the processor")
    found = f"NVIDIA driver {driver} is loaded, but torch {seen['torch']} cannot use a GPU"
    otherwise = "Until then a trial for which a GPU is reserved fails; --set resources.gpus=0 trains on the processor"
    if seen["cuda"] is None:
        return Check(
            "GPU", "warning", f"{found}: it was built without CUDA", f"install torch's CUDA build. {otherwise}"
        )
    fix = f"see whether nvidia-smi shows one, and whether the driver is new enough for that CUDA. {otherwise}"
    return Check("GPU", "warning", f"{found}: torch.cuda.is_available() is false with CUDA {seen['cuda']}", fix)


def _start(modules: Sequence[str]) -> "subprocess.Popen[str]":
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", __name__, *modules],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **QUIET, "PYTHONPATH": path},
    )


def _answers(modules: Sequence[str], child: "subprocess.Popen[str]", seconds: float) -> list[dict[str, Any]]:
    """What a process wrote; the module at which it was lost gets the reason for an error."""
    try:
        written, lost = child.communicate(timeout=seconds)[0], ""
    except subprocess.TimeoutExpired:
        child.kill()
        written, lost = child.communicate()[0], f"did not load within {LONGEST_SECONDS:.0f} s"
    lines = [json.loads(line) for line in written.splitlines() if line.endswith("}")]
    if child.returncode and not lost:
        lost = f"the process died while importing it (exit status {child.returncode})"
    finished = {line["module"] for line in lines if "module" in line}
    missing = [module for module in modules if module not in finished]
    if lost and missing:
        lines.append({"module": missing[0], "error": lost})
    return lines


def _import(module: str) -> str | None:
    """The error of an import, or None."""
    try:
        importlib.import_module(module)
    except BaseException as error:  # a package may raise anything, SystemExit included
        first = str(error).strip().splitlines()
        return f"{type(error).__name__}: {first[0] if first else ''}".rstrip(": ")
    return None


def _torch_sees() -> dict[str, Any]:
    import torch

    from gapctl.training.precision import resolve_precision

    units = {
        "AVX512": torch.cpu._is_avx512_supported(),
        "AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
        "AMX": torch.cpu._is_amx_tile_supported(),
    }
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_properties(index) for index in range(count)]
    return {
        "units": [name for name, there in units.items() if there],
        "precision": resolve_precision("auto", torch.device("cuda" if gpus else "cpu")),
        "gpus": [f"{gpu.name} ({gpu.total_memory / 1e9:.0f} GB)" for gpu in gpus],
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
    }


def main(modules: Sequence[str]) -> None:
    """Imports the modules and writes what came of it; whatever they print goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for module in modules:
            answers.write(json.dumps({"module": module, "error": _import(module)}) + "\n")
            answers.flush()
        if "torch" in modules and "torch" in sys.modules:
            answers.write(json.dumps({"torch": _torch_sees()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
