"""Whether a Ray cluster answers at an address, found in seconds: Ray itself waits minutes for one that is not there.

Ray speaks gRPC, which is HTTP/2: whoever serves it answers a client's first bytes with a frame of settings (RFC 9113,
section 3.4). So no Ray needs to be imported, and a port that accepts and is silent is told from one that serves.
"""

import os
import socket
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gapctl.errors import InputError
from gapctl.sweep.ray_folder import default_ray_folder

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 15.0
"""A head that is busy answers within one."""

CLIENT: Final = "ray://"
"""Ray's client is no driver: it never learns what the cluster may grow to, which a sweep asks first."""
GREETING: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What a client of HTTP/2 sends first: the preface, and its own settings, of which there are none."""
FRAME_HEADER: Final = 9
FRAME_TYPE: Final = 3
SETTINGS: Final = 4
MODE: Final = "RAY_AUTH_MODE"
CLUSTER_ID: Final = "/ray.rpc.NodeInfoGcsService/GetClusterId"
"""What every client of Ray asks first, and what needs no more than the right token."""
REMEDY: Final = (
    "Ask `ray status` on its head whether it runs, start one with `ray start --head` or `ray up cluster.yaml`, or "
    "leave --address out to use this machine. Ray listens on port 6379 of the head (`auto` there, HOST:6379 on its "
    "nodes); from any other machine use `gapctl cluster submit`"
)


class Port(NamedTuple):
    """Where to knock."""

    host: str
    number: int


def check_address(address: str | None) -> None:
    """Raises InputError where no Ray cluster answers at `--address`; None, and thus this machine, is always right.

    `auto` is what RAY_ADDRESS or the last `ray start` on this machine names; without either, Ray looks for itself.
    """
    if address is None or address == "local":
        return
    named = _started_here() if address == "auto" else address
    if named is None:
        return
    beside = f" (that is {named})" if named != address else ""
    if named.startswith(CLIENT):
        raise InputError(
            f"--address {address}{beside}: an address of Ray's client, which gapctl cannot use; expected auto or "
            "HOST:6379 on a machine of the cluster. Use `gapctl cluster submit` from here, or `--address auto` on the "
            "head"
        )
    port = _port(named, address)
    finding = _wrong_with(port)
    if finding:
        raise InputError(f"--address {address}{beside}: no Ray cluster answers there: {finding}. {REMEDY}")
    if not _is_encrypted():
        _present_token(port, f"--address {address}{beside}")


def _started_here() -> str | None:
    """What `ray start` noted on this machine, if it did."""
    named = os.environ.get("RAY_ADDRESS")
    if named and named != "auto":
        return named
    try:
        noted = (default_ray_folder() / "ray" / "ray_current_cluster").read_text(encoding="utf-8")
    except OSError:
        return None
    return noted.strip() or None


def _port(named: str, address: str) -> Port:
    try:
        parts = urlsplit(f"//{named}")
        host, number = parts.hostname, parts.port
    except ValueError:
        host, number = None, None
    if not host or not number:
        raise InputError(f"--address {address}: this names no host and port; expected auto or HOST:6379")
    return Port(host, number)


def _wrong_with(port: Port) -> str | None:
    """What keeps a cluster at the port from being one, or None where it answers as one."""
    try:
        connection = socket.create_connection(port, timeout=CONNECT_SECONDS)
    except TimeoutError:
        return f"no connection to port {port.number} of {port.host} within {CONNECT_SECONDS:.0f} s"
    except socket.gaierror:
        return f"no machine of the name {port.host} is known"
    except OSError as error:
        return f"port {port.number} of {port.host}: {error.strerror or error}"
    with connection:
        return None if _is_encrypted() else _wrong_with_answer(connection)


def _present_token(port: Port, where: str) -> None:
    """Have Ray present this user's token where the cluster asks for one, as Ray does by itself for `auto` alone.

    `ray start` asks for a token on every machine that has one, and each `ray.init` without an address makes one. Raises
    InputError where there is none, or another.
    """
    if _admits(port, None):
        return
    token, place = _token()
    mode = os.environ.get(MODE)
    if mode not in (None, "token"):
        problem = f"{MODE}={mode} keeps this process from presenting one"
    elif token is None:
        problem = f"there is none in {place}"
    elif not _admits(port, token):
        problem = f"that in {place} is another"
    else:
        os.environ[MODE] = "token"
        return
    raise InputError(
        f"{where}: the cluster asks for Ray's token, and {problem}; expected that of the machine of `ray start`. "
        f"Set {MODE}=token and RAY_AUTH_TOKEN to what `ray get-auth-token` prints there"
    )


def _token() -> tuple[str | None, str]:
    """The token that Ray would present, and where it looks for it."""
    if found := os.environ.get("RAY_AUTH_TOKEN"):
        return found.strip(), "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    place = Path(named) if named else Path("~/.ray/auth_token").expanduser()
    try:
        return place.read_text(encoding="utf-8").strip() or None, str(place)
    except (OSError, UnicodeDecodeError):
        return None, str(place)


def _admits(port: Port, token: str | None) -> bool:
    """Whether a cluster answers with this token, or without one; True where it answers anything but a refusal."""
    import grpc

    metadata = [] if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(f"{port.host}:{port.number}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(CLUSTER_ID)(b"", timeout=ANSWER_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            return bool(error.code() != grpc.StatusCode.UNAUTHENTICATED)
    return True


def _is_encrypted() -> bool:
    """Then only Ray can speak to it."""
    return os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true")


def _wrong_with_answer(connection: socket.socket) -> str | None:
    connection.settimeout(ANSWER_SECONDS)
    answer = b""
    try:
        connection.sendall(GREETING)
        while len(answer) < FRAME_HEADER and (part := connection.recv(FRAME_HEADER - len(answer))):
            answer += part
    except TimeoutError:
        return f"the port is open, but silent for {ANSWER_SECONDS:.0f} s"
    except OSError as error:
        return f"the port is open, but the connection broke: {error.strerror or error}"
    if len(answer) == FRAME_HEADER and answer[FRAME_TYPE] == SETTINGS:
        return None
    return "the port is open, but what listens there is not Ray (its dashboard, on port 8265, is no address either)"
