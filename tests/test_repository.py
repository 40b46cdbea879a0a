"""The repository keeps its own rules: what may import what, exact and portable pins, no trace of a machine."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from package_code import PACKAGE, parsed

REPOSITORY = Path(__file__).parents[1]

# What each package imports at most, besides what those may import themselves. Every package may
# import gapctl.errors, gapctl.io, gapctl.extensions, gapctl.folders, gapctl.imports, gapctl.proxies and gapctl.text.
IMPORTS = {
    "io": set(),
    "config": set(),
    "plan": {"config"},
    "ledger": {"plan"},
    "data": {"config"},
    "models": {"config"},
    "metrics": set(),
    "interventions": {"metrics"},
    "training": {"data", "models", "interventions"},
    "tracking": {"ledger"},
    "sweep": {"training", "tracking"},
    "analysis": {"ledger"},
    "report": {"analysis", "interventions"},
    "cluster": {"config", "plan"},
    "inference": {"ledger", "training"},
    "cli": {"sweep", "inference", "report", "cluster", "interventions"},
    "api": {"cli"},
}

# Libraries besides the standard one: all that a package may use, where the design says so.
ONLY = {
    "config": {"pydantic", "pydantic_core", "yaml", "polars"},
    "plan": set(),
    "metrics": {"numpy", "torch", "polars", "safetensors", "scipy"},
    "interventions": {"numpy", "torch"},
    "cluster": {"pydantic", "yaml", "ray"},
}

# Libraries that a package may import only within a function.
LATER = {"cluster": {"ray"}, "config": {"polars"}}

# Libraries that a package must do without.
NEVER = {
    "ledger": {"torch", "ray", "mlflow"},
    "data": {"mlflow"},
    "models": {"ray", "mlflow"},
    "training": {"ray", "mlflow"},
    "inference": {"mlflow"},
    "tracking": {"torch", "ray"},
    "analysis": {"torch", "ray", "mlflow"},
    "report": {"torch", "ray", "mlflow"},
}

# Libraries that a verb's module may import at once: a module is imported only when its verb is called, and then prints.
AT_ONCE = {"typer", "rich"}


class Import(NamedTuple):
    """One import: the module's dotted name, and whether importing the file already runs it."""

    module: str
    at_once: bool
    where: str


@cache
def imports_in(path: Path) -> tuple[Import, ...]:
    """Every import in a file."""
    return tuple(_imports(parsed(path), str(path.relative_to(REPOSITORY)), at_once=True))


@cache
def imports_of(package: str) -> tuple[Import, ...]:
    """Every import in the files of a package."""
    return tuple(found for path in sorted((PACKAGE / package).rglob("*.py")) for found in imports_in(path))


def _imports(node: ast.AST, place: str, *, at_once: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, at_once, f"{place}:{child.lineno}") for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{place}:{child.lineno}: a relative import"
            yield Import(str(child.module), at_once, f"{place}:{child.lineno}")
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types_only(child)
            yield from _imports(child, place, at_once=at_once and not later)


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def reachable(package: str) -> set[str]:
    """The packages that a package may import: those of its row, and what these may import."""
    return {package}.union(*(reachable(other) for other in IMPORTS[package]))


def libraries(package: str) -> dict[str, str]:
    """What a package imports that is neither gapctl nor the standard library, each with one place."""
    tops = {found.module.split(".")[0]: found.where for found in imports_of(package)}
    return {top: where for top, where in tops.items() if top != "gapctl" and top not in sys.stdlib_module_names}


def test_every_package_is_in_the_table() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert packages <= set(IMPORTS)


@pytest.mark.parametrize("package", IMPORTS)
def test_a_package_imports_nothing_downstream_of_it(package: str) -> None:
    allowed = reachable(package) | {"errors", "io", "extensions", "folders", "imports", "proxies", "text"}
    wrong = [
        f"{found.where}: {found.module}"
        for found in imports_of(package)
        if found.module.startswith("gapctl.") and found.module.split(".")[1] not in allowed
    ]

    assert not wrong


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{path.relative_to(REPOSITORY)}:{node.lineno}")

    assert not {name: where for name, where in places.items() if len(where) > 1}


@pytest.mark.parametrize("package", ONLY)
def test_a_package_imports_no_other_library_than(package: str) -> None:
    wrong = {top: where for top, where in libraries(package).items() if top not in ONLY[package]}

    assert not wrong


@pytest.mark.parametrize("package", NEVER)
def test_a_package_does_without(package: str) -> None:
    wrong = {top: where for top, where in libraries(package).items() if top in NEVER[package]}

    assert not wrong


@pytest.mark.parametrize("package", LATER)
def test_a_package_begins_without(package: str) -> None:
    at_once = {found.module.split(".")[0]: found.where for found in imports_of(package) if found.at_once}
    wrong = {top: where for top, where in at_once.items() if top in LATER[package]}

    assert at_once
    assert not wrong


def test_verbs_import_libraries_only_when_they_run() -> None:
    at_once = {found.where: found.module for found in imports_of("cli") if found.at_once}
    wrong = {
        where: module
        for where, module in at_once.items()
        if module.split(".")[0] not in {"gapctl", *AT_ONCE, *sys.stdlib_module_names}
    }

    assert at_once
    assert not wrong


def imported_with(module: str) -> set[str]:
    """Every module that importing one of gapctl's runs at once, the libraries' own left out."""
    waiting, found = [module], set[str]()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        file = (PACKAGE.parent / name.replace(".", "/")).with_suffix(".py")
        if name.startswith("gapctl.") and file.exists():
            waiting += [found.module for found in imports_in(file) if found.at_once]
    return found


@pytest.mark.parametrize("module", ["cli.sweep", "sweep.driver", "sweep.tuner", "sweep.search", "sweep.worker"])
def test_a_sweep_s_own_process_does_without_torch_and_open_clip_which_take_seconds_to_import(module: str) -> None:
    found = imported_with(f"gapctl.{module}")

    assert "gapctl.plan.plan" in found
    assert not {name for name in found if name.split(".")[0] in {"torch", "open_clip", "torchvision"}}
    assert {"torch", "open_clip.model"} <= imported_with("gapctl.sweep.pack_work")


@pytest.mark.parametrize("module", ["cli.sweep", "sweep.driver"])
def test_a_sweep_says_what_is_left_before_it_imports_ray(module: str) -> None:
    assert not {name for name in imported_with(f"gapctl.{module}") if name.split(".")[0] == "ray"}


def test_the_rules_find_an_import_in_a_function_and_one_for_types(tmp_path: Path) -> None:
    code = "import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    from c.d import e\nclass G:\n    import h\n"
    found = {(each.module, each.at_once) for each in _imports(ast.parse(code), "here", at_once=True)}

    assert found == {("a", True), ("b", False), ("c.d", False), ("h", True)}


@pytest.mark.parametrize(
    "code", ["import platform; print(platform.system())", "import platform; print(platform.__file__)"]
)
def test_the_standard_platform_module_stays_importable_from_the_root(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert done.stdout.strip()
    assert str(PACKAGE.parent) not in done.stdout


def test_the_source_root_is_no_package() -> None:
    assert not (REPOSITORY / "platform" / "__init__.py").exists()
    assert (PACKAGE / "__init__.py").exists()


PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
NODES_LOCK = (REPOSITORY / "requirements-cluster.lock").read_text(encoding="utf-8").splitlines()
MEASURE_LOCK = (REPOSITORY / "requirements-measure.lock").read_text(encoding="utf-8").splitlines()
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[0-9][0-9a-z.+!-]*)(?P<marker> ; .+)?$")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


def normal(requirement: str) -> str:
    """The name of a requirement as indexes compare it: `open_clip_torch>=2` is `open-clip-torch`."""
    found = NAME.match(requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


DEPENDENCIES = {normal(requirement) for requirement in PROJECT["project"]["dependencies"]}
DEVELOPMENT = {normal(requirement) for requirement in PROJECT["dependency-groups"]["dev"]}
NODES = {normal(requirement) for requirement in PROJECT["dependency-groups"]["cluster"]}
MEASURE = {normal(requirement) for requirement in PROJECT["dependency-groups"]["measure"]}


def test_every_line_of_the_lock_is_an_exact_pin() -> None:
    assert [line for line in [*LOCK, *NODES_LOCK, *MEASURE_LOCK] if not PIN.match(line)] == []


def test_the_lock_names_no_index_and_no_file() -> None:
    text = "\n".join([*LOCK, *NODES_LOCK, *MEASURE_LOCK])

    assert not re.search(r"://|--|@ |\bindex\b|\bfile:", text)


def test_everything_that_the_project_needs_is_locked() -> None:
    locked = {normal(line) for line in LOCK}

    assert (DEPENDENCIES | DEVELOPMENT) - locked == set()


def test_what_nodes_need_beside_it_is_locked_once() -> None:
    locked, beside = {normal(line) for line in LOCK}, {normal(line) for line in NODES_LOCK}

    assert NODES - locked - beside == set()
    assert locked & beside == set()


def test_what_measuring_needs_is_a_small_part_of_the_lock() -> None:
    locked = {normal(line) for line in MEASURE_LOCK}

    assert set(MEASURE_LOCK) <= set(LOCK)
    assert MEASURE - locked == set()
    assert MEASURE <= DEPENDENCIES
    assert locked & {"torch", "ray", "mlflow", "open-clip-torch", "optuna", "pandas"} == set()


def test_every_dependency_has_its_reason_and_every_reason_its_dependency() -> None:
    rows = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8").splitlines()
    first_cells = [row.split("|")[1] for row in rows if row.startswith("| `")]
    explained = [normal(name) for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)]

    assert sorted(explained) == sorted(set(explained))
    assert set(explained) == DEPENDENCIES


@cache
def committed() -> tuple[Path, ...]:
    """The files that are committed, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(path for name in listed.split("\0") if name and (path := REPOSITORY / name).is_file())


MACHINES = re.compile(rb"(?<![\w.~:/])/(?:home|Users|root|work|mnt|media|scratch)/[\w.-]+|\b[A-Z]:\\\\?Users\b")
REGISTRIES = re.compile(
    rb"(?:py" + rb"pi\.org|python" + rb"hosted\.org|/sim" + rb"ple/?\b|artifact" + rb"ory)", re.IGNORECASE
)


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a clone")
@pytest.mark.parametrize("pattern", [MACHINES, REGISTRIES], ids=["machine", "registry"])
def test_no_committed_file_names_a(pattern: re.Pattern[bytes]) -> None:
    found = {
        f"{path.relative_to(REPOSITORY)}: {hit[0].decode()}"
        for path in committed()
        for hit in pattern.finditer(path.read_bytes())
    }

    assert len(committed()) > 100
    assert not found


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a clone")
def test_what_a_run_leaves_behind_is_not_committed() -> None:
    names = {str(path.relative_to(REPOSITORY)) for path in committed()}

    assert not [
        name for name in names if re.search(r"(^|/)(runs|mlruns|mlartifacts|__pycache__|\.venv)/|\.db$|uv\.lock$", name)
    ]
