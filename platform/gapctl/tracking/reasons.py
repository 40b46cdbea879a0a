"""What went wrong between us and MLflow, in plain words."""

import re
import socket
import ssl
from collections.abc import Iterator

from gapctl.spec.secrets import without_passwords

LONGEST = 400
WORDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((socket.gaierror,), "no machine of that name is known"),
    ((ConnectionRefusedError,), "nothing answers there (connection refused)"),
    ((TimeoutError,), "it did not answer in time"),
    ((ssl.SSLError,), "a secure connection could not be made; compare http and https"),
    ((ConnectionError,), "the connection broke"),
)
"""The first kind that an error or one of its causes is decides what is said."""

REFUSED = {"401", "403"}


def in_plain_words(error: BaseException) -> str:
    """One line without a class name or a password, found by following the error to its causes."""
    causes = list(_causes(error))
    for kinds, words in WORDS:
        if any(isinstance(cause, kinds) for cause in causes):
            return words
    if any("timed out" in str(cause) for cause in causes):
        return "it did not answer in time"
    return _answered(str(error)) or _innermost(causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that it was made of: causes, wrapped errors, urllib3's reason, SQLAlchemy's original."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop(0)
        if not isinstance(found, BaseException) or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [getattr(found, "orig", None), getattr(found, "reason", None), *found.args]
        waiting += [found.__cause__, found.__context__]


def _answered(text: str) -> str | None:
    """What a server's answer means that MLflow could not use."""
    code = re.search(r"(?:error code |too many )(\d{3})\b", text)
    if code is None:
        return "what answers there is not an MLflow server" if "valid JSON format" in text else None
    if code[1] in REFUSED:
        return (
            f"it refuses us (HTTP {code[1]}); set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN"
        )
    if code[1] == "404":
        return "what answers there is not an MLflow server (HTTP 404)"
    return f"it answers with errors (HTTP {code[1]})"


def _innermost(causes: list[BaseException]) -> str:
    """SQLite's own words where there are some, else the first line of what was said."""
    original = [getattr(cause, "orig", None) for cause in causes]
    said = next((str(cause) for cause in original if cause), "") or str(causes[0]) or type(causes[0]).__name__
    line = without_passwords(said.strip().splitlines()[0])
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
