"""The resources that a trial requests of Ray, and whether the cluster can ever provide them.

1. `build_resource_request` decides before a sweep what each trial reserves, and raises InputError if it never fits.
   If it does not fit now, `ask_autoscaler` finds out whether the cluster would grow.
2. During the sweep, `ClusterWatch` ends it once no machine can hold a trial any more.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from gapctl.config.sweep import Resources
from gapctl.errors import InputError
from gapctl.sweep.ray_private import AutoscalerState, list_dead_reservations, read_autoscaler_state

Bundle = Mapping[str, float]

AUTOSCALER_SECONDS: Final = 30.0
"""Longest wait for the autoscaler, which looks every five seconds and takes a few to ask its cloud."""
NO_AUTOSCALER_SECONDS: Final = 10.0
"""Wait until an autoscaler that has not reported counts as absent."""
PLACEMENT_CHECK_SECONDS: Final = 1.0


def can_scale_to(bundles: Sequence[Bundle]) -> bool:
    """Return whether the joined cluster can hold all bundles, now or after it has grown."""
    return bool(ask_autoscaler(bundles))


def ask_autoscaler(bundles: Sequence[Bundle]) -> bool | None:
    """Return whether the cluster can hold all bundles, None if its autoscaler neither grows nor refuses."""
    from ray.util import placement_group, remove_placement_group

    before = read_autoscaler_state()
    wanted = placement_group([dict(bundle) for bundle in bundles])
    try:
        began = time.monotonic()
        while time.monotonic() < began + AUTOSCALER_SECONDS:
            if wanted.wait(timeout_seconds=PLACEMENT_CHECK_SECONDS):
                return True
            state = read_autoscaler_state()
            answer = judge_growth(state, bundles, before)
            if answer is not None:
                return answer
            if not state.present and time.monotonic() > began + NO_AUTOSCALER_SECONDS:
                return False
        return None
    finally:
        remove_placement_group(wanted)


def judge_growth(state: AutoscalerState, bundles: Sequence[Bundle], before: AutoscalerState) -> bool | None:
    """Return whether the autoscaler grows for these bundles (True), cannot (False), or has not answered (None).

    `before` is the state from before the request. Machines that the autoscaler started on that earlier state are for
    others.
    """
    if state.seen > before.now:
        if _drop_zero_amounts(bundles) in [_drop_zero_amounts(request) for request in state.refused]:
            return False
        if state.starting:
            return True
    return True if state.starting_legacy else None


def _drop_zero_amounts(bundles: Sequence[Bundle]) -> list[dict[str, float]]:
    return [{name: float(amount) for name, amount in bundle.items() if amount} for bundle in bundles]


RESOURCE_NAMES: Final = ("CPU", "GPU")
WAITING_BUNDLE: Final = {"node:__internal_head__": 0.001}
"""Bundle of the process that waits for workers: no CPU that they may need, on the driver's node."""
MAX_WAITING_TRIALS: Final = 8
"""Trials of several workers that wait on the driver's node while a cluster grows, half a GiB each."""
NO_AUTOSCALER_CLAUSE: Final = ", and no autoscaler starts a machine that would hold it"


class ResourceRequest(NamedTuple):
    """The bundles that Tune reserves for each trial, and how many trials may run at once if that is limited."""

    bundles: list[dict[str, float]]
    gpu: bool
    at_once: int | None = None


def build_resource_request(resources: Resources, *, elastic: bool) -> ResourceRequest:
    """Return the resource request of a trial. Raises InputError if Ray cannot meet it, even if `elastic` by growing.

    `gpus: auto` is one GPU if there is one or the autoscaler starts a machine with one. Workers that train one trial
    together are reserved by Ray Train, so only as many such trials run as there is room for.
    """
    living = _cluster_resources()
    gpus = _choose_gpus(resources, living, elastic)
    whole = _sum_trial_resources(resources, gpus)
    fits = all(asked <= living[name] for name, asked in whole.items())
    grows = not fits and elastic and can_scale_to(_build_bundles(resources, gpus))
    if not grows:
        _check_resources(resources, whole, living, "Ray", NO_AUTOSCALER_CLAUSE if elastic else "")
    if resources.workers == 1:
        return ResourceRequest(_build_bundles(resources, gpus), gpus > 0)
    rooms = min(int(living[name] // asked) for name, asked in whole.items() if asked)
    if elastic and not grows and rooms < MAX_WAITING_TRIALS:
        grows = can_scale_to(_build_bundles(resources, gpus) * (rooms + 1))
    return ResourceRequest([WAITING_BUNDLE], gpus > 0, max(1, rooms, MAX_WAITING_TRIALS if grows else 0))


def build_trial_bundles(resources: Resources, request: ResourceRequest) -> list[dict[str, float]]:
    """Return all bundles that one trial reserves, each on one node, including those of Ray Train."""
    gpus = float(request.gpu) if resources.gpus == "auto" else float(resources.gpus)
    return _build_bundles(resources, gpus)


def check_machine_capacity(resources: Resources, cores: int) -> None:
    """Raise InputError if so many cores cannot hold one trial. Ray itself would report that only once started."""
    _check_resources(
        resources, {"CPU": _sum_trial_resources(resources, 0.0)["CPU"]}, {"CPU": float(cores)}, "this machine"
    )


def _choose_gpus(resources: Resources, living: Mapping[str, float], elastic: bool) -> float:
    if resources.gpus != "auto":
        return float(resources.gpus)
    if living["GPU"] >= 1 or (elastic and can_scale_to(_build_bundles(resources, 1.0))):
        return 1.0
    return min(1.0, living["GPU"])


def _sum_trial_resources(resources: Resources, gpus: float) -> dict[str, float]:
    return {"CPU": float(resources.workers * (resources.cpus + resources.readers)), "GPU": resources.workers * gpus}


def _build_bundles(resources: Resources, gpus: float) -> list[dict[str, float]]:
    training = {"CPU": float(resources.cpus), "GPU": gpus}
    one = [training] if not resources.readers else [training, {"CPU": float(resources.readers)}]
    return one * resources.workers


def _check_resources(
    resources: Resources, whole: Bundle, offered: Mapping[str, float], whose: str, more: str = ""
) -> None:
    defaults = {name: field.default for name, field in type(resources).model_fields.items()}
    changed = [name for name in ("readers", "workers") if getattr(resources, name) != defaults[name]]
    keys = {"CPU": ["cpus", *changed], "GPU": ["gpus"]}
    for name, asked in whole.items():
        if asked > offered[name]:
            wrong = ", ".join(f"resources.{key}" for key in keys[name])
            raise InputError(
                f"{wrong}: {asked:g} {name}s asked for a trial, but {whose} has {offered[name]:g}{more}; "
                "ask for less, or give --address of a larger cluster"
            )


def _cluster_resources() -> dict[str, float]:
    """Return the total resources of the living nodes."""
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return {name: float(found.get(name, 0.0)) for name in RESOURCE_NAMES}


def release_dead_reservations() -> int:
    """Remove the placement groups of this process's Ray job whose creating actor is dead, and return their number."""
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    dead = list_dead_reservations()
    for group_id in dead:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(group_id)))
    return len(dead)


WATCH_SECONDS: Final = 2.0
MISSING_SECONDS: Final = 15.0
"""Seconds that a machine may be missing before the autoscaler is asked; a restarted one joins anew."""
ASK_AGAIN_SECONDS: Final = 60.0
"""Seconds between two questions to an autoscaler that neither starts a machine nor refuses."""


class ClusterWatch:
    """End Tune's run once no machine can hold a trial, or `stopped` is true; `reason` says why in the first case.

    `bundles` are what a trial reserves, each on one node. A local Ray cannot lose machines, so they are checked only if
    `elastic`.
    """

    def __init__(
        self,
        bundles: Sequence[Bundle],
        *,
        elastic: bool,
        stopped: Callable[[], bool] = bool,
        nodes: Callable[[], list[Bundle]] | None = None,
        grows: Callable[[Sequence[Bundle]], bool | None] = ask_autoscaler,
        release: Callable[[], int] = release_dead_reservations,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reason = ""
        self._bundles, self._elastic, self._stopped = [dict(bundle) for bundle in bundles], elastic, stopped
        self._nodes, self._grows, self._release, self._clock = nodes or list_living_nodes, grows, release, clock
        self._checked = self._had_room = self._clock()
        self._asked: float | None = None

    def stop_all(self) -> bool:
        """Return whether the sweep must end. Tune calls this several times a second."""
        now = self._clock()
        if not self.reason and now - self._checked >= WATCH_SECONDS:
            self._checked = now
            self._release()
            if self._elastic:
                self._check_room(now)
        return self.has_ended()

    def has_ended(self) -> bool:
        """Return whether the sweep must end, without a look at the machines."""
        return bool(self.reason) or self._stopped()

    def _check_room(self, now: float) -> None:
        nodes = self._nodes()
        if can_hold_bundles(nodes, self._bundles):
            self._had_room, self._asked = now, None
        elif now - self._had_room >= MISSING_SECONDS and (
            self._asked is None or now - self._asked >= ASK_AGAIN_SECONDS
        ):
            if self._grows(self._bundles) is False:
                self.reason = explain_no_room(nodes, self._bundles)
            self._asked = self._clock()


def list_living_nodes() -> list[Bundle]:
    """Return the total resources of each living node, in use or not."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def can_hold_bundles(nodes: Sequence[Bundle], bundles: Sequence[Bundle]) -> bool:
    """Return whether the nodes, if empty, have room for all bundles, each on one node.

    A trial has at most two kinds of bundles. So it is enough to know, for each number of the first kind, how many of
    the second fit beside them.
    """
    kinds = [dict(kind) for kind in {tuple(sorted(bundle.items())) for bundle in bundles}]
    wanted = [sum(dict(bundle) == kind for bundle in bundles) for kind in kinds]
    first, second = [*kinds, {}][:2]
    most = {0: 0}
    for node in nodes:
        found: dict[int, int] = {}
        for placed, beside in most.items():
            for more in range(_count_fitting_bundles(node, first, {}, 0, wanted[0] - placed) + 1):
                added = _count_fitting_bundles(node, second, first, more, sum(wanted[1:])) if second else 0
                found[placed + more] = max(found.get(placed + more, 0), beside + added)
        most = found
    return most.get(wanted[0], -1) >= sum(wanted[1:])


def _count_fitting_bundles(node: Bundle, bundle: Bundle, taken: Bundle, times: int, limit: int) -> int:
    """Return how many of a bundle, at most `limit`, fit on a node beside `times` of `taken`."""
    rooms = [
        int((node.get(name, 0.0) - times * taken.get(name, 0.0) + 1e-6) // asked)
        for name, asked in bundle.items()
        if asked
    ]
    return max(0, min([limit, *rooms]))


def explain_no_room(nodes: Sequence[Bundle], bundles: Sequence[Bundle]) -> str:
    """Return the sentence with what a trial requests and what the living machines have."""
    names = ("CPU", "GPU")
    asked = _format_amounts({name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names})
    machines = [_format_amounts({name: node.get(name, 0.0) for name in names}) for node in nodes]
    have = f"the {len(nodes)} that are left have {'; '.join(machines)}" if nodes else "none is left"
    return (
        f"no machine of the cluster can hold a trial any more, and no autoscaler starts one: a trial asks for {asked}"
        f"{f' in {len(bundles)} parts' if len(bundles) > 1 else ''}, {have}"
    )


def _format_amounts(resources: Bundle) -> str:
    return " and ".join(f"{amount:g} {name}s" for name, amount in resources.items() if amount) or "nothing"
