"""What one trial asks of Ray, and whether Ray can ever give it."""

from gapctl.errors import InputError
from gapctl.spec.sweep import Resources

RAY_NAMES = {"cpu": "CPU", "gpu": "GPU"}


def request_of(resources: Resources) -> dict[str, float]:
    """Tune's resources for one trial; raises InputError where the cluster can never offer them.

    `gpus: auto` is one GPU where there is one, or where the autoscaler may start a machine that has one.
    """
    offered = _offered()
    gpus = min(1.0, offered["gpu"]) if resources.gpus == "auto" else resources.gpus
    request = {"cpu": float(resources.cpus), "gpu": float(gpus)}
    for name, asked in request.items():
        if asked > offered[name]:
            raise InputError(
                f"resources.{name}s: {asked:g} asked for a trial, but Ray has {offered[name]:g}; "
                "ask for less, or give --address of a larger cluster"
            )
    return request


def _offered() -> dict[str, float]:
    """What living nodes have, or what an autoscaling cluster may grow to where that is more."""
    import ray
    from ray._private.state import state

    living: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    possible = state.get_max_resources_from_cluster_config() or {}
    return {name: max(float(living.get(key, 0.0)), float(possible.get(key, 0.0))) for name, key in RAY_NAMES.items()}
