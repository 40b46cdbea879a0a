"""The file in which a search's study lies: where it is, who may use it, and what is said where it fails."""

import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from gapctl.errors import InputError, WorkError
from gapctl.ledger import Ledger

WITHOUT_LOCKS: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system answers that has no locks; there the lease in the ledger keeps others away alone."""
Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class HasFile(Protocol):
    """What is kept in a study's file."""

    @property
    def file(self) -> Path: ...


Keeper = TypeVar("Keeper", bound=HasFile)


def study_file(ledger: Ledger, sweep: str, working_folder: Path) -> Path:
    """Where a search's study lies: beside the ledger, or in the working folder where that is an object store."""
    far = "://" in ledger.everywhere and not ledger.everywhere.startswith("file://")
    folder = working_folder if far else Path(ledger.everywhere.removeprefix("file://"))
    return folder / f"{sweep}.study.db"


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Keeps other processes of this machine from the study's file; ends with the process.

    Raises InputError where another has it, and where no file can be written beside it.
    """
    lock = file.with_name(f".{file.name}.lock")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = lock.open("w")
    except OSError as error:
        raise InputError(
            f"{lock}: cannot be written: {error.strerror or error}; expected a folder for the study of the search: "
            "that of --runs, or with an object store the one where gapctl is called. Check its rights and space, or "
            "choose another"
        ) from error
    with held:
        _lock(held.fileno(), file)
        yield


def _lock(descriptor: int, file: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except BlockingIOError as error:
        raise InputError(
            f"{file}: another gapctl runs a search of this study; expected one at a time, as each would draw "
            "the other's points. Wait for it, or end it: the same command then goes on"
        ) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise InputError(
                f"{file}: cannot be locked: {error.strerror or error}; expected a disk with locks and space for the "
                "study of the search. Check the disk, or name another folder"
            ) from error


@contextmanager
def study_errors(file: Path) -> Iterator[None]:
    """Raises WorkError for what a database or a disk says that lets a study down."""
    import optuna
    import sqlalchemy.exc

    try:
        yield
    except (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise WorkError(
            f"{file}: the study of the search cannot be read or written: {_reason(error)}; expected Optuna's database "
            "on a disk with space and rights. Where the disk is full, make room, and the same command goes on. Where "
            "the file is damaged, move it away: it is filled again from the ledger"
        ) from error


def in_study(
    method: Callable[Concatenate[Keeper, Arguments], Answer],
) -> Callable[Concatenate[Keeper, Arguments], Answer]:
    """A method whose errors of database and disk name the file."""

    @wraps(method)
    def named(self: Keeper, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
        with study_errors(self.file):
            return method(self, *args, **kwargs)

    return named


def _reason(error: BaseException) -> str:
    """The innermost cause's first line: Optuna and SQLAlchemy tell of theirs at length."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
