"""The package that is installed holds what a clone has for its users."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
UV = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip would; `make` leaves what that needs in uv's cache."""
    if UV is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [UV, "build", "--offline", "--wheel", "--out-dir", str(folder), str(REPOSITORY)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "hatchling" in built.stderr and built.returncode:
        pytest.skip("hatchling is not in uv's cache, and tests use no network")
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


def content_of(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name)


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_a_wheel_holds_the_sweeps_as_they_are_here(wheel: Path) -> None:
    folder = REPOSITORY / "sweeps"
    shipped = sorted(path for path in folder.rglob("*") if path.is_file())

    assert "schema.json" in [path.name for path in shipped]
    for path in shipped:
        assert content_of(wheel, f"gapctl/sweeps/{path.relative_to(folder).as_posix()}") == path.read_bytes()


def test_a_wheel_says_that_it_is_typed(wheel: Path) -> None:
    assert {"gapctl/py.typed", "gapctl_charts/py.typed"} <= names_in(wheel)


def test_a_wheel_holds_every_file_of_its_packages(wheel: Path) -> None:
    for package in (REPOSITORY / "platform" / "gapctl", REPOSITORY / "dashboards" / "gapctl_charts"):
        files = {
            path.relative_to(package.parent).as_posix()
            for path in package.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert files <= names_in(wheel)


def test_a_wheel_finds_its_sweeps_by_name_in_any_folder(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    empty.mkdir()
    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
import gapctl
assert gapctl.__file__.startswith({str(site)!r})
from gapctl.cli.main import run
run(["plan", "sweeps/imbalance.yaml"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=empty, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert f"the sweep that comes with gapctl, {site}/gapctl/sweeps/imbalance.yaml" in done.stderr
    assert "4 hypotheses" in done.stdout
    assert not [path for path in empty.rglob("*") if path.is_file()]


def test_links_of_the_package_page_need_no_repository(wheel: Path) -> None:
    (metadata,) = [name for name in names_in(wheel) if name.endswith(".dist-info/METADATA")]
    head, _, page = content_of(wheel, metadata).decode().partition("\n\n")

    assert "Description-Content-Type: text/markdown" in head
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []


def test_commands_of_the_package_page_name_shipped_sweeps(wheel: Path) -> None:
    (metadata,) = [name for name in names_in(wheel) if name.endswith(".dist-info/METADATA")]
    named = re.findall(r"gapctl (?:plan|sweep|ui) (\w+)", content_of(wheel, metadata).decode())

    assert named
    assert {f"gapctl/sweeps/{name}.yaml" for name in named} <= names_in(wheel)


def test_a_wheel_registers_the_pages_that_gapctl_ui_serves_with_mlflow(wheel: Path) -> None:
    entry_points = content_of(wheel, "gapctl-0.1.0.dist-info/entry_points.txt").decode()

    assert "[mlflow.app]\ngapctl = gapctl.tracking.pages_app:create_app\n" in entry_points
