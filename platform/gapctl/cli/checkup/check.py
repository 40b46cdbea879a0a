"""A check's answer."""

from typing import Literal, NamedTuple

State = Literal["ok", "warning", "problem"]


class Check(NamedTuple):
    """A warning costs time or comfort, a problem stops a sweep; `fix` says in a line what to do about either."""

    name: str
    state: State
    found: str
    fix: str = ""
