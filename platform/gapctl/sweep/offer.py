"""What one trial asks of Ray, and whether Ray can ever give it."""

from collections.abc import Mapping
from typing import NamedTuple

from gapctl.errors import InputError
from gapctl.spec.sweep import Resources

NAMES = ("CPU", "GPU")
WAITING = {"node:__internal_head__": 0.001}
"""Of the process that waits for workers: no CPU that they may need, on the node where the driver is."""


class Request(NamedTuple):
    """What Tune reserves for each trial, bundle by bundle, and how many trials may run at once, if that is limited."""

    bundles: list[dict[str, float]]
    gpu: bool
    at_once: int | None = None


def request_of(resources: Resources) -> Request:
    """What a trial asks for; raises InputError where the cluster can never offer it.

    `gpus: auto` is one GPU where there is one, or where the autoscaler may start a machine that has one. Workers that
    train one trial together are reserved by Ray Train, so only as many such trials run as there is room for.
    """
    offered = _offered()
    gpus = min(1.0, offered["GPU"]) if resources.gpus == "auto" else float(resources.gpus)
    training = {"CPU": float(resources.cpus), "GPU": gpus}
    whole = {"CPU": resources.workers * (training["CPU"] + resources.readers), "GPU": resources.workers * gpus}
    _check(resources, whole, offered)
    if resources.workers > 1:
        rooms = [int(offered[name] // asked) for name, asked in whole.items() if asked]
        return Request([WAITING], gpus > 0, max(1, min(rooms)))
    bundles = [training] if not resources.readers else [training, {"CPU": float(resources.readers)}]
    return Request(bundles, gpus > 0)


def check_this_machine(resources: Resources, cores: int) -> None:
    """Raises InputError where so many cores cannot hold one trial, which Ray would say only once it has started."""
    whole = {"CPU": float(resources.workers * (resources.cpus + resources.readers))}
    _check(resources, whole, {"CPU": float(cores)}, "this machine")


def _check(resources: Resources, whole: Mapping[str, float], offered: Mapping[str, float], whose: str = "Ray") -> None:
    names = {"CPU": [name for name in ("cpus", "readers", "workers") if name == "cpus" or _asked(resources, name)]}
    for name, asked in whole.items():
        if asked > offered[name]:
            keys = ", ".join(f"resources.{key}" for key in names.get(name, ["gpus"]))
            raise InputError(
                f"{keys}: {asked:g} {name}s asked for a trial, but {whose} has {offered[name]:g}; "
                "ask for less, or give --address of a larger cluster"
            )


def _asked(resources: Resources, name: str) -> bool:
    return bool(getattr(resources, name) != type(resources).model_fields[name].default)


def _offered() -> dict[str, float]:
    """What living nodes have, or what an autoscaling cluster may grow to where that is more."""
    import ray
    from ray._private.state import state

    living: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    possible = state.get_max_resources_from_cluster_config() or {}
    return {name: max(float(living.get(name, 0.0)), float(possible.get(name, 0.0))) for name in NAMES}
