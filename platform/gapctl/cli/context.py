"""From a verb's arguments to a plan."""

from collections.abc import Sequence
from pathlib import Path

from gapctl.plan.make import make_plan
from gapctl.plan.trials import Plan
from gapctl.spec.load import load_sweep
from gapctl.spec.trial import Data


def plan_for(file: Path, scale: str | None, overrides: Sequence[str] | None) -> Plan:
    """Loads a sweep file and lists its trials; raises InputError on wrong input."""
    return make_plan(load_sweep(file, scale, tuple(overrides or ())), fingerprint_of)


def fingerprint_of(data: Data) -> str:
    """The fingerprint of a trial's data, quick enough for `gapctl plan`."""
    from gapctl.data.mad.fingerprint import dataset_fingerprint

    return dataset_fingerprint(data.source)
