"""What a plan will cost: samples and floating-point operations counted, hours from a stated rate."""

from dataclasses import dataclass

from gapctl.plan.packs import packed
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.data import MadData
from gapctl.spec.presets import PRESETS

FLOPS_PER_CPU = 4.0e10
"""What one CPU core sustains on the small presets, evaluation included; see docs/decisions.md for the measurement."""


@dataclass(frozen=True)
class Cost:
    """Totals over some trials; `hours` are of one CPU core at `FLOPS_PER_CPU`, `wall_hours` of all slots together."""

    trials: int
    samples: int
    flops: float
    cpu_hours: float
    wall_hours: float


def cost_of(trials: tuple[Trial, ...], slots: int) -> Cost:
    """Adds up trainings that run `slots` at a time."""
    flops = float(sum(trial_flops(trial) for trial in trials))
    hours = flops / FLOPS_PER_CPU / 3600
    samples = sum(trial.config.train.samples for trial in trials)
    return Cost(len(trials), samples, flops, hours, hours / max(1, min(slots, len(trials))))


def trial_flops(trial: Trial) -> int:
    """Floating-point operations of one training, evaluation left out."""
    model, data = trial.config.model, trial.config.data
    images_twice = isinstance(data, MadData) and data.sides == "image_image"
    return trial.config.train.samples * PRESETS[model.preset].training_flops(model.embed_dim, images_twice=images_twice)


def slots_on(plan: Plan, cpus: int) -> int:
    """How many trials, or packs of trials, run at once on `cpus` cores; a pack is as fast as its trials one by one."""
    resources, search = plan.sweep.spec.resources, plan.sweep.spec.search
    at_most = len(packed(plan.trials, resources.pack)) if search is None else search.trials
    return max(1, min(cpus // resources.cpus, at_most))
