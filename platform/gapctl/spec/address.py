"""An address in a trial's configuration, which its ledger keeps and reports show."""

from typing import Annotated, Final

from pydantic import AfterValidator

from gapctl.spec.secrets import holds_password, without_password


def _without_password(address: str) -> str:
    if holds_password(address):
        raise ValueError(
            f"found {without_password(address)}, an address with a password, which would be written into the ledger; "
            "expected it without, and the password in the environment"
        )
    return address


NO_PASSWORD: Final = AfterValidator(_without_password)
"""Of a path or address: one that holds a password is refused."""

Address = Annotated[str, NO_PASSWORD]
