"""`gapctl doctor`: check what this machine has and what is missing, and name the fix.

`doctor_command` prints the results of the checks of `CHECKS`, one after another, then those of imports and torch.
Imports run meanwhile in child processes, which start this module as a script (`ImportProbe`). A check compares what it
found with its rules in order (`_apply_check_rules`): the first one that is broken gives the state and the fix.
"""

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
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, TypedDict
from urllib.error import URLError
from urllib.request import urlopen

import typer
from rich.table import Table
from rich.text import Text

from gapctl.cli.console import SafeConsole
from gapctl.cli.options import DEFAULT_RUNS, JsonOption, RunsOption
from gapctl.cli.output import describe_counts, print_json_or_text
from gapctl.config.sweep import Tracking
from gapctl.errors import GapctlError, InputError, find_version, is_installed
from gapctl.folders import CACHE_REMEDY, expand_home, find_cache_root
from gapctl.io.passwords import hide_password
from gapctl.proxies import bypass_proxies
from gapctl.sweep.ray_session import SHORT_FOLDER, explain_unusable_ray_folder, find_default_ray_folder
from gapctl.tracking.store import OtherDatabaseError, check_uri, find_database_file, is_server_address, open_read_only
from gapctl.training.nvidia import read_nvidia_driver

if TYPE_CHECKING:
    from packaging.requirements import Requirement

CheckState = Literal["ok", "warning", "problem"]
STATE_STYLES: Final[dict[CheckState, str]] = {"ok": "green", "warning": "yellow", "problem": "bold red"}

GB = 1e9
LEAST_MEMORY, MEMORY_PER_TRIAL = 1.5 * GB, 1.0 * GB
SHARED_MEMORY = 1.0 * GB
LEAST_SPACE, WANTED_SPACE = 0.2 * GB, 2.0 * GB
OPEN_FILES = 8192
"""The least that Ray recommends; Ray raises the soft limit to the hard one by itself."""
RAY_DISK_LIMIT = 0.95
"""The fullest that a disk may be for Ray to write shared arrays to it."""
SERVER_TIMEOUT_SECONDS = 2.0
GAPCTL_PACKAGE = "gapctl"
BRING_ALL = "python -m pip install gapctl"
"""The command that installs what an environment for measuring alone leaves out."""

IMPORT_TIMEOUT_SECONDS = 120.0
MODULE_OF_PACKAGE = {
    "open-clip-torch": "open_clip",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scipy": "scipy.linalg",
    "vl-convert-python": "vl_convert",
}
"""Modules to import for packages of another name, or whose main module loads no machine code."""
SLOW_MODULES = ("torchvision", "open_clip", "ray.tune", "scipy.stats")
"""Modules that take seconds each, which only `--thorough` imports."""
TORCH_MODULES = frozenset({"torch", "torchvision", "open_clip", "webdataset"})
QUIET_ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}


class CheckResult(NamedTuple):
    """A warning costs time or comfort, a problem stops a sweep; `fix` is a line on what to do about either."""

    name: str
    state: CheckState
    found: str
    fix: str = ""


class CheckRule(NamedTuple):
    """A rule that a check's finding may break: the state that this means, what it adds to the finding, and the fix."""

    broken: bool
    state: CheckState
    fix: str
    adds: str = ""


def _apply_check_rules(name: str, found: str, *rules: CheckRule) -> CheckResult:
    """Return the result of a check by the first of its rules that is broken; it is fine where none is."""
    for rule in rules:
        if rule.broken:
            return CheckResult(name, rule.state, found + rule.adds, rule.fix)
    return CheckResult(name, "ok", found)


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
    found, console = [], SafeConsole(quiet=as_json)
    with console.status("looking"):
        for check in _run_checks(runs, tracking or Tracking().uri, thorough):
            found.append(check)
            _print_check(check, console)
    totals = {state: sum(check.state == state for check in found) for state in STATE_STYLES}
    summary = describe_counts({state: totals[state] for state in ("problem", "warning")}) or "everything is in order"
    document = {"checks": [check._asdict() for check in found], "totals": totals}
    print_json_or_text(document, lambda: console.print(summary), as_json)
    if totals["problem"]:
        raise typer.Exit(1)


def _run_checks(runs: str, tracking: str, thorough: bool) -> Iterator[CheckResult]:
    """Yield the quick checks first; the imports, which take seconds, run meanwhile."""
    try:
        packages = list_required_packages()
    except ImportError:  # gapctl's metadata is missing, which `check_packages` reports
        packages = []
    absent = [package for package in packages if find_version(package) is None]
    modules = list_modules(packages, thorough=thorough)
    without = {list_modules([package], thorough=True)[0].partition(".")[0] for package in absent}
    running = ImportProbe([module for module in modules if module.partition(".")[0] not in without])
    for name, look in CHECKS:
        try:
            yield from look(runs, tracking)
        except ImportError as error:
            missing = error.name is not None and not is_installed(error.name)
            if missing and absent:  # said once, by `check_packages`
                continue
            reason = f"{error.name} is not installed" if missing else str(error)
            yield CheckResult(name, "problem", f"cannot be looked at: {reason}", BRING_ALL)
    imported = running.result()
    yield from check_imports(imported, thorough=thorough)
    yield from check_torch(imported.torch, read_nvidia_driver())


def _print_check(check: CheckResult, console: SafeConsole) -> None:
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=7)
    line.add_column(width=16, overflow="fold")
    line.add_column(overflow="fold")
    line.add_row(Text(check.state, STATE_STYLES[check.state]), check.name, check.found)
    if check.fix and check.state != "ok":
        line.add_row("", "", f"fix: {check.fix}")
    console.print(line)


def check_machine() -> list[CheckResult]:
    """Check this machine's cores, memory, shared memory and open files."""
    cores = count_usable_cores()
    return [
        check_cores(cores),
        check_memory(read_available_memory(), cores),
        check_shared_memory(Path("/dev/shm")),
        check_open_files(*resource.getrlimit(resource.RLIMIT_NOFILE)),
    ]


def check_cores(cores: int) -> CheckResult:
    """Check the cores: a sweep trains as many trials at once."""
    trains = f"{cores} trials at once" if cores > 1 else "one trial after another"
    few = CheckRule(cores <= 1, "warning", "use a machine with more cores")
    return _apply_check_rules("cores", f"{cores}: a sweep trains {trains}", few)


def check_memory(available: float | None, cores: int) -> CheckResult:
    """Check the memory: every trial in training takes about a gigabyte, and Ray half of one."""
    if available is None:
        return CheckResult("memory", "ok", "this system does not tell")
    wanted = MEMORY_PER_TRIAL * (cores + 1)
    least = f"free some: Ray and one trial need about {LEAST_MEMORY / GB:.1f} GB"
    fewer = f"free some, or train fewer trials at once with --set resources.cpus={cores}"
    return _apply_check_rules(
        "memory",
        f"{available / GB:.1f} GB available",
        CheckRule(available < LEAST_MEMORY, "problem", least),
        CheckRule(available < wanted, "warning", fewer, f", {cores} trials at once want {wanted / GB:.0f} GB"),
    )


def check_shared_memory(folder: Path) -> CheckResult:
    """Check shared memory, where Ray shares arrays between processes; it uses a slower disk without room there."""
    if not folder.is_dir():
        elsewhere = sys.platform != "linux"
        return CheckResult("shared memory", "ok" if elsewhere else "warning", f"there is no {folder}; Ray uses a disk")
    free = shutil.disk_usage(folder).free
    fix = "in Docker add --shm-size=2g; otherwise enlarge or empty it. Until then Ray uses a disk, which is slower"
    found = f"{free / GB:.2f} GB free in {folder}"
    return _apply_check_rules("shared memory", found, CheckRule(free < SHARED_MEMORY, "warning", fix))


def check_open_files(soft: int, hard: int) -> CheckResult:
    """Check the limit of open files, as Ray opens many; minus one stands for no limit."""
    raised = f", which Ray may raise to {_format_limit(hard)}" if soft != hard else ""
    fix = f"raise it before a sweep: ulimit -Hn {OPEN_FILES} as root, or in /etc/security/limits.conf"
    few = CheckRule(0 <= hard < OPEN_FILES, "warning", fix)
    return _apply_check_rules("open files", f"limit {_format_limit(soft)}{raised}", few)


def _format_limit(number: int) -> str:
    return "no limit" if number in (-1, resource.RLIM_INFINITY) else f"{number:,}"


def count_usable_cores() -> int:
    """Count the cores that this process may use: by its affinity, or fewer by a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, _, period = (_read_system_file("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return min(cores, max(1, int(quota) // int(period))) if quota.isdigit() and period.strip().isdigit() else cores


def read_available_memory() -> float | None:
    """Return bytes available without swapping, within a container's limit; None where the system reports none."""
    lines = (_read_system_file("/proc/meminfo") or "").splitlines()
    found = [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = _read_system_file("/sys/fs/cgroup/memory.max"), _read_system_file("/sys/fs/cgroup/memory.current")
    if limit and used and limit.isdigit():
        found.append(max(0.0, float(limit) - float(used)))
    return min(found, default=None)


def _read_system_file(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None


def check_python() -> CheckResult:
    """Check Python's version against gapctl's requirement."""
    from packaging.specifiers import SpecifierSet

    found, wanted = platform.python_version(), metadata(GAPCTL_PACKAGE)["Requires-Python"]
    fix, adds = "make .venv anew with a newer Python", f", and gapctl requires {wanted}"
    return _apply_check_rules("Python", found, CheckRule(found not in SpecifierSet(wanted), "problem", fix, adds))


def check_packages(package: str = GAPCTL_PACKAGE) -> list[CheckResult]:
    """Return a result for all packages that are as required, and one for each that is not.

    A requirement of `package` itself that is too old is a problem; so is anything missing. Several that are missing
    are one result, as an environment for measuring alone lacks most. Raise PackageNotFoundError where `package` is not
    installed.
    """
    needs = list(_list_dependencies(package))
    wrong = []
    absent = sorted({need.name for owner, need in needs if owner == package and find_version(need.name) is None})
    if len(absent) > 1:
        listed = f"{len(absent)} are not installed: {', '.join(absent)}. Sweeps and models need them"
        wrong.append(CheckResult("packages", "problem", f"{listed}; measuring embeddings does not", BRING_ALL))
        needs = [(owner, need) for owner, need in needs if need.name not in absent]
    for owner, need in needs:
        name, wanted, found = need.name, need.specifier, find_version(need.name)
        fix = f'python -m pip install "{name}{wanted}"'
        if found is None:
            wrong.append(CheckResult(name, "problem", f"not installed; {owner} requires it", fix))
        elif not wanted.contains(found, prereleases=True):
            state: CheckState = "problem" if owner == package else "warning"
            wrong.append(CheckResult(name, state, f"{found}, and {owner} requires {name}{wanted}", fix))
    if wrong:
        return wrong
    ours = sum(owner == package for owner, _ in needs)
    others = len({need.name.lower() for _, need in needs}) - ours
    return [CheckResult("packages", "ok", f"{ours} and the {others} that they need, all as required")]


def list_required_packages() -> list[str]:
    """List gapctl's own requirements on this system; raise PackageNotFoundError if it is not installed."""
    return [requirement.name for requirement in _list_requirements(GAPCTL_PACKAGE, ())]


def _list_dependencies(package: str) -> "Iterator[tuple[str, Requirement]]":
    """Yield every requirement of a package and of its requirements, each once, with the package that has it."""
    seen, todo = set(), [(package, requirement) for requirement in _list_requirements(package, ())]
    while todo:
        owner, need = todo.pop(0)
        if str(need) in seen:
            continue
        seen.add(str(need))
        yield owner, need
        if find_version(need.name):
            todo += [(need.name, requirement) for requirement in _list_requirements(need.name, need.extras)]


def _list_requirements(package: str, extras: Collection[str]) -> "list[Requirement]":
    from packaging.requirements import Requirement

    listed = [Requirement(line) for line in requires(package) or []]
    asked = ("", *extras)
    return [
        requirement
        for requirement in listed
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in asked)
    ]


def check_runs(runs: str) -> CheckResult:
    """Check the ledger's folder; do not contact an object store."""
    if "://" in runs:
        return CheckResult("runs", "ok", f"{runs}: an object store, which is not asked now")
    return check_folder("runs", expand_home(runs).absolute(), "give another folder with --runs or GAPCTL_RUNS")


def check_cache() -> CheckResult:
    """Check the folder of MAD's images."""
    from gapctl.data.mad.images import find_cache_folder

    try:
        return check_folder("cache", find_cache_folder(), CACHE_REMEDY)
    except InputError:
        return CheckResult("cache", "problem", "no home folder is known", CACHE_REMEDY)


def check_folder(name: str, folder: Path, elsewhere: str) -> CheckResult:
    """Check whether the folder, or its nearest existing parent, can be written, and how much space it has."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return CheckResult(name, "problem", f"{folder}: cannot be written ({error.strerror})", elsewhere)
    fix = f"free some space, or {elsewhere}"
    return _apply_check_rules(
        name,
        f"{folder}: {free / GB:,.1f} GB free",
        CheckRule(free < LEAST_SPACE, "problem", fix),
        CheckRule(free < WANTED_SPACE, "warning", fix),
    )


def check_temporary_folder(folder: Path) -> CheckResult:
    """Check Ray's temporary folder, which has its sessions and the arrays that do not fit into shared memory."""
    fault = explain_unusable_ray_folder(folder)
    used = Path(SHORT_FOLDER) if fault and not folder.is_dir() else folder
    if fault is not None and not os.access(SHORT_FOLDER, os.W_OK | os.X_OK):
        found = f"{folder}: {fault}; and {SHORT_FOLDER}, where Ray's sockets would go instead, cannot be written"
        return CheckResult("temporary folder", "problem", found, "set RAY_TMPDIR to a short folder that can be written")
    disk = shutil.disk_usage(used)
    share = disk.used / (disk.used + disk.free)
    named = f"the disk of {used}" if used != folder else "its disk"
    elsewhere = "" if fault is None else f"; Ray's sockets go to {SHORT_FOLDER} instead: {fault}"
    fix = f"free some space: Ray writes no arrays to a disk that is over {RAY_DISK_LIMIT:.0%} full"
    found = f"{folder}: {named} is {share:.0%} full{elsewhere}"
    return _apply_check_rules("temporary folder", found, CheckRule(share > RAY_DISK_LIMIT, "warning", fix))


def check_images(source: str) -> CheckResult:
    """Check whether MAD's images are in the cache, both splits whole."""
    from gapctl.data.mad.images import find_variant_images
    from gapctl.data.mad.source import SPLITS

    try:
        find_cache_root()
    except InputError as error:
        return CheckResult("MAD's images", "warning", "not made yet", str(error))
    try:
        splits = [find_variant_images(source, split) for split in SPLITS]
    except GapctlError as error:
        return CheckResult("MAD's images", "problem", str(error), "install gapctl again")
    found = [split.images_NVHW.shape[:2] for split in splits if split is not None]
    if len(found) < len(splits):
        fix = "gapctl data mad makes them in about a minute; a sweep does it too"
        return CheckResult("MAD's images", "warning", "not made yet", fix)
    return CheckResult("MAD's images", "ok", f"{sum(digits * shapes for digits, shapes in found):,} in the cache")


def check_tracking(uri: str) -> CheckResult:
    """Check whether MLflow's store can be written, or can be once a sweep makes it."""
    try:
        check_uri(uri)
    except OtherDatabaseError as error:
        return CheckResult("MLflow", "problem", error.finding, error.fix)
    except InputError as error:
        return CheckResult("MLflow", "problem", str(error), "correct tracking.uri")
    if is_server_address(uri):
        return _check_server(uri)
    file = find_database_file(uri)
    if file is None:
        return CheckResult("MLflow", "ok", "a database server, which is not asked now")
    if not file.exists() or not file.stat().st_size:
        return CheckResult("MLflow", "ok", f"{file}: the first sweep makes it")
    try:
        with closing(open_read_only(file)) as store:
            (runs,) = store.execute("SELECT COUNT(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()
    except sqlite3.Error as error:
        fix = "move it away; `gapctl track sync FILE` makes it anew from the ledger"
        return CheckResult("MLflow", "problem", f"{file}: no MLflow store can be read there ({error})", fix)
    return CheckResult("MLflow", "ok", f"{file}: {runs:,} runs")


def _check_server(uri: str) -> CheckResult:
    shown = hide_password(uri)
    bypass_proxies(uri)
    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=SERVER_TIMEOUT_SECONDS):
            return CheckResult("MLflow", "ok", f"{shown}: answers")
    except (URLError, OSError, ValueError) as error:
        fix = "start it; a sweep keeps its metrics meanwhile, and `gapctl track sync FILE` catches up"
        return CheckResult("MLflow", "warning", f"{shown}: does not answer ({getattr(error, 'reason', error)})", fix)


CHECKS: Final[tuple[tuple[str, Callable[[str, str], Iterable[CheckResult]]], ...]] = (
    ("Python", lambda runs, tracking: [check_python()]),
    ("packages", lambda runs, tracking: check_packages()),
    ("machine", lambda runs, tracking: check_machine()),
    (
        "folders",
        lambda runs, tracking: [check_runs(runs), check_cache(), check_temporary_folder(find_default_ray_folder())],
    ),
    ("MAD's images", lambda runs, tracking: [check_images("bundled")]),
    ("MLflow", lambda runs, tracking: [check_tracking(tracking)]),
)
"""The quick checks by name, each from the ledger's folder and MLflow's store."""


class TorchFacts(TypedDict):
    """What torch says of the machine: the processor's units and the GPUs by name, and CUDA's and its own version."""

    units: list[str]
    precision: str
    gpus: list[str]
    cuda: str | None
    torch: str


class ImportAnswer(TypedDict, total=False):
    """A line of a process that imports: a module with its error, None if it loaded; or at last torch's facts."""

    module: str
    error: str | None
    torch: TorchFacts


class ImportResults(NamedTuple):
    """The modules that loaded, the errors of others, and torch's facts about the machine (None without torch)."""

    loaded: tuple[str, ...]
    errors: dict[str, str]
    torch: TorchFacts | None


def list_modules(packages: Iterable[str], *, thorough: bool) -> list[str]:
    """List the modules whose import shows that packages load."""
    names = [package.lower().replace("_", "-") for package in packages]
    modules = [MODULE_OF_PACKAGE.get(name, name.replace("-", "_")) for name in names]
    return (
        list(dict.fromkeys([*modules, *SLOW_MODULES]))
        if thorough
        else [name for name in modules if name not in SLOW_MODULES]
    )


class ImportProbe:
    """Imports that run during the other checks: modules that need torch in one process, the others in another."""

    def __init__(self, modules: Iterable[str]) -> None:
        """Start the imports in processes of their own."""
        parts: tuple[list[str], list[str]] = ([], [])
        for module in modules:
            parts[module not in TORCH_MODULES].append(module)
        self._parts = [part for part in parts if part]
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        self._children = [
            subprocess.Popen(
                [sys.executable, "-m", __name__, *part],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **QUIET_ENVIRONMENT, "PYTHONPATH": path},
            )
            for part in self._parts
        ]
        self._deadline = time.monotonic() + IMPORT_TIMEOUT_SECONDS

    def result(self) -> ImportResults:
        """Wait for the imports, two minutes at most, and return their results."""
        lines: list[ImportAnswer] = []
        for part, child in zip(self._parts, self._children, strict=True):
            lines += _collect_answers(part, child, max(0.1, self._deadline - time.monotonic()))
        return ImportResults(
            loaded=tuple(line["module"] for line in lines if "module" in line and line["error"] is None),
            errors={line["module"]: error for line in lines if (error := line.get("error"))},
            torch=next((line["torch"] for line in lines if "torch" in line), None),
        )


def _collect_answers(modules: Sequence[str], child: subprocess.Popen[str], seconds: float) -> list[ImportAnswer]:
    """Collect what a process wrote; a module at which it died or hung gets the reason as its error."""
    try:
        written, lost = child.communicate(timeout=seconds)[0], ""
    except subprocess.TimeoutExpired:
        child.kill()
        written, lost = child.communicate()[0], f"did not load within {IMPORT_TIMEOUT_SECONDS:.0f} s"
    lines: list[ImportAnswer] = [json.loads(line) for line in written.splitlines() if line.endswith("}")]
    if child.returncode and not lost:
        lost = f"the process died while importing it (exit status {child.returncode})"
    finished = {line["module"] for line in lines if "module" in line}
    missing = [module for module in modules if module not in finished]
    if lost and missing:
        lines.append({"module": missing[0], "error": lost})
    return lines


def check_imports(imported: ImportResults, *, thorough: bool) -> list[CheckResult]:
    """Return a result for all modules that load, and one for each that does not."""
    wrong = [
        CheckResult(f"import {module}", "problem", error, "install the package again, with what it asks for")
        for module, error in imported.errors.items()
    ]
    more = "" if thorough else f"; --thorough tries {len(SLOW_MODULES)} slow ones too"
    fine = [CheckResult("imports", "ok", f"{len(imported.loaded)} load{more}")] if imported.loaded else []
    return [*fine, *wrong]


def check_torch(seen: TorchFacts | None, driver: str | None) -> list[CheckResult]:
    """Check the number format of `precision: auto` and the GPUs; `driver` is NVIDIA's version, if any."""
    if seen is None:
        return []
    units = ", ".join(seen["units"]) or "no AVX512, AMX or bfloat16 units"
    precision = CheckResult("number format", "ok", f"{units}: precision auto trains in {seen['precision']}")
    if seen["gpus"] or driver is None:
        found = ", ".join(seen["gpus"]) or "none: trials train on the processor"
        return [precision, CheckResult("GPU", "ok", found)]
    found = f"NVIDIA driver {driver} is loaded, but torch {seen['torch']} cannot use a GPU: "
    if seen["cuda"] is None:
        found, fix = f"{found}it was built without CUDA", "install torch's CUDA build"
    else:
        found += f"torch.cuda.is_available() is false with CUDA {seen['cuda']}"
        fix = "see whether nvidia-smi shows one, and whether the driver is new enough for that CUDA"
    otherwise = "Until then a trial for which a GPU is reserved fails; --set resources.gpus=0 trains on the processor"
    return [precision, CheckResult("GPU", "warning", found, f"{fix}. {otherwise}")]


def _import_module(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except BaseException as error:  # a package may raise anything, SystemExit included
        first = str(error).strip().splitlines()
        return f"{type(error).__name__}: {first[0] if first else ''}".rstrip(": ")
    return None


def _probe_torch() -> TorchFacts:
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


def probe_imports(modules: Sequence[str]) -> None:
    """Import the modules and write the results; send whatever they print to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        for module in modules:
            answers.write(json.dumps({"module": module, "error": _import_module(module)}) + "\n")
            answers.flush()
        if "torch" in modules and "torch" in sys.modules:
            answers.write(json.dumps({"torch": _probe_torch()}) + "\n")


if __name__ == "__main__":
    probe_imports(sys.argv[1:])
