"""A sweep as a job of a cluster: the command that the head runs, with the sweep file beside it."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from gapctl.errors import InputError
from gapctl.spec.data import PairData
from gapctl.spec.grid import arms, resolved
from gapctl.spec.load import Sweep, load_sweep
from gapctl.spec.secrets import holds_password, without_password, without_passwords

MLFLOW_OF_THE_HEAD: Final = "http://127.0.0.1:5000"
RELATIVE_SQLITE: Final = "sqlite:///"
ABSOLUTE_SQLITE: Final = "sqlite:////"
BUNDLED: Final = "bundled"


@dataclass(frozen=True)
class Job:
    """What is sent: the sweep file, the words of the command, and whether MLflow's address was put in."""

    file: Path
    command: tuple[str, ...]
    tracking: str

    @property
    def entrypoint(self) -> str:
        """The command as a shell reads it."""
        return shlex.join(self.command)


def job_of(file: Path, scale: str | None, overrides: Sequence[str], runs: str) -> Job:
    """The job that runs a sweep; raises InputError for what would be lost or missing on the head.

    Ray gives a job a folder of its own and deletes it: a ledger, an MLflow database or data at a relative path would
    vanish with it or never be there. The default SQLite file becomes MLflow's server of the head.
    """
    sweep = load_sweep(file, scale, tuple(overrides))
    _check_ledger(runs)
    _check_data(sweep)
    tracking = sweep.spec.tracking.uri
    _check_secrets(sweep, overrides)
    if _is_relative_sqlite(tracking):
        tracking = MLFLOW_OF_THE_HEAD
        overrides = [*overrides, f"tracking.uri={tracking}"]
    words = ["gapctl", "sweep", sweep.source.path.name, "--address", "auto", "--runs", runs]
    words += ["--scale", scale] if scale is not None else []
    words += [word for override in overrides for word in ("--set", override)]
    return Job(sweep.source.path, tuple(words), tracking)


def _check_ledger(runs: str) -> None:
    if "://" not in runs and not PurePosixPath(runs).is_absolute():
        raise InputError(
            f"--runs {runs}: a folder of the job, which Ray deletes, and which the workers do not see; "
            "expected an object store such as s3://BUCKET/runs, or an absolute path that all nodes share"
        )
    if holds_password(runs):
        raise InputError(
            f"--runs {without_password(runs)}: a password in a job's command is shown on Ray's dashboard; "
            "give the nodes the right to the bucket instead"
        )


def _check_data(sweep: Sweep) -> None:
    for key, place in dict.fromkeys(_places(sweep)):
        if place and place != BUNDLED and "://" not in place and not PurePosixPath(place).is_absolute():
            raise InputError(
                f"{sweep.path}: {key}: found {place}, a path below the current folder, which the nodes do not have; "
                f"expected an address or absolute path that they all see. Say so with --set base.{key}=..."
            )


def _places(sweep: Sweep) -> Iterator[tuple[str, str]]:
    """Where each arm's data lie, by their keys."""
    for arm in arms(sweep.spec):
        data = resolved(sweep.spec, arm).data
        yield "data.source", data.source
        if isinstance(data, PairData):
            yield "data.held_out", data.held_out
            yield "data.classes", data.classes


def _check_secrets(sweep: Sweep, overrides: Sequence[str]) -> None:
    if any(holds_password(override) for override in overrides):
        raise InputError(
            "--set: a password in a job's command is shown on Ray's dashboard and kept in its logs; "
            f"start MLflow's server on the head and name it: --set tracking.uri={MLFLOW_OF_THE_HEAD}"
        )
    if without_passwords(sweep.text) != sweep.text:
        raise InputError(
            f"{sweep.path}: found a password in an address, which the head would keep with the job; "
            f"start MLflow's server on the head and name it: --set tracking.uri={MLFLOW_OF_THE_HEAD}"
        )


def _is_relative_sqlite(uri: str) -> bool:
    return uri.startswith(RELATIVE_SQLITE) and not uri.startswith(ABSOLUTE_SQLITE)
