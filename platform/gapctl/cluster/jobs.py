"""Submit sweeps as jobs to a running cluster, and follow, list and stop them.

All requests go to the address of Ray's dashboard.
"""

import asyncio
import contextlib
import http.client
import os
import shlex
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from gapctl.cluster.ray_internals import quiet_job_client
from gapctl.config.arms import list_arms, resolve_arm_config
from gapctl.config.load import LoadedSweep, load_sweep
from gapctl.config.trial import PairData
from gapctl.errors import INTERRUPTED, InputError, WorkError, first_line_of_error
from gapctl.io.passwords import has_password, hide_password, hide_passwords
from gapctl.io.scratch import ScratchFolder
from gapctl.proxies import bypass_proxies

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient


HEAD_MLFLOW_ADDRESS: Final = "http://127.0.0.1:5000"
RELATIVE_SQLITE: Final = "sqlite:///"
ABSOLUTE_SQLITE: Final = "sqlite:////"
BUNDLED: Final = "bundled"


@dataclass(frozen=True)
class Job:
    """A job to submit: the sweep file, the command's words, and MLflow's address."""

    file: Path
    command: tuple[str, ...]
    tracking: str

    @property
    def entrypoint(self) -> str:
        """The command for a shell."""
        return shlex.join(self.command)


def build_job(file: Path, scale: str | None, overrides: Sequence[str], runs: str) -> Job:
    """Return the job that runs a sweep. Raises InputError for what the head would lose or lack.

    Ray gives a job its own folder and deletes it afterwards. So a ledger, an MLflow database or data at a relative path
    would vanish or be missing. The default SQLite file is replaced by MLflow's server on the head.
    """
    sweep = load_sweep(file, scale, tuple(overrides))
    _check_ledger(runs)
    _check_data(sweep)
    tracking = sweep.spec.tracking.uri
    _check_secrets(sweep, overrides)
    if tracking.startswith(RELATIVE_SQLITE) and not tracking.startswith(ABSOLUTE_SQLITE):
        tracking = HEAD_MLFLOW_ADDRESS
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
    if has_password(runs):
        raise InputError(
            f"--runs {hide_password(runs)}: a password in a job's command is shown on Ray's dashboard; "
            "give the nodes the right to the bucket instead"
        )


def _check_data(sweep: LoadedSweep) -> None:
    data = [resolve_arm_config(sweep.spec, arm).data for arm in list_arms(sweep.spec)]
    for each in data:
        if not isinstance(each, PairData) and "://" in each.source:
            raise InputError(
                f"{sweep.path}: data.source: found {each.source}, and MAD's images are mapped into memory from a disk; "
                "expected `bundled`, or an absolute path that all nodes see"
            )
    places = [("data.source", each.source) for each in data]
    for pairs in (each for each in data if isinstance(each, PairData)):
        places += [("data.held_out", pairs.held_out), ("data.classes", pairs.classes)]
    for key, place in dict.fromkeys(places):
        if place and place != BUNDLED and "://" not in place and not PurePosixPath(place).is_absolute():
            raise InputError(
                f"{sweep.path}: {key}: found {place}, a path below the current folder, which the nodes do not have; "
                f"expected an address or absolute path that they all see. Say so with --set base.{key}=..."
            )


def _check_secrets(sweep: LoadedSweep, overrides: Sequence[str]) -> None:
    if any(has_password(override) for override in overrides):
        raise InputError(
            "--set: a password in a job's command is shown on Ray's dashboard and kept in its logs; "
            f"start MLflow's server on the head and name it: --set tracking.uri={HEAD_MLFLOW_ADDRESS}"
        )
    if hide_passwords(sweep.text) != sweep.text:
        raise InputError(
            f"{sweep.path}: found a password in an address, which the head would keep with the job; "
            f"start MLflow's server on the head and name it: --set tracking.uri={HEAD_MLFLOW_ADDRESS}"
        )


DEFAULT_ADDRESS: Final = "http://127.0.0.1:8265"
ANSWER_SECONDS: Final = 5.0
TOKEN_STATUSES: Final = (401, 403)
HEAD_PIN: Final = {"head": 0.01}
"""A small share of the head's custom resource, so that drivers start there only, and many can."""

STOP_SECONDS: Final = 60
"""Time for a stopped sweep to save its checkpoints before Ray kills it."""

POLL_SECONDS: Final = 1.0
END_STATES: Final = ("SUCCEEDED", "FAILED", "STOPPED")
RAY_ADDRESS_VARIABLES: Final = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


class JobState(NamedTuple):
    """The state of a job; `exit_code` is its command's, `began` is in UTC."""

    id: str
    status: str
    command: str
    began: datetime | None
    seconds: float | None
    exit_code: int | None
    message: str

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.status in END_STATES

    @property
    def outcome(self) -> int:
        """The exit code for an ended job: 0 done, 2 wrong input, 130 stopped, 1 anything else."""
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return INTERRUPTED
        return self.exit_code if self.exit_code in (2, INTERRUPTED) else 1


class JobServer:
    """The job server of a running cluster. Every method raises InputError or WorkError if it does not answer."""

    def __init__(self, address: str) -> None:
        """Check within seconds that the server answers."""
        _require_address(address)
        bypass_proxies(address)
        self.address = address.rstrip("/")
        _require_answer(self.address)
        with self._translate_errors():
            self._client: JobSubmissionClient = _build_client(self.address)

    def submit(self, job: Job) -> str:
        """Upload the sweep file, start the job, and return its id. The job no longer needs this process."""
        with ScratchFolder("job") as folder, self._translate_errors():
            shutil.copy(job.file, folder)
            # Ray stops a sweep as Ctrl-C does.
            stopping = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)}
            environment = {"working_dir": str(folder), "env_vars": stopping}
            job_id = self._client.submit_job(
                entrypoint=job.entrypoint, runtime_env=environment, entrypoint_resources=HEAD_PIN
            )
        return str(job_id)

    def list_jobs(self) -> list[JobState]:
        """Return all submitted jobs, the latest last."""
        with self._translate_errors():
            found = [_read_job_state(each) for each in self._client.list_jobs() if each.submission_id]
        return sorted(found, key=lambda job: job.began or datetime.max.replace(tzinfo=UTC))

    def get_job(self, job_id: str) -> JobState:
        """Return one job. Raises InputError if there is none of that id."""
        with self._translate_errors(job_id):
            return _read_job_state(self._client.get_job_info(job_id))

    def stop(self, job_id: str) -> bool:
        """Ask a job to save its checkpoints and end. Return False if it had ended."""
        self.get_job(job_id)
        with self._translate_errors(job_id):
            return bool(self._client.stop_job(job_id))

    def follow_job(self, job_id: str, show: Callable[[str], object]) -> JobState:
        """Pass a job's output to `show` until it ends. Raises WorkError if the cluster no longer answers."""
        self.get_job(job_id)
        with self._translate_errors(job_id):
            asyncio.run(self._stream_logs(job_id, show))
        while not (state := self.get_job(job_id)).ended:
            time.sleep(POLL_SECONDS)
        return state

    async def _stream_logs(self, job_id: str, show: Callable[[str], object]) -> None:
        async for lines in self._client.tail_job_logs(job_id):
            show(lines)

    @contextlib.contextmanager
    def _translate_errors(self, job_id: str | None = None) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise InputError(
                f"--address {self.address}: the cluster asks for a token; set RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its head"
            ) from error
        except OSError as error:
            raise WorkError(f"--address {self.address}: the cluster no longer answers: {error}") from error
        except RuntimeError as error:
            if job_id is not None and "404" in str(error):
                raise InputError(
                    f"{job_id}: no such job at {self.address}; expected an id that `gapctl cluster status` lists"
                ) from error
            raise WorkError(f"--address {self.address}: {first_line_of_error(error)}") from error


def _require_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise InputError(
            f"--address {address}: expected that of Ray's dashboard, such as {DEFAULT_ADDRESS}; "
            "`ray dashboard cluster.yaml` brings it to this machine"
        )


def _require_answer(address: str) -> None:
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWER_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code in TOKEN_STATUSES:
            return
        reason: object = f"something else does, with status {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
    raise InputError(
        f"--address {address}: no Ray dashboard answers there: {reason}; start the cluster with `ray up cluster.yaml` "
        "and bring its dashboard here with `ray dashboard cluster.yaml`"
    )


def _build_client(address: str) -> "JobSubmissionClient":
    """Return Ray's client, hiding variables whose address it would prefer over the given one."""
    from ray.job_submission import JobSubmissionClient

    quiet_job_client()
    hidden = {name: os.environ.pop(name) for name in RAY_ADDRESS_VARIABLES if name in os.environ}
    try:
        return JobSubmissionClient(address)
    finally:
        os.environ.update(hidden)


def _read_job_state(details: "JobDetails") -> JobState:
    began, ended = details.start_time, details.end_time
    now = time.time() * 1000
    return JobState(
        id=str(details.submission_id),
        status=str(getattr(details.status, "value", details.status)),
        command=str(details.entrypoint),
        began=datetime.fromtimestamp(began / 1000, UTC) if began else None,
        seconds=((ended or now) - began) / 1000 if began else None,
        exit_code=details.driver_exit_code,
        message=str(details.message or ""),
    )
