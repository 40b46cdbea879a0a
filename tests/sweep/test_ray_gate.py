"""Threads that ask Ray do so inside a gate, which whoever ends Ray closes first."""

import threading
from collections.abc import Iterator

import pytest

from gapctl.sweep import ray_session as ray_gate
from gapctl.sweep.ray_session import close_gate, enter_gate, open_gate


@pytest.fixture(autouse=True)
def _open() -> Iterator[None]:
    """As in a process that has not begun with Ray; tests of sweeps before these have ended theirs."""
    open_gate()
    yield
    open_gate()


def test_nobody_asks_a_ray_that_was_closed_until_another_is_open() -> None:
    with enter_gate() as before:
        pass
    close_gate()
    with enter_gate() as closed:
        pass
    open_gate()
    with enter_gate() as again:
        pass

    assert (before, closed, again) == (True, False, True)


def test_closing_waits_for_who_is_inside_and_lets_nobody_else_in() -> None:
    inside, leave, done = threading.Event(), threading.Event(), list[str]()

    def ask() -> None:
        with enter_gate():
            inside.set()
            leave.wait(20)
            done.append("asked")

    def close() -> None:
        close_gate()
        done.append("closed")

    threads = [threading.Thread(target=ask), threading.Thread(target=close)]
    threads[0].start()
    inside.wait(20)
    threads[1].start()
    while _lets_in():
        pass
    assert done == []
    leave.set()
    for thread in threads:
        thread.join(20)

    assert done == ["asked", "closed"]


def test_closing_gives_up_a_question_that_is_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_gate, "CLOSE_SECONDS", 0.05)
    with enter_gate():
        close_gate()

    assert not _lets_in()


def _lets_in() -> bool:
    with enter_gate() as may_ask:
        return may_ask
