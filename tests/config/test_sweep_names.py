"""A sweep is found by its path or its name: in the working folder, in its `sweeps/`, then among gapctl's own."""

import shutil
from pathlib import Path

import pytest

from gapctl.config.base import SpecError
from gapctl.config.load import find_sweep_file, is_shipped_sweep, load_sweep
from sweep_texts import REPOSITORY, SHIPPED, TINY

NAMES = ["imbalance", "imbalance.yaml", "sweeps/imbalance", "sweeps/imbalance.yaml"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_name_means_the_shipped_sweep_in_a_folder_without_it(name: str) -> None:
    sweep = load_sweep(Path(name))

    assert sweep.source.path == SHIPPED
    assert is_shipped_sweep(sweep.source.path)
    assert sweep.path == Path(name)
    assert sweep.spec_sha256 == load_sweep(SHIPPED).spec_sha256


@pytest.mark.parametrize("path", sorted((REPOSITORY / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_sweep_has_its_name(path: Path) -> None:
    assert find_sweep_file(Path(path.stem)) == path


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_of_the_working_folder_comes_before_the_shipped_one(name: str) -> None:
    Path("sweeps").mkdir()
    Path("sweeps/imbalance.yaml").write_text(TINY)

    found = find_sweep_file(Path(name))

    assert found == Path("sweeps/imbalance.yaml")
    assert not is_shipped_sweep(found)


@pytest.mark.parametrize("name", ["imbalance", "imbalance.yaml"])
def test_a_file_of_that_path_comes_first_of_all(name: str) -> None:
    Path("sweeps").mkdir()
    shutil.copy(SHIPPED, "sweeps")
    Path(name).write_text(TINY)

    assert find_sweep_file(Path(name)) == Path(name)


def test_a_folder_of_that_name_is_no_file() -> None:
    Path("imbalance").mkdir()

    assert find_sweep_file(Path("imbalance")) == SHIPPED


@pytest.mark.parametrize(
    "path", ["elsewhere/imbalance.yaml", "../imbalance", "/absent/imbalance.yaml", "sweeps/a/imbalance"]
)
def test_a_path_into_another_folder_is_no_name(path: str) -> None:
    with pytest.raises(SpecError, match=r"no such file; expected a sweep file .*; did you mean imbalance\?"):
        find_sweep_file(Path(path))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("imbalnce", "imbalance"),
        ("imbalance.yml", "imbalance"),
        ("sweeps/temprature.yaml", "temperature"),
        ("my_swep.yaml", "my_sweep.yaml"),
        ("here/my_swep", "here/my_sweep.yaml"),
        ("myne", "mine"),
    ],
)
def test_a_slip_is_answered_with_what_can_be_typed_instead(typed: str, meant: str) -> None:
    for place in ("my_sweep.yaml", "here/my_sweep.yaml", "sweeps/mine.yaml"):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).write_text(TINY)

    with pytest.raises(SpecError) as told:
        load_sweep(Path(typed))

    assert str(told.value).startswith(f"{typed}: no such file; expected a sweep file such as sweeps/imbalance.yaml")
    assert str(told.value).endswith(f"; did you mean {meant}?")
    assert load_sweep(Path(meant)).path == Path(meant)


def test_what_is_like_nothing_known_gets_no_suggestion() -> None:
    with pytest.raises(SpecError, match=r"imbalance\.yaml$"):
        find_sweep_file(Path("0000000"))


def test_problems_name_the_file_that_was_read() -> None:
    with pytest.raises(SpecError, match=r"^--scale huge: imbalance has no scale 'huge'"):
        load_sweep(Path("imbalance"), "huge")

    Path("sweeps").mkdir()
    Path("sweeps/odd.yaml").write_text("name: odd\n")
    with pytest.raises(SpecError, match=r"^sweeps/odd\.yaml:1:1: "):
        load_sweep(Path("odd"))
