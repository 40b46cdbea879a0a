"""`gapctl doctor`: what this machine has and what is missing, with the fix."""

import importlib
import json
import os
import platform
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import typer

from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption
from gapctl.errors import GapctlError, InputError
from gapctl.folders import CACHE_REMEDY, cache_root, expand_home
from gapctl.proxies import bypass_proxies

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from rich.console import Console


STYLES: "dict[State, str]" = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def doctor_command(
    runs: RunsOption = DEFAULT_RUNS,
    tracking: Annotated[
        str | None, typer.Option("--tracking", help="MLflow's store, if not that of a sweep file without one.")
    ] = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also import the packages that take seconds each to load.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What this machine has and what is missing, with the fix.

    Starts nothing and changes nothing. A warning costs time or comfort; a problem stops a sweep, and makes the exit
    code 1.
    """
    from gapctl.cli.console import SafeConsole

    found, console = [], SafeConsole(quiet=as_json)
    with console.status("looking"):
        for check in _checks(runs, tracking, thorough):
            found.append(check)
            _print(check, console)
    totals = {state: sum(check.state == state for check in found) for state in STYLES}
    if as_json:
        typer.echo(json.dumps({"checks": [check._asdict() for check in found], "totals": totals}, indent=1))
    _conclude(totals, console)
    if totals["problem"]:
        raise typer.Exit(1)


def _checks(runs: str, tracking: str | None, thorough: bool) -> "Iterator[Check]":
    """Quick answers first; the imports, which take seconds, run meanwhile."""
    from gapctl.training.hardware import nvidia_driver

    running = Importing(modules_of(_required_packages(), thorough=thorough))
    yield from _guarded("Python", lambda: [python_check()])
    yield from _guarded("packages", package_checks)
    yield from machine_checks()
    yield from _guarded("folders", lambda: folder_checks(runs))
    yield from _guarded("MAD's images", lambda: [images_check("bundled")])
    yield from _guarded("MLflow", lambda: [tracking_check(tracking or usual_tracking())])
    imported = running.result()
    yield from import_checks(imported, thorough=thorough)
    yield from torch_checks(imported.torch, nvidia_driver())


def _required_packages() -> list[str]:
    """None where gapctl's metadata cannot be had, which is a problem that another check tells."""

    try:
        return required_packages()
    except ImportError:
        return []


def _guarded(name: str, look: "Callable[[], Sequence[Check]]") -> "Sequence[Check]":
    """What a look says, or that it cannot be taken since a package is missing."""

    try:
        return look()
    except ImportError as error:
        return [Check(name, "problem", f"cannot be looked at: {error}", "install gapctl and what it requires")]


def _print(check: "Check", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=7)
    line.add_column(width=16, overflow="fold")
    line.add_column(overflow="fold")
    line.add_row(Text(check.state, STYLES[check.state]), Text(check.name), Text(check.found))
    if check.fix and check.state != "ok":
        line.add_row("", "", Text(f"fix: {check.fix}"))
    console.print(line)


def _conclude(totals: "Mapping[State, int]", console: "Console") -> None:
    found = [f"{totals[state]} {state}{'s' * (totals[state] > 1)}" for state in ("problem", "warning") if totals[state]]
    console.print(" and ".join(found) or "everything is in order", highlight=False)


State = Literal["ok", "warning", "problem"]


class Check(NamedTuple):
    """A warning costs time or comfort, a problem stops a sweep; `fix` says in a line what to do about either."""

    name: str
    state: State
    found: str
    fix: str = ""


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

    from gapctl.training.step_options import resolve_precision

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


GB = 1e9
LEAST_MEMORY, MEMORY_PER_TRIAL = 1.5 * GB, 1.0 * GB
SHARED_MEMORY = 1.0 * GB
OPEN_FILES = 8192
"""What Ray recommends at least; it raises the soft limit to the hard one itself."""


def machine_checks() -> list[Check]:
    """Every check of this file, on this machine."""
    cores = usable_cores()
    return [
        cores_check(cores),
        memory_check(available_memory(), cores),
        shared_memory_check(Path("/dev/shm")),
        open_files_check(*resource.getrlimit(resource.RLIMIT_NOFILE)),
    ]


def cores_check(cores: int) -> Check:
    """A sweep trains as many trials at once as there are cores."""
    if cores > 1:
        return Check("cores", "ok", f"{cores}: a sweep trains {cores} trials at once")
    return Check("cores", "warning", "1: a sweep trains one trial after another", "use a machine with more cores")


def memory_check(available: float | None, cores: int) -> Check:
    """Every trial that is being trained takes about a gigabyte, and Ray half of one."""
    if available is None:
        return Check("memory", "ok", "this system does not tell")
    found, wanted = f"{available / GB:.1f} GB available", MEMORY_PER_TRIAL * (cores + 1)
    if available < LEAST_MEMORY:
        return Check("memory", "problem", found, f"free some: Ray and one trial need about {LEAST_MEMORY / GB:.1f} GB")
    if available < wanted:
        fix = f"free some, or train fewer trials at once with --set resources.cpus={cores}"
        return Check("memory", "warning", f"{found}, {cores} trials at once want {wanted / GB:.0f} GB", fix)
    return Check("memory", "ok", found)


def shared_memory_check(folder: Path) -> Check:
    """Ray shares arrays between processes there, and on a slower disk where there is no room."""
    if not folder.is_dir():
        elsewhere = sys.platform != "linux"
        return Check("shared memory", "ok" if elsewhere else "warning", f"there is no {folder}; Ray uses a disk")
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.2f} GB free in {folder}"
    if free < SHARED_MEMORY:
        fix = "in Docker add --shm-size=2g; otherwise enlarge or empty it. Until then Ray uses a disk, which is slower"
        return Check("shared memory", "warning", found, fix)
    return Check("shared memory", "ok", found)


def open_files_check(soft: int, hard: int) -> Check:
    """Ray opens many sockets and files; minus one stands for no limit."""
    raised = f", which Ray may raise to {_limit(hard)}" if soft != hard else ""
    found = f"limit {_limit(soft)}{raised}"
    if 0 <= hard < OPEN_FILES:
        fix = f"raise it before a sweep: ulimit -Hn {OPEN_FILES} as root, or in /etc/security/limits.conf"
        return Check("open files", "warning", found, fix)
    return Check("open files", "ok", found)


def _limit(number: int) -> str:
    return "no limit" if number in (-1, resource.RLIM_INFINITY) else f"{number:,}"


def usable_cores() -> int:
    """Cores that this process may use: those it is bound to, or fewer where a container has a quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, _, period = (_read("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return min(cores, max(1, int(quota) // int(period))) if quota.isdigit() and period.strip().isdigit() else cores


def available_memory() -> float | None:
    """Bytes that can be had without swapping, within a container's limit; None where the system does not tell."""
    lines = (_read("/proc/meminfo") or "").splitlines()
    found = [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit and used and limit.isdigit():
        found.append(max(0.0, float(limit) - float(used)))
    return min(found, default=None)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None


OURS = "gapctl"


class Need(NamedTuple):
    """A package that another one requires."""

    owner: str
    requirement: "Requirement"


def python_check() -> Check:
    """Python's version against what gapctl asks for."""
    from packaging.specifiers import SpecifierSet

    found, wanted = platform.python_version(), metadata(OURS)["Requires-Python"]
    if found in SpecifierSet(wanted):
        return Check("Python", "ok", found)
    return Check("Python", "problem", f"{found}, and gapctl requires {wanted}", "make .venv anew with a newer Python")


def package_checks(package: str = OURS) -> list[Check]:
    """One line for all packages that are as required, and one for each that is not.

    What `package` itself requires is a problem if it is too old; so is anything missing. Raises PackageNotFoundError
    where `package` is not installed.
    """
    needs = list(_all_needs(package))
    wrong = [check for need in needs for check in _check(need, ours=need.owner == package)]
    if wrong:
        return wrong
    ours = sum(need.owner == package for need in needs)
    others = len({need.requirement.name.lower() for need in needs}) - ours
    return [Check("packages", "ok", f"{ours} and the {others} that they need, all as required")]


def required_packages() -> list[str]:
    """The packages that gapctl itself asks for on this system; raises PackageNotFoundError if it is not installed."""
    return [requirement.name for requirement in _requirements(OURS, ())]


def _all_needs(package: str) -> Iterator[Need]:
    """Every requirement of a package and of what it requires, each once."""
    seen, todo = set(), [Need(package, requirement) for requirement in _requirements(package, ())]
    while todo:
        need = todo.pop(0)
        if str(need.requirement) in seen:
            continue
        seen.add(str(need.requirement))
        yield need
        name = need.requirement.name
        if _installed(name):
            todo += [Need(name, requirement) for requirement in _requirements(name, need.requirement.extras)]


def _requirements(package: str, extras: Collection[str]) -> "list[Requirement]":
    from packaging.requirements import Requirement

    listed = [Requirement(line) for line in requires(package) or []]
    asked = ("", *extras)
    return [
        requirement
        for requirement in listed
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in asked)
    ]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _check(need: Need, *, ours: bool) -> Iterator[Check]:
    name, wanted = need.requirement.name, need.requirement.specifier
    found, fix = _installed(name), f'python -m pip install "{need.requirement.name}{wanted}"'
    if found is None:
        yield Check(name, "problem", f"not installed; {need.owner} requires it", fix)
    elif not wanted.contains(found, prereleases=True):
        state: State = "problem" if ours else "warning"
        yield Check(name, state, f"{found}, and {need.owner} requires {name}{wanted}", fix)


LEAST_SPACE, WANTED_SPACE = 0.2 * GB, 2.0 * GB
RAY_STOPS_AT = 0.95
"""How full a disk may be for Ray to write shared arrays to it."""
ANSWER_SECONDS = 2.0


def folder_checks(runs: str) -> list[Check]:
    """The runs folder (or an object store's address), the cache, and Ray's temporary folder."""
    from gapctl.sweep.ray_session import default_ray_folder

    return [runs_check(runs), cache_check(), temporary_check(default_ray_folder())]


def usual_tracking() -> str:
    """MLflow's store of a sweep file that names none."""
    from gapctl.config.sweep import Tracking

    return Tracking().uri


def runs_check(runs: str) -> Check:
    """The ledger; an object store is not asked."""
    if "://" in runs:
        return Check("runs", "ok", f"{runs}: an object store, which is not asked now")
    return folder_check("runs", expand_home(runs).absolute(), "give another folder with --runs or GAPCTL_RUNS")


def cache_check() -> Check:
    """The folder of MAD's images."""
    from gapctl.data.mad.images import cache_folder

    try:
        return folder_check("cache", cache_folder(), CACHE_REMEDY)
    except InputError:
        return Check("cache", "problem", "no home folder is known", CACHE_REMEDY)


def folder_check(name: str, folder: Path, elsewhere: str) -> Check:
    """Whether the folder, or the nearest one above it that there is, can be written, and how much room it has."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return Check(name, "problem", f"{folder}: cannot be written ({error.strerror})", elsewhere)
    found, fix = f"{folder}: {free / GB:,.1f} GB free", f"free some space, or {elsewhere}"
    if free < LEAST_SPACE:
        return Check(name, "problem", found, fix)
    return Check(name, "warning", found, fix) if free < WANTED_SPACE else Check(name, "ok", found)


def images_check(source: str) -> Check:
    """Whether MAD's images are in the cache, both splits whole."""
    from gapctl.data.mad.images import find_variants
    from gapctl.data.mad.source import SPLITS

    try:
        cache_root()
    except InputError as error:
        return Check("MAD's images", "warning", "not made yet", str(error))
    try:
        splits = [find_variants(source, split) for split in SPLITS]
    except GapctlError as error:
        return Check("MAD's images", "problem", str(error), "install gapctl again")
    found = [split.images_NVHW.shape[:2] for split in splits if split is not None]
    if len(found) < len(splits):
        fix = "gapctl data mad makes them in about a minute; a sweep does it too"
        return Check("MAD's images", "warning", "not made yet", fix)
    return Check("MAD's images", "ok", f"{sum(digits * shapes for digits, shapes in found):,} in the cache")


def temporary_check(folder: Path) -> Check:
    """Ray's sessions live there, and shared arrays that do not fit into shared memory."""
    from gapctl.sweep.ray_session import SHORT, find_fault

    fault = find_fault(folder)
    used = Path(SHORT) if fault and not folder.is_dir() else folder
    elsewhere = "" if fault is None else f"; Ray's sockets go to {SHORT} instead: {fault}"
    if fault is not None and not os.access(SHORT, os.W_OK | os.X_OK):
        found = f"{folder}: {fault}; and {SHORT}, where Ray's sockets would go instead, cannot be written"
        return Check("temporary folder", "problem", found, "set RAY_TMPDIR to a short folder that can be written")
    disk = shutil.disk_usage(used)
    share = disk.used / (disk.used + disk.free)
    found = (
        f"{folder}: the disk of {used} is {share:.0%} full"
        if used != folder
        else f"{folder}: its disk is {share:.0%} full"
    )
    if share > RAY_STOPS_AT:
        fix = f"free some space: Ray writes no arrays to a disk that is over {RAY_STOPS_AT:.0%} full"
        return Check("temporary folder", "warning", f"{found}{elsewhere}", fix)
    return Check("temporary folder", "ok", f"{found}{elsewhere}")


def tracking_check(uri: str) -> Check:
    """Whether MLflow's store can be written, or will be able to once a sweep makes it."""
    from gapctl.tracking.store import OtherDatabaseError, check_uri, database_file, is_server

    try:
        check_uri(uri)
    except OtherDatabaseError as error:
        return Check("MLflow", "problem", error.finding, error.fix)
    except InputError as error:
        return Check("MLflow", "problem", str(error), "correct tracking.uri")
    if is_server(uri):
        return _server_check(uri)
    file = database_file(uri)
    return _database_check(file) if file else Check("MLflow", "ok", "a database server, which is not asked now")


def _database_check(file: Path) -> Check:
    if not file.exists() or not file.stat().st_size:
        return Check("MLflow", "ok", f"{file}: the first sweep makes it")
    from gapctl.tracking.store import open_to_read

    try:
        with closing(open_to_read(file)) as store:
            (runs,) = store.execute("SELECT COUNT(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()
    except sqlite3.Error as error:
        fix = "move it away; `gapctl track sync FILE` makes it anew from the ledger"
        return Check("MLflow", "problem", f"{file}: no MLflow store can be read there ({error})", fix)
    return Check("MLflow", "ok", f"{file}: {runs:,} runs")


def _server_check(uri: str) -> Check:
    from gapctl.config.base import without_password

    shown = without_password(uri)
    bypass_proxies(uri)
    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
            return Check("MLflow", "ok", f"{shown}: answers")
    except (URLError, OSError, ValueError) as error:
        fix = "start it; a sweep keeps its metrics meanwhile, and `gapctl track sync FILE` catches up"
        return Check("MLflow", "warning", f"{shown}: does not answer ({getattr(error, 'reason', error)})", fix)
