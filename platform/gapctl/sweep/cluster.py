"""Ray for the length of a sweep: a quiet local instance, or the cluster at an address."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from gapctl.errors import InputError, WorkError
from gapctl.sweep.address import REMEDY
from gapctl.sweep.letting_go import let_go
from gapctl.sweep.ray_gate import close_gate, open_gate

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

ATTEMPTS = 2


@contextmanager
def ray_session(address: str | None) -> Iterator[None]:
    """Starts or joins Ray, and lets go of it in the end.

    A cluster that cannot be joined raises InputError, a Ray that does not start WorkError.
    Ray waits minutes for one that does not answer: `check_address` asks first.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    close_gate()
    if address is None:
        _start()
    else:
        _join(address)
    try:
        open_gate()
        yield
    finally:
        close_gate()
        let_go()


def _start() -> None:
    """Ray waits half a minute for its own processes, which on a busy machine may be too short once."""
    import ray

    for attempt in range(1, ATTEMPTS + 1):
        try:
            _init("local", include_dashboard=False)
            return
        except Exception as error:  # Ray raises no narrower one where its processes do not come up
            ray.shutdown()
            if attempt == ATTEMPTS:
                raise WorkError(
                    f"Ray did not start on this machine in {ATTEMPTS} attempts: {_first_line(error)}. Is it very busy, "
                    "or its disk or memory full? Nothing was begun; the same command tries again"
                ) from error


def _join(address: str) -> None:
    try:
        _init(address, include_dashboard=None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--address {address}: Ray cannot join a cluster there: {_first_line(error)}. {REMEDY}"
        ) from error


def _init(address: str, include_dashboard: bool | None) -> None:
    import ray

    ray.init(address=address, include_dashboard=include_dashboard, logging_level=logging.ERROR, log_to_driver=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
