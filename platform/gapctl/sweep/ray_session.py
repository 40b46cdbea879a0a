"""Ray for the length of a sweep: start a quiet local instance, or join the cluster at an address.

1. `check_address` finds out within seconds whether a cluster answers at `--address`, and presents its token.
2. `open_ray_session` starts or joins Ray and shuts it down in the end.
"""

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from gapctl.errors import InputError, WorkError, first_line_of_error
from gapctl.folders import find_cache_root
from gapctl.imports import import_in_background
from gapctl.io.scratch import ScratchFolder

LONGEST_SOCKET: Final = 103 if sys.platform == "darwin" else 107
LONGEST_SOCKET_PATH: Final = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""The longest socket path below Ray's folder; a process id has at most seven digits."""
LONGEST_FOLDER: Final = LONGEST_SOCKET - len(LONGEST_SOCKET_PATH)
SHORT_FOLDER: Final = "/tmp"
"""Parent of the private folder that replaces one that Ray cannot use."""


def find_default_ray_folder() -> Path:
    """Return the folder below which Ray makes its own, `ray`, by default."""
    from_linux = os.environ.get("TMPDIR") if sys.platform == "linux" else None
    return Path(os.environ.get("RAY_TMPDIR") or from_linux or SHORT_FOLDER)


def explain_unusable_ray_folder(folder: Path) -> str | None:
    """Return why Ray cannot keep its sockets below a folder, or None if it can."""
    if not folder.is_dir():
        return "there is no such folder"
    length = len(os.fsencode(folder.absolute()))
    if length > LONGEST_FOLDER:
        return f"its name is too long for Ray's sockets ({length} bytes, {LONGEST_FOLDER} at most)"
    written = folder / "ray" if (folder / "ray").exists() else folder
    return None if os.access(written, os.W_OK | os.X_OK) else f"{written} cannot be written"


@contextmanager
def choose_ray_folder() -> Iterator[dict[str, str]]:
    """Yield options for `ray.init`: none if Ray can use its own folder, otherwise a private one, deleted in the end.

    Arrays that do not fit into shared memory are still written to the folder that the environment names, if possible,
    as it may be on the larger disk. Raises InputError if /tmp cannot be used either.
    """
    wanted = find_default_ray_folder()
    fault = explain_unusable_ray_folder(wanted)
    if fault is None:
        yield {}
        return
    try:
        private = ScratchFolder("ray", Path(SHORT_FOLDER))
    except OSError as error:
        raise InputError(
            f"Ray cannot keep its sockets in {wanted}: {fault}; nor in {SHORT_FOLDER}: {error.strerror}. "
            "Set RAY_TMPDIR to a "
            f"folder that can be written, whose name has {LONGEST_FOLDER} bytes at most"
        ) from error
    usable = wanted.is_dir() and os.access(wanted, os.W_OK | os.X_OK)
    with private as folder:
        yield {"_temp_dir": str(folder), **({"object_spilling_directory": str(wanted.absolute())} if usable else {})}


POLL_SECONDS = 0.01


def shutdown() -> None:
    """Shut Ray down safely.

    Collect garbage first and let no thread collect any meanwhile: a Ray object freed during the shutdown makes Ray exit
    the process, which would lose the verdicts.
    """
    import ray

    collects = gc.isenabled()
    gc.disable()
    try:
        collect_garbage()
        ray.shutdown()
    finally:
        if collects:
            gc.enable()


def collect_garbage() -> None:
    """Collect garbage in this thread. `gc.collect` alone does nothing while another thread is collecting."""
    here, collected = threading.get_ident(), threading.Event()

    def note(phase: str, info: object) -> None:
        if phase == "stop" and threading.get_ident() == here:
            collected.set()

    gc.callbacks.append(note)
    try:
        gc.collect()
        while not collected.is_set():
            time.sleep(POLL_SECONDS)
            gc.collect()
    finally:
        gc.callbacks.remove(note)


@contextmanager
def restore_interrupt_handler() -> Iterator[None]:
    """Restore the handler of SIGINT: Tune replaces it and would keep catching Ctrl-C after the sweep."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0
"""Longest wait for a head's answer; a busy one answers within one second."""

CLIENT_SCHEME: Final = "ray://"
"""Scheme of Ray's client, which is no driver: it never learns what the cluster may grow to, which a sweep needs."""
HTTP2_GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""First bytes of an HTTP/2 client: the preface and an empty settings frame."""
FRAME_HEADER: Final = 9
FRAME_TYPE: Final = 3
SETTINGS_FRAME: Final = 4
AUTH_MODE: Final = "RAY_AUTH_MODE"
CLUSTER_ID_METHOD: Final = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""First request of every Ray client, which needs nothing but the right token."""
CONNECTION_ADVICE: Final = (
    "Ask `ray status` on its head whether it runs, start one with `ray start --head` or `ray up cluster.yaml`, or "
    "leave --address out to use this machine. Ray listens on port 6379 of the head (`auto` there, HOST:6379 on its "
    "nodes); from any other machine use `gapctl cluster submit`"
)


class Port(NamedTuple):
    """Host and port number."""

    host: str
    number: int


def check_address(address: str | None) -> None:
    """Raise InputError if no Ray cluster answers at `--address`. None, which is this machine, is always right.

    `auto` is the address in RAY_ADDRESS or of the last `ray start` on this machine; without either, Ray searches
    itself.
    """
    if address is None or address == "local":
        return
    named = _find_local_address() if address == "auto" else address
    if named is None:
        return
    beside = f" (that is {named})" if named != address else ""
    if named.startswith(CLIENT_SCHEME):
        raise InputError(
            f"--address {address}{beside}: an address of Ray's client, which gapctl cannot use; expected auto or "
            "HOST:6379 on a machine of the cluster. Use `gapctl cluster submit` from here, or `--address auto` on the "
            "head"
        )
    port = _parse_port(named, address)
    finding = _probe_port(port)
    if finding:
        raise InputError(f"--address {address}{beside}: no Ray cluster answers there: {finding}. {CONNECTION_ADVICE}")
    if not _is_encrypted():
        _present_token(port, f"--address {address}{beside}")


def _find_local_address() -> str | None:
    """Return the address of RAY_ADDRESS or of the last `ray start` on this machine, or None."""
    named = os.environ.get("RAY_ADDRESS")
    if named and named != "auto":
        return named
    try:
        noted = (find_default_ray_folder() / "ray" / "ray_current_cluster").read_text(encoding="utf-8")
    except OSError:
        return None
    return noted.strip() or None


def _parse_port(named: str, address: str) -> Port:
    try:
        parts = urlsplit(f"//{named}")
        host, number = parts.hostname, parts.port
    except ValueError:
        host, number = None, None
    if not host or not number:
        raise InputError(f"--address {address}: this names no host and port; expected auto or HOST:6379")
    return Port(host, number)


def _probe_port(port: Port) -> str | None:
    """Return why no cluster answers at the port, or None if one does."""
    try:
        connection = socket.create_connection(port, timeout=CONNECT_SECONDS)
    except TimeoutError:
        return f"no connection to port {port.number} of {port.host} within {CONNECT_SECONDS:.0f} s"
    except socket.gaierror:
        return f"no machine of the name {port.host} is known"
    except OSError as error:
        return f"port {port.number} of {port.host}: {error.strerror or error}"
    with connection:
        return None if _is_encrypted() else _probe_answer(connection)


def _present_token(port: Port, where: str) -> None:
    """Make Ray present this user's token if the cluster requires one. Ray does so by itself only for `auto`.

    `ray start` requires a token on every machine that has one, and each `ray.init` without an address creates one.
    Raises InputError if there is none or another.
    """
    if _try_token(port, None):
        return
    token, place = _read_token()
    mode = os.environ.get(AUTH_MODE)
    if mode not in (None, "token"):
        problem = f"{AUTH_MODE}={mode} keeps this process from presenting one"
    elif token is None:
        problem = f"there is none in {place}"
    elif not _try_token(port, token):
        problem = f"that in {place} is another"
    else:
        os.environ[AUTH_MODE] = "token"
        return
    raise InputError(
        f"{where}: the cluster asks for Ray's token, and {problem}; expected that of the machine of `ray start`. "
        f"Set {AUTH_MODE}=token and RAY_AUTH_TOKEN to what `ray get-auth-token` prints there"
    )


def _read_token() -> tuple[str | None, str]:
    """Return the token that Ray would present, and where it is stored."""
    if found := os.environ.get("RAY_AUTH_TOKEN"):
        return found.strip(), "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    place = Path(named) if named else Path("~/.ray/auth_token").expanduser()
    try:
        return place.read_text(encoding="utf-8").strip() or None, str(place)
    except (OSError, UnicodeDecodeError):
        return None, str(place)


def _try_token(port: Port, token: str | None) -> bool:
    """Return False only if the cluster refuses this token, or no token if None."""
    import grpc

    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"{port.host}:{port.number}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(CLUSTER_ID_METHOD)(b"", timeout=ANSWER_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            return bool(error.code() != grpc.StatusCode.UNAUTHENTICATED)
    return True


def _is_encrypted() -> bool:
    """Return whether Ray uses TLS, in which case only Ray can talk to the cluster."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _probe_answer(connection: socket.socket) -> str | None:
    connection.settimeout(ANSWER_SECONDS)
    answer = b""
    try:
        connection.sendall(HTTP2_GREETING)
        while len(answer) < FRAME_HEADER and (part := connection.recv(FRAME_HEADER - len(answer))):
            answer += part
    except TimeoutError:
        return f"the port is open, but silent for {ANSWER_SECONDS:.0f} s"
    except OSError as error:
        return f"the port is open, but the connection broke: {error.strerror or error}"
    if len(answer) == FRAME_HEADER and answer[FRAME_TYPE] == SETTINGS_FRAME:
        return None
    return "the port is open, but what listens there is not Ray (its dashboard, on port 8265, is no address either)"


QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

START_ATTEMPTS = 2


@contextmanager
def open_ray_session(address: str | None, needed: str | None = None) -> Iterator[None]:
    """Start or join Ray, and shut it down in the end. Import the module `needed` meanwhile: both take a second.

    Raises InputError if the cluster cannot be joined, WorkError if Ray does not start. Call `check_address` first, as
    Ray waits minutes for an address that does not answer.
    """
    set_ray_environment()
    with ExitStack() as opened:
        with import_in_background(needed) if needed else nullcontext():
            if address is None:
                opened.enter_context(start_local_ray())
            else:
                _join_cluster(address)
        try:
            yield
        finally:
            shutdown()


def set_ray_environment(**more: str) -> None:
    """Set variables that keep Ray quiet, unless the environment has them.

    Raises InputError if there is neither a home folder, where Ray keeps its token, nor a cache folder.
    """
    find_cache_root()
    for name, value in {**QUIET_ENVIRONMENT, **more}.items():
        os.environ.setdefault(name, value)


@contextmanager
def start_local_ray(**options: Any) -> Iterator[None]:
    """Start Ray on this machine with these options of `ray.init`. The caller shuts it down.

    Ray waits half a minute for its own processes, which may be too short on a busy machine, so a second attempt is
    made.
    """
    import ray

    with choose_ray_folder() as folder:
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                _initialize_ray("local", include_dashboard=False, **folder, **options)
                break
            except Exception as error:  # Ray raises no narrower one where its processes do not come up
                ray.shutdown()
                if attempt == START_ATTEMPTS:
                    raise WorkError(
                        f"Ray did not start on this machine in {START_ATTEMPTS} attempts: "
                        f"{first_line_of_error(error)}. Is it very "
                        "busy, or its disk or memory full? Nothing was begun; the same command tries again"
                    ) from error
        yield


def _join_cluster(address: str) -> None:
    try:
        _initialize_ray(address, include_dashboard=None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"--address {address}: Ray cannot join a cluster there: {first_line_of_error(error)}. {CONNECTION_ADVICE}"
        ) from error


def _initialize_ray(address: str, **options: Any) -> None:
    import ray

    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **options)
