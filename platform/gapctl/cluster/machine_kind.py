"""Which kind of machine this is, as its cloud's metadata service tells every machine about itself."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final, NamedTuple

ADDRESS: Final = "http://169.254.169.254"
"""The same for AWS and Google, and for nobody else."""
ANSWER_SECONDS: Final = 1.0
TOKEN: Final = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
GOOGLE: Final = {"Metadata-Flavor": "Google"}


class MachineKind(NamedTuple):
    """An instance type as the clouds name it, and whether it was bought on the spot market."""

    instance: str
    spot: bool


def this_machine(address: str = ADDRESS) -> MachineKind | None:
    """What this machine is; None where no cloud says so, as on a laptop or in most containers.

    AWS: instance metadata with a session's token (IMDSv2). Google: `computeMetadata/v1`.
    """
    try:
        return _amazon(address)
    except (OSError, ValueError):
        pass
    try:
        return _google(address)
    except (OSError, ValueError):
        return None


def _amazon(address: str) -> MachineKind:
    token = _ask(f"{address}/latest/api/token", TOKEN, method="PUT")
    headers = {"X-aws-ec2-metadata-token": token}
    kind = _ask(f"{address}/latest/meta-data/instance-type", headers)
    return MachineKind(kind, _ask(f"{address}/latest/meta-data/instance-life-cycle", headers) == "spot")


def _google(address: str) -> MachineKind:
    instance = f"{address}/computeMetadata/v1/instance"
    kind = _ask(f"{instance}/machine-type", GOOGLE).rsplit("/", 1)[-1]
    return MachineKind(kind, _ask(f"{instance}/scheduling/preemptible", GOOGLE) == "TRUE")


def _ask(address: str, headers: Mapping[str, str], method: str = "GET") -> str:
    # No proxy: the machine itself answers.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(address, headers=dict(headers), method=method)
    with opener.open(request, timeout=ANSWER_SECONDS) as answer:
        return str(answer.read(1000).decode("ascii")).strip()
