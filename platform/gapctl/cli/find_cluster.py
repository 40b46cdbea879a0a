"""The Ray cluster that `--address` names, asked for before anything is begun on it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def find_cluster(address: str | None, console: "Console") -> None:
    """Raises InputError where no cluster answers at an address; None is this machine."""
    if address is None:
        return
    from gapctl.sweep.address import check_address

    with console.status(f"looking for a Ray cluster at {address}"):
        check_address(address)
