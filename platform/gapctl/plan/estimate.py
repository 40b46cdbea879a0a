"""What a plan will cost: samples and floating-point operations, hours at a measured rate, and disk space.

`estimate_training_cost` serves `gapctl plan` and budgets, `estimate_disk` the check before a sweep starts, and
`estimate_sweep_costs` the list of shipped sweeps. All are counted from presets, without importing torch.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.config.architectures import count_resnet_weights
from gapctl.config.load import LoadedSweep, load_scales
from gapctl.config.presets import (
    TABLE_EVALUATION_FLOPS,
    TABLE_ROWS,
    PatchTower,
    Preset,
    ResNet,
    Tower,
    count_table_flops,
)
from gapctl.config.sweep import Limits
from gapctl.config.trial import MadData, Model, OpenClipModel, is_table
from gapctl.plan.plan import Plan, Trial, compute_by_arm, list_planned_trainings, make_plan, pack_trials

FLOPS_PER_CPU = 4.0e10
"""What one CPU core sustains on the small presets, evaluation included; docs/decisions.md has the measurement."""


@dataclass(frozen=True)
class Cost:
    """Totals of some trials: `cpu_hours` of one core at `FLOPS_PER_CPU`, `wall_hours` of all slots together.

    `unknown` are trials whose operations are not known and not counted: towers of other libraries than open_clip.
    """

    trials: int
    samples: int
    flops: float
    cpu_hours: float
    wall_hours: float
    unknown: int = 0

    def list_fields(self, prefix: str = "") -> dict[str, float]:
        """Return the totals by name, without `unknown` where everything is known."""
        return {f"{prefix}{name}": value for name, value in asdict(self).items() if name != "unknown" or value}


def estimate_training_cost(trials: tuple[Trial, ...], slots: int) -> Cost:
    """Add up the cost of trainings that run `slots` at a time."""
    counted = compute_by_arm(trials, count_trial_flops)
    flops = float(sum(each for each in counted if each is not None))
    hours = flops / FLOPS_PER_CPU / 3600
    samples = sum(trial.config.train.samples for trial in trials)
    wall = hours / max(1, min(slots, len(trials)))
    return Cost(len(trials), samples, flops, hours, wall, unknown=counted.count(None))


def count_trial_flops(trial: Trial) -> int | None:
    """Return the floating-point operations of one training; None where not known.

    Those of evaluations are left out but for tables.

    Those of a public model that is only measured are those of one forward pass over the gallery; the images of
    evaluation sets are not counted.
    """
    model, data, samples = trial.config.model, trial.config.data, trial.config.train.samples
    if isinstance(model, OpenClipModel):
        each = count_pair_flops(trial)
        return None if each is None else samples * each or trial.config.evaluate.gallery * each // 3
    if model.is_table:
        return TABLE_EVALUATION_FLOPS + samples * count_table_flops(model.embed_dim, trial.config.train.batch_size)
    images_twice = isinstance(data, MadData) and data.sides == "image_image"
    return samples * model.towers.count_training_flops(model.embed_dim, images_twice=images_twice)


def count_pair_flops(trial: Trial) -> int | None:
    """Return the operations of a public model's training on a pair: forward once, backward twice that.

    They follow from the cohort's fact `gflops`, of a forward pass, where they cannot be counted; None for neither.
    """
    assert isinstance(trial.config.model, OpenClipModel)
    counted = trial.config.model.towers.count_training_flops() if trial.config.model.can_read_architecture else None
    known = None if counted is not None or trial.model is None else trial.model.facts.get("gflops")
    return round(3e9 * known) if isinstance(known, int | float) else counted


def count_parallel_trials(plan: Plan, cpus: int) -> int:
    """Return how many trials or packs run at once on `cpus` cores; a pack takes as long as its trials one by one."""
    resources, search = plan.sweep.spec.resources, plan.sweep.spec.search
    at_most = len(pack_trials(plan.trials, resources.pack)) if search is None else search.trials
    return max(1, min(cpus // resources.cpus, at_most))


VOCABULARY_SIZES: Final = {"clip": 49_408, "mad": 64}
"""The size of each vocabulary: that of CLIP's tokenizer, and an upper bound of MAD's."""


def count_model_parameters(model: Model | OpenClipModel) -> int | None:
    """Return the number of a model's weights; None for towers of other libraries than open_clip."""
    if isinstance(model, OpenClipModel):
        return model.towers.count_parameters() if model.can_read_architecture else None
    return TABLE_ROWS * model.embed_dim if model.is_table else count_parameters(model.towers, model.embed_dim)


def count_trial_parameters(trial: Trial) -> int | None:
    """Return the number of a trial's weights, by the cohort's fact `parameters` where they cannot be counted."""
    counted = count_model_parameters(trial.config.model)
    known = None if counted is not None or trial.model is None else trial.model.facts.get("parameters")
    return int(known) if isinstance(known, int | float) else counted


def count_parameters(preset: Preset, embed_dim: int) -> int:
    """Return the number of weights of both towers, their embeddings and projections."""
    text = _count_block_weights(preset.text) + preset.text.width * (
        preset.text.tokens + VOCABULARY_SIZES[preset.vocabulary] + embed_dim
    )
    image = preset.image
    if isinstance(image, ResNet):
        return text + count_resnet_weights(image, embed_dim)
    patches = 3 * image.patch_size**2 * image.width
    return text + _count_block_weights(image) + patches + image.width * (image.tokens + embed_dim)


def _count_block_weights(tower: Tower | PatchTower) -> int:
    return 12 * tower.width**2 * tower.layers


USUAL_PARAMETERS: Final = 200_000_000
"""Taken for a model whose size is not known: that of a ViT-B."""
CHECKPOINTS_PER_TRIAL: Final = 3
"""Checkpoints of a trial in training: the two that are kept, and the one that is being written."""
CHECKPOINT_BYTES: Final = 16
"""Bytes for each weight: the weight, its float32 master and AdamW's two moments."""
WEIGHT_BYTES: Final = 4
RECORD_BYTES: Final = 450_000
"""History, machine record, result, configuration and pictures of one trial."""
REPORT_BYTES: Final = 3_000_000
MLFLOW_BYTES: Final = 550_000
"""One trial's run in MLflow's database, and its pictures; the empty tables and a copy of the report come on top."""
LOGGED_WEIGHTS_BYTES: Final = 32_000_000
"""Weights of up to this size are copied into MLflow, so that it can load the model by itself."""
RAY_BYTES: Final = 500_000_000
"""A session's logs, and shared arrays that do not fit into shared memory."""


def count_logged_weight_bytes(trial: Trial) -> int:
    """Return the bytes of a trial's weights that MLflow gets a copy of: all, or 0 of more than 32 MB and of tables."""
    if is_table(trial.config):  # without encoders, which MLflow could load
        return 0
    size = WEIGHT_BYTES * (count_trial_parameters(trial) or USUAL_PARAMETERS)
    return size if size <= LOGGED_WEIGHTS_BYTES else 0


class DiskEstimate(NamedTuple):
    """Bytes that the ledger, MLflow's database with its files, and Ray's temporary folder take."""

    ledger: float
    mlflow: float
    ray: float


def estimate_disk(trials: Sequence[Trial], at_once: int) -> DiskEstimate:
    """Estimate, rather too high, the disk space that training `trials` needs, `at_once` at a time.

    A trial of 0 samples, which only measures, writes no checkpoints; its weights are kept as those of any other.
    """
    sizes = [size or USUAL_PARAMETERS for size in compute_by_arm(trials, count_trial_parameters)]
    kept = sum(WEIGHT_BYTES * size + RECORD_BYTES for size in sizes) + REPORT_BYTES
    in_training = [size for size, trial in zip(sizes, trials, strict=True) if trial.config.train.samples]
    meanwhile = CHECKPOINTS_PER_TRIAL * CHECKPOINT_BYTES * sum(heapq.nlargest(at_once, in_training))
    mlflow = sum(MLFLOW_BYTES + size for size in compute_by_arm(trials, count_logged_weight_bytes)) + 2 * REPORT_BYTES
    return DiskEstimate(float(kept + meanwhile), float(mlflow), float(RAY_BYTES))


def explain_exceeded_limits(
    limits: Limits, wall_hours: float, price_per_hour: float | None, spent_hours: float, spent_cost: float
) -> list[str]:
    """List a line for each limit that the estimate of `wall_hours` exceeds, and one where the cost cannot be estimated.

    `price_per_hour` is this machine's; `spent_hours` and `spent_cost` are what earlier runs used of the limits.
    """
    lines = []
    if limits.hours is not None and spent_hours + wall_hours > limits.hours:
        lines.append(
            f"limits.hours: {_describe_spending(spent_hours, 'h')}about {wall_hours:.2g} h on this machine are beyond "
            f"{limits.hours:g} h: the sweep would stop there, and go on with a higher limit"
        )
    if limits.cost is None:
        return lines
    if price_per_hour is None:
        unknown = "limits.cost: of this machine no price is known, so a sweep is refused here"
        return [*lines, f"{unknown} without limits.price_per_hour; `gapctl cluster cost` estimates a cluster's"]
    cost = wall_hours * price_per_hour
    if spent_cost + cost > limits.cost:
        lines.append(
            f"limits.cost: {_describe_spending(spent_cost, '')}about {cost:.2g} for {wall_hours:.2g} h at "
            f"{price_per_hour:g} are "
            f"beyond {limits.cost:g}: the sweep would stop there, and go on with a higher limit"
        )
    return lines


def _describe_spending(spent: float, unit: str) -> str:
    return f"{spent:.2g}{' ' * bool(unit)}{unit} spent before and " if spent else ""


class SweepCosts(NamedTuple):
    """A sweep file at its default scale, and the cost of each of its scales by name."""

    sweep: LoadedSweep
    costs: Mapping[str | None, Cost]


def estimate_sweep_costs(path: Path, cpus: int) -> SweepCosts:
    """Read a sweep file and add up the cost of each scale, with trainings side by side on `cpus` cores.

    A file without scales has one cost, under None. Raise InputError where the file is wrong.
    """
    at_default, scales = load_scales(path)
    plans = {scale: make_plan(sweep, lambda data: data.address) for scale, sweep in scales.items()}
    costs = {
        scale: estimate_training_cost(list_planned_trainings(plan), count_parallel_trials(plan, cpus))
        for scale, plan in plans.items()
    }
    return SweepCosts(at_default, costs)
