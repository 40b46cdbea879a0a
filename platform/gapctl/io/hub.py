"""Say what went wrong where a hub of Hugging Face was asked for a file, and what to do: of models and of data sets."""

from functools import partial
from typing import Final

from gapctl.errors import first_line_of_error

LOG_IN: Final = "log in with `hf auth login`, or set HF_TOKEN"


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
