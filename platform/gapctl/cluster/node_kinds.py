"""Which kind of machine each node of a running Ray is: asked of the node itself, and not waited for if it is late."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gapctl.cluster.machine_kind import MachineKind, this_machine

WAIT_SECONDS: Final = 1.0
"""For all answers of one look together."""
HEAR_SECONDS: Final = 0.1
"""For an answer that is there."""
GIVE_UP_SECONDS: Final = 30.0
"""Then a node is asked anew."""


class NodeKinds:
    """Remembers what nodes answered, and what they were asked and have not answered yet."""

    def __init__(self) -> None:
        self._kinds: dict[str, MachineKind | None] = {}
        self._asked: dict[Any, tuple[str, float]] = {}

    def look(self, nodes: Sequence[str]) -> Mapping[str, MachineKind | None]:
        """By node id, those that have answered by now: None for a machine of no cloud, and where the question fails.

        It fails on a machine whose image cannot run gapctl, and would again. A node that is lost meanwhile is left
        out, as one that is late.
        """
        import ray

        self._ask([node for node in nodes if node not in self._kinds])
        if self._asked:
            done, late = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=WAIT_SECONDS)
            for task in done:
                self._hear(task)
            for task in late:
                self._give_up_where_late(task)
        return {node: self._kinds[node] for node in nodes if node in self._kinds}

    def _ask(self, nodes: Sequence[str]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        waited_for = {node for node, _ in self._asked.values()}
        look: Any = ray.remote(num_cpus=0)(this_machine)
        for node in nodes:
            if node not in waited_for:
                there = NodeAffinitySchedulingStrategy(node, soft=False)
                self._asked[look.options(scheduling_strategy=there).remote()] = node, time.monotonic()

    def _hear(self, task: Any) -> None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        node, _ = self._asked.pop(task)
        try:
            self._kinds[node] = ray.get(task, timeout=HEAR_SECONDS)
        except RayTaskError:
            self._kinds[node] = None
        except RayError:
            return

    def _give_up_where_late(self, task: Any) -> None:
        import ray

        _, since = self._asked[task]
        if time.monotonic() - since >= GIVE_UP_SECONDS:
            ray.cancel(task)
            del self._asked[task]
