"""Ray for the length of a sweep: a quiet local instance, or the cluster at an address."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from gapctl.errors import InputError, WorkError
from gapctl.folders import cache_root
from gapctl.sweep.address import REMEDY
from gapctl.sweep.letting_go import let_go
from gapctl.sweep.ray_folder import ray_folder
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
    prepare_environment()
    close_gate()
    with ExitStack() as opened:
        if address is None:
            opened.enter_context(started_ray())
        else:
            _join(address)
        try:
            open_gate()
            yield
        finally:
            close_gate()
            let_go()


def prepare_environment(**more: str) -> None:
    """Set what keeps Ray quiet; what the environment says already stays.

    Raises InputError where there is neither a home folder, in which Ray keeps its token, nor a cache folder.
    """
    cache_root()
    for name, value in {**QUIET, **more}.items():
        os.environ.setdefault(name, value)


@contextmanager
def started_ray(**options: Any) -> Iterator[None]:
    """Starts a Ray of this machine with these options of `ray.init`; whoever uses it shuts it down.

    Ray waits half a minute for its own processes, which on a busy machine may be too short once.
    """
    import ray

    with ray_folder() as folder:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _init("local", include_dashboard=False, **folder.as_arguments(), **options)
                break
            except Exception as error:  # Ray raises no narrower one where its processes do not come up
                ray.shutdown()
                if attempt == ATTEMPTS:
                    raise WorkError(
                        f"Ray did not start on this machine in {ATTEMPTS} attempts: {_first_line(error)}. Is it very "
                        "busy, or its disk or memory full? Nothing was begun; the same command tries again"
                    ) from error
        yield


def _join(address: str) -> None:
    try:
        _init(address, include_dashboard=None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--address {address}: Ray cannot join a cluster there: {_first_line(error)}. {REMEDY}"
        ) from error


def _init(address: str, **options: Any) -> None:
    import ray

    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
