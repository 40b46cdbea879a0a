"""What each scale of a sweep file costs, on data that need not be there."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gapctl.plan.cost import Cost, cost_of, slots_on
from gapctl.plan.make import make_plan
from gapctl.plan.search import to_be_trained
from gapctl.spec.load import Sweep, load_text
from gapctl.spec.yaml_source import read_yaml


class Priced(NamedTuple):
    """A sweep file as it stands at its default scale, and the cost of each scale by its name."""

    sweep: Sweep
    costs: Mapping[str | None, Cost]


def priced(path: Path, cpus: int) -> Priced:
    """Reads a sweep file and adds up its scales, trainings running side by side on `cpus` cores.

    Raises InputError where the file is wrong. A file without scales has one cost, under None.
    """
    text = read_yaml(path).text
    plain = load_text(text, path)
    scales: list[str | None] = [*plain.spec.scales] or [None]
    return Priced(plain, {scale: _cost(load_text(text, path, scale), cpus) for scale in scales})


def _cost(sweep: Sweep, cpus: int) -> Cost:
    plan = make_plan(sweep, lambda data: data.address)
    return cost_of(to_be_trained(plan), slots_on(plan, cpus))
