"""Servers on this machine are asked without the proxy that the environment names for the network."""

import ipaddress
import os
import socket
from urllib.parse import urlsplit

ANY_ADDRESS = ("0.0.0.0", "::")


def bypass_proxies(address: str) -> None:
    """List the address's host in `no_proxy` if it is this machine; urllib, requests and aiohttp all heed that variable.

    No name is looked up, as behind a proxy there may be nobody to ask.
    """
    try:
        host = urlsplit(address).hostname
    except ValueError:
        return
    if host is None or not _is_this_machine(host):
        return
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    listed = [each.strip() for each in before.split(",") if each.strip()]
    # urllib compares an IPv6 address with its brackets, requests without.
    wanted = [host, f"[{host}]"] if ":" in host else [host]
    value = ",".join([*listed, *(each for each in wanted if each not in listed)])
    os.environ.update({"no_proxy": value, "NO_PROXY": value})


def _is_this_machine(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost") or host == socket.gethostname().lower():
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    return found.is_loopback or host in ANY_ADDRESS or _is_own_address(found)


def _is_own_address(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Only a machine's own addresses can be bound to."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
