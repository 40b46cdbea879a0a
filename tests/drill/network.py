"""Machines of a drill with a network of their own: a namespace for each on one bridge, whose links can be cut.

It needs Linux and the right to make network namespaces. This process' own namespace is the machine of the head.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Machine(NamedTuple):
    """A network namespace, its address, and the end of its cable at the bridge."""

    name: str
    address: str
    cable: str

    def command(self, *words: str) -> list[str]:
        """Return the command that runs `words` on this machine."""
        return ["ip", "netns", "exec", self.name, *words]

    def cut(self) -> None:
        """Pull the cable: nothing that was sent arrives, and nobody is told."""
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        """Plug the cable in again."""
        _ip("link", "set", self.cable, "up")


class Network(NamedTuple):
    """The address of this process' namespace on the bridge, and the other machines."""

    address: str
    machines: tuple[Machine, ...]


def may_make_networks() -> bool:
    """Return whether this process may make network namespaces."""
    try:
        with connected_machines(1):
            return True
    except (FileNotFoundError, subprocess.CalledProcessError):
        return False


@contextmanager
def connected_machines(count: int) -> Iterator[Network]:
    """Make `count` machines and their bridge; all are gone afterwards.

    Raise CalledProcessError or FileNotFoundError where that is not allowed or `ip` is missing.
    """
    number = os.getpid() % 250
    bridge, network = f"gd{number}", f"10.231.{number}"
    machines = tuple(
        Machine(f"{bridge}-{index}", f"{network}.{index + 2}", f"{bridge}v{index}") for index in range(count)
    )
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{network}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for machine in machines:
            _ip("netns", "add", machine.name)
            _ip("link", "add", machine.cable, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
            _ip("link", "set", machine.cable, "master", bridge, "up")
            _ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "eth0")
            _ip("-n", machine.name, "link", "set", "eth0", "up")
            _ip("-n", machine.name, "link", "set", "lo", "up")
        yield Network(f"{network}.1", machines)
    finally:
        for machine in machines:
            _remove("netns", "del", machine.name)
        _remove("link", "del", bridge)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _remove(*words: str) -> None:
    subprocess.run(["ip", *words], check=False, capture_output=True)
