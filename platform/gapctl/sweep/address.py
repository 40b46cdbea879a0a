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
    finding = _wrong_with(_port(named, address))
    if finding:
        raise InputError(f"--address {address}{beside}: no Ray cluster answers there: {finding}. {REMEDY}")


def _started_here() -> str | None:
    """What `ray start` noted on this machine, if it did."""
    named = os.environ.get("RAY_ADDRESS")
    if named and named != "auto":
        return named
    try:
        noted = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster").read_text(encoding="utf-8")
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
