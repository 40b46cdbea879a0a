"""Name the addresses of a hub of Hugging Face, and say what went wrong where it was asked for a file, and what to do.

1. `convert_hub_page_address` and `convert_hub_file_address` turn addresses of the web into `hf://`, which knows tokens.
2. `describe_hub_failure` explains an error of its client, for models and data sets alike.
"""

import os
import re
from functools import partial
from typing import Final

from gapctl.errors import first_line_of_error

HUB: Final = "https://huggingface.co"
DATASETS: Final = "/datasets/"
_FILE_OF_HUB: Final = re.compile(r"([^/]+/[^/]+)/(?:resolve|raw|blob)/([^/]+)/([^?#]+)")
"""What follows `/datasets/` in the address of a file: its repository, revision and path."""
LOG_IN: Final = "log in with `hf auth login`, or set HF_TOKEN"


def find_hub_endpoint() -> str:
    """Return the address of the hub: `HF_ENDPOINT`, or else https://huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def convert_hub_page_address(address: str) -> str:
    """Return `hf://` for the page of a data set of the hub, and any other address as it is."""
    path = _strip_hub(address)
    if path is None or "/resolve/" in address or "/raw/" in address:
        return address
    parts = path.strip("/").split("/")
    if len(parts) > 3 and parts[2] == "tree":
        parts = [parts[0], f"{parts[1]}@{parts[3]}", *parts[4:]]
    return "hf://datasets/" + "/".join(parts)


def convert_hub_file_address(address: str) -> str:
    """Return `hf://` for a page or a file of a data set of the hub, so that it is asked with the user's token.

    Braces in the file's name stay. Any other address is returned as it is.
    """
    found = _FILE_OF_HUB.fullmatch((_strip_hub(address) or "").partition("?")[0])
    if found is None:
        return convert_hub_page_address(address)
    repository, revision, file = found.groups()
    return f"hf://datasets/{repository}{'' if revision == 'main' else f'@{revision}'}/{file}"


def _strip_hub(address: str) -> str | None:
    """Return what follows `/datasets/` in an address of the hub, or None for another address."""
    for hub in (HUB, find_hub_endpoint()):
        if address.startswith(hub + DATASETS):
            return address.removeprefix(hub + DATASETS)
    return None


class FetchError(Exception):
    """What a hub answered in place of a file, and what to do.

    `wrong_name` where no waiting helps, and not `answered` where the hub could not be reached at all. `status` is
    HTTP's, None where no answer came.
    """

    def __init__(
        self, reason: str, remedy: str, *, wrong_name: bool = False, answered: bool = True, status: int | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy
        self.wrong_name, self.answered, self.status = wrong_name, answered, status

    def format(self, place: str) -> str:
        """Return the message for a user about the model or data set that was asked for."""
        return f"{place}: {self.reason}. {self.remedy}"


def describe_hub_failure(error: BaseException, file: str, hub: str, page: str, by_hand: str) -> FetchError:
    """Return what an error of huggingface_hub's client means for a file of the repository at `page`.

    `by_hand` says how to do without the hub.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError):  # wraps what went wrong, offline mode included
        error = error.__cause__ or error
    status = getattr(getattr(error, "response", None), "status_code", None)
    fail = partial(FetchError, status=status)
    if isinstance(error, OfflineModeIsEnabled):
        reason = f"{file} is not in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to download it"
        return fail(reason, f"Download it where there is a network. {by_hand}")
    if isinstance(error, GatedRepoError):
        reason = f"its owner grants access at {page}, and this machine has none"
        return fail(reason, f"Ask there, then {LOG_IN}", wrong_name=True)
    if isinstance(error, RepositoryNotFoundError):
        reason = f"no such repository at {hub}, or a private one (it answered {status})"
        return fail(reason, f"Check the name; for a private one {LOG_IN}", wrong_name=True)
    if status in (401, 403):
        reason = f"{hub} answered {status} for {file}: it asks who you are, or the token is wrong"
        return fail(reason, f"Accept its terms at {page} if it has any, and {LOG_IN}. {by_hand}")
    if status == 429:
        reason = f"{hub} answered 429 for {file}: too many requests"
        advice = "Wait some minutes, then run the same command again; after `hf auth login` the limit is higher"
        return fail(reason, advice)
    if status is not None:
        return fail(f"{hub} answered {status} for {file}", f"Run the same command later. {by_hand}")
    reason = f"{file} could not be downloaded from {hub} ({first_line_of_error(error)})"
    return fail(reason, f"The same command tries again. {by_hand}", answered=False)
