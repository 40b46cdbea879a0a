"""What one trial asks of Ray, and whether Ray can ever give it."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from gapctl.errors import InputError
from gapctl.spec.sweep import Resources
from gapctl.sweep.growth import Bundle, grows_to

NAMES: Final = ("CPU", "GPU")
WAITING: Final = {"node:__internal_head__": 0.001}
"""Of the process that waits for workers: no CPU that they may need, on the node where the driver is."""
WAITING_FOR_MACHINES: Final = 8
"""Trials of several workers that wait on the driver's node while a cluster grows; each takes half a GiB there."""
NOR_WILL_GROW: Final = ", and no autoscaler starts a machine that would hold it"


class Request(NamedTuple):
    """What Tune reserves for each trial, bundle by bundle, and how many trials may run at once, if that is limited."""

    bundles: list[dict[str, float]]
    gpu: bool
    at_once: int | None = None


def request_of(resources: Resources, *, elastic: bool) -> Request:
    """What a trial asks for; raises InputError where Ray cannot offer it, nor grow to: an `elastic` cluster is asked.

    `gpus: auto` is one GPU where there is one, or where the autoscaler starts a machine that has one. Workers that
    train one trial together are reserved by Ray Train, so only as many such trials run as there is room for.
    """
    living = _living()
    gpus = _gpus(resources, living, elastic)
    whole = _whole(resources, gpus)
    grows = not _holds(living, whole) and elastic and grows_to(_bundles(resources, gpus))
    if not grows:
        _check(resources, whole, living, "Ray", NOR_WILL_GROW if elastic else "")
    if resources.workers == 1:
        return Request(_bundles(resources, gpus), gpus > 0)
    rooms = min(int(living[name] // asked) for name, asked in whole.items() if asked)
    if elastic and not grows and rooms < WAITING_FOR_MACHINES:
        grows = grows_to(_bundles(resources, gpus) * (rooms + 1))
    return Request([WAITING], gpus > 0, max(1, rooms, WAITING_FOR_MACHINES if grows else 0))


def trial_bundles(resources: Resources, request: Request) -> list[dict[str, float]]:
    """Return what one trial reserves in all, each on one node, those that Ray Train asks for included."""
    gpus = float(request.gpu) if resources.gpus == "auto" else float(resources.gpus)
    return _bundles(resources, gpus)


def check_this_machine(resources: Resources, cores: int) -> None:
    """Raises InputError where so many cores cannot hold one trial, which Ray would say only once it has started."""
    _check(resources, {"CPU": _whole(resources, 0.0)["CPU"]}, {"CPU": float(cores)}, "this machine")


def _gpus(resources: Resources, living: Mapping[str, float], elastic: bool) -> float:
    if resources.gpus != "auto":
        return float(resources.gpus)
    if living["GPU"] >= 1 or (elastic and grows_to(_bundles(resources, 1.0))):
        return 1.0
    return min(1.0, living["GPU"])


def _whole(resources: Resources, gpus: float) -> dict[str, float]:
    return {"CPU": float(resources.workers * (resources.cpus + resources.readers)), "GPU": resources.workers * gpus}


def _bundles(resources: Resources, gpus: float) -> list[dict[str, float]]:
    training = {"CPU": float(resources.cpus), "GPU": gpus}
    one = [training] if not resources.readers else [training, {"CPU": float(resources.readers)}]
    return one * resources.workers


def _holds(offered: Mapping[str, float], whole: Mapping[str, float]) -> bool:
    return all(asked <= offered[name] for name, asked in whole.items())


def _check(resources: Resources, whole: Bundle, offered: Mapping[str, float], whose: str, more: str = "") -> None:
    keys: dict[str, Sequence[str]] = {
        "CPU": [name for name in ("cpus", "readers", "workers") if name == "cpus" or _asked(resources, name)],
        "GPU": ["gpus"],
    }
    for name, asked in whole.items():
        if asked > offered[name]:
            wrong = ", ".join(f"resources.{key}" for key in keys[name])
            raise InputError(
                f"{wrong}: {asked:g} {name}s asked for a trial, but {whose} has {offered[name]:g}{more}; "
                "ask for less, or give --address of a larger cluster"
            )


def _asked(resources: Resources, name: str) -> bool:
    return bool(getattr(resources, name) != type(resources).model_fields[name].default)


def _living() -> dict[str, float]:
    """What the nodes that are there have."""
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return {name: float(found.get(name, 0.0)) for name in NAMES}
