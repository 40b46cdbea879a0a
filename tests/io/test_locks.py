"""Locks on files that their holders delete."""

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from gapctl.io.locks import is_same_file, lock_file


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    with lock_file(path), pytest.raises(BlockingIOError), lock_file(path, wait=False):
        pass
    with lock_file(path, wait=False):
        assert path.exists()


def test_a_file_deleted_while_its_lock_was_waited_for_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, deleted = tmp_path / "lock", fcntl.flock, []

    def lock_after_its_holder_deleted_it(file: object, how: int) -> None:
        lock(file, how)  # type: ignore[arg-type]
        if not deleted:
            path.unlink()
            deleted.append(file)

    monkeypatch.setattr(fcntl, "flock", lock_after_its_holder_deleted_it)
    with lock_file(path):
        assert deleted
        assert path.exists()
        with pytest.raises(BlockingIOError), lock_file(path, wait=False):
            pass


def test_a_lock_that_is_held_is_as_young_as_its_hold(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    os.utime(path, (0, 0))

    with lock_file(path):
        assert time.time() - path.stat().st_mtime < 60, "or what deletes old files would delete it"


def test_a_file_system_without_locks_is_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_with(code: int) -> None:
        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)

    refuse_with(errno.ENOLCK)
    with lock_file(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
    refuse_with(errno.EIO)
    with pytest.raises(OSError, match="Input/output"), lock_file(tmp_path / "lock"):
        pass


def test_another_file_of_the_same_name_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("ab") as file:
        assert is_same_file(file, path)
        path.unlink()
        assert not is_same_file(file, path)
        path.touch()
        assert not is_same_file(file, path)
