"""Ray's sockets lie in a folder with a short name, whatever the environment names."""

import stat
import sys
import tempfile
from pathlib import Path

import pytest

from gapctl.cli.doctor import check_temporary_folder
from gapctl.sweep.ray_session import (
    LONGEST_FOLDER,
    check_address,
    choose_ray_folder,
    explain_unusable_ray_folder,
    find_default_ray_folder,
    open_ray_session,
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Ray does not heed TMPDIR")


@pytest.fixture
def long_folder(tmp_path: Path) -> Path:
    folder = tmp_path / ("scratch-of-a-job-" + "x" * LONGEST_FOLDER)
    folder.mkdir()
    return folder


def test_a_short_folder_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "/")

    with choose_ray_folder() as chosen:
        assert chosen == {}


@linux
@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_name_that_is_too_long_gets_a_private_folder_for_the_time_of_the_session(
    variable: str, long_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(long_folder))

    with choose_ray_folder() as chosen:
        private = Path(chosen["_temp_dir"])
        assert len(str(private)) <= LONGEST_FOLDER
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert chosen.get("object_spilling_directory") == str(long_folder)  # the user's disk still takes what is large
    assert not private.exists()


@linux
@pytest.mark.parametrize("made", [False, True])
def test_a_folder_that_is_not_there_is_not_made(made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tmp_path / "x"
    if made:
        wanted.write_text("a file")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(wanted))

    with choose_ray_folder() as chosen:
        assert chosen.get("_temp_dir") is not None
        assert chosen.get("object_spilling_directory") is None
    assert wanted.exists() == made


def test_letters_of_several_bytes_count_as_such() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "ü" * ((LONGEST_FOLDER - len(short)) // 2 + 1))
        folder.mkdir()
        assert len(str(folder)) < LONGEST_FOLDER
        assert "too long" in str(explain_unusable_ray_folder(folder))


@linux
def test_doctor_says_where_the_sockets_go(long_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long_folder))

    check = check_temporary_folder(find_default_ray_folder())

    assert check.state != "problem"
    assert "Ray's sockets go to /tmp instead: its name is too long for Ray's sockets" in check.found
    assert "there is no such folder" in check_temporary_folder(Path("/no/such")).found


@linux
def test_ray_starts_below_a_folder_whose_name_is_too_long_and_is_found_at_its_address(
    long_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(long_folder))

    with open_ray_session(None):
        import ray

        assert ray.get(ray.put(1)) == 1
        check_address(ray.get_runtime_context().gcs_address)
