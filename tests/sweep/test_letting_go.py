"""Nothing of Ray is left to be freed while Ray shuts down, in whichever thread."""

import gc
import threading
import weakref

import pytest
import ray

from gapctl.sweep.ray_session import collect_garbage, shutdown


class Cycle:
    def __init__(self) -> None:
        self.me = self


class Slow(Cycle):
    """Keeps whoever collects it busy until it is told to go."""

    entered, may_go = threading.Event(), threading.Event()

    def __del__(self) -> None:
        self.entered.set()
        self.may_go.wait(30)


@pytest.fixture(autouse=True)
def no_collections_of_others() -> None:
    gc.collect()


def test_cycles_are_freed_before_ray_shuts_down_and_nothing_is_collected_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left_by_tune = weakref.ref(Cycle())
    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(ray, "shutdown", lambda: seen.append((left_by_tune() is None, gc.isenabled())))

    shutdown()

    assert seen == [(True, False)]
    assert gc.isenabled()


def test_collection_goes_on_where_ray_fails_to_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(ray, "shutdown", broken)

    with pytest.raises(RuntimeError):
        shutdown()

    assert gc.isenabled()


def test_a_collection_of_another_thread_is_waited_for() -> None:
    Slow()
    other = threading.Thread(target=gc.collect)
    other.start()
    assert Slow.entered.wait(30)
    mine = weakref.ref(Cycle())
    threading.Timer(0.2, Slow.may_go.set).start()

    collect_garbage()

    assert mine() is None
    other.join(30)
