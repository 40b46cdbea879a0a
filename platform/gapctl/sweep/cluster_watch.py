"""Looks after a sweep's cluster while Tune runs: frees what the dead reserved, and sees when nothing fits any more.

Tune and Ray Train wait without end for machines that hold a trial. Where the last such machine was lost, and no
autoscaler starts another, the sweep ends with what is done.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ray.tune import Stopper

from gapctl.sweep.growth import Bundle, answer_growth
from gapctl.sweep.reservations import release_dead_reservations

LOOK_SECONDS: Final = 2.0
MISSING_SECONDS: Final = 15.0
"""So long a machine may be away before an autoscaler is asked: the node of a restarted one joins anew."""
ASK_AGAIN_SECONDS: Final = 60.0
"""Between two questions to an autoscaler that neither starts a machine nor refuses to."""


class ClusterWatch(Stopper):
    """Ends Tune's run once no machine can hold a trial; `reason` then says so.

    `bundles` are what a trial reserves, on one node each. A local Ray cannot lose machines, so only where it is
    `elastic` does the watch look at them.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        *,
        elastic: bool,
        nodes: Callable[[], list[Bundle]] | None = None,
        grows: Callable[[Sequence[Bundle]], bool | None] = answer_growth,
        release: Callable[[], int] = release_dead_reservations,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reason = ""
        self._bundles, self._elastic = [dict(bundle) for bundle in bundles], elastic
        self._nodes, self._grows, self._release, self._clock = nodes or living_nodes, grows, release, clock
        self._looked = self._held = self._clock()
        self._asked: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its stoppers for its own resumption, which the ledger takes the place of."""
        return {}

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Say whether the sweep is to end; Tune asks several times a second."""
        now = self._clock()
        if not self.reason and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._release()
            if self._elastic:
                self._look_for_room(now)
        return bool(self.reason)

    def or_when(self, stopped: Callable[[], bool]) -> Callable[[], bool]:
        """Return the question whether the sweep is to end, for this or for another reason."""
        return lambda: bool(self.reason) or stopped()

    def _look_for_room(self, now: float) -> None:
        nodes = self._nodes()
        if holds(nodes, self._bundles):
            self._held, self._asked = now, None
        elif now - self._held >= MISSING_SECONDS and (self._asked is None or now - self._asked >= ASK_AGAIN_SECONDS):
            if self._grows(self._bundles) is False:
                self.reason = no_room(nodes, self._bundles)
            self._asked = self._clock()


def living_nodes() -> list[Bundle]:
    """Return what each node that is alive has in all, whether or not it is in use."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def holds(nodes: Sequence[Bundle], bundles: Sequence[Bundle]) -> bool:
    """Whether nodes that are otherwise empty have room for all bundles, each on one node.

    A trial's bundles are of two kinds at most, so it is enough to know how many of the second kind fit beside each
    number of the first.
    """
    kinds = [dict(kind) for kind in {tuple(sorted(bundle.items())) for bundle in bundles}]
    wanted = [sum(dict(bundle) == kind for bundle in bundles) for kind in kinds]
    first, second = [*kinds, {}][:2]
    most = {0: 0}
    for node in nodes:
        found: dict[int, int] = {}
        for placed, beside in most.items():
            for more in range(_fits(node, first, {}, 0, wanted[0] - placed) + 1):
                added = _fits(node, second, first, more, sum(wanted[1:])) if second else 0
                found[placed + more] = max(found.get(placed + more, 0), beside + added)
        most = found
    return most.get(wanted[0], -1) >= sum(wanted[1:])


def _fits(node: Bundle, bundle: Bundle, taken: Bundle, times: int, limit: int) -> int:
    """How many of a bundle, `limit` at most, a node holds on which `taken` lies so many times."""
    rooms = [
        int((node.get(name, 0.0) - times * taken.get(name, 0.0) + 1e-6) // asked)
        for name, asked in bundle.items()
        if asked
    ]
    return max(0, min([limit, *rooms]))


def no_room(nodes: Sequence[Bundle], bundles: Sequence[Bundle]) -> str:
    """Return the sentence that names what a trial asks for and what the living machines have."""
    names = ("CPU", "GPU")
    asked = _amounts({name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names})
    machines = [_amounts({name: node.get(name, 0.0) for name in names}) for node in nodes]
    have = f"the {len(nodes)} that are left have {'; '.join(machines)}" if nodes else "none is left"
    return (
        f"no machine of the cluster can hold a trial any more, and no autoscaler starts one: a trial asks for {asked}"
        f"{f' in {len(bundles)} parts' if len(bundles) > 1 else ''}, {have}"
    )


def _amounts(resources: Bundle) -> str:
    return " and ".join(f"{amount:g} {name}s" for name, amount in resources.items() if amount) or "nothing"
