"""Estimate hours and money of a sweep on the machines of a cluster file: network, set-up and lost work included.

1. `read_prices` reads the table of machines, GPUs, prices and assumptions (`prices.yaml`).
2. `estimate_trial_memory` and `count_trials_at_once` say which machines a trial fits on.
3. `estimate_costs` schedules all trainings on each kind of worker and market of a cluster file; `estimate_rent`, for
   `gapctl plan`, on one machine. `trial_hours.py` has the formulas of the network and of lost machines.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator

from gapctl.cluster.cluster_files import INSTANCE_LABEL, ClusterFile, NodeType
from gapctl.cluster.machines import starts_from_image
from gapctl.cluster.trial_hours import (
    choose_checkpoint_hours,
    compute_network_share,
    compute_slowdown,
    estimate_exchange,
)
from gapctl.config.base import FrozenModel, SpecError, build_spec_error, format_key_path, format_word_suggestion
from gapctl.config.presets import PRESETS, PatchTower, ResNet, Tower
from gapctl.config.sweep import Resources
from gapctl.config.trial import MadData, Model, OpenClipModel, TrialConfig, get_model_name, is_table
from gapctl.config.validation_errors import list_validation_problems
from gapctl.config.yaml_file import FileKind, read_yaml
from gapctl.errors import InputError
from gapctl.plan.estimate import (
    CHECKPOINT_BYTES,
    FLOPS_PER_CPU,
    USUAL_PARAMETERS,
    WEIGHT_BYTES,
    count_model_parameters,
    count_trial_flops,
    count_trial_parameters,
)
from gapctl.plan.plan import Pack, Trial, compute_by_arm, pack_trials

PRICES_FILE: Final = Path(__file__).parent / "prices.yaml"
KIND: Final = FileKind("a table of prices", str(PRICES_FILE), "as_of, checked, assumptions, gpus and instances")

Positive = Annotated[float, Field(gt=0.0, le=1e6)]
Minutes = Annotated[float, Field(ge=0.0, le=1440.0)]
LossRate = Annotated[float, Field(ge=0.0, le=60.0)]
"""Machines of a kind that vanish in an hour, for each that there is."""


class Gpu(FrozenModel):
    """Usable memory in GiB, and peak of dense 16-bit products in 1e12 operations per second."""

    memory_gib: Positive
    peak_tflops: Positive


class Instance(FrozenModel):
    """One kind of machine: cores, GPUs by their name in the table, and prices per hour.

    Its network in 1e9 bits per second, and how often its spot machines are taken away, are the assumptions' by default.
    """

    cloud: Literal["aws", "gcp", "other"]
    cpus: Annotated[int, Field(ge=1, le=4096)]
    on_demand: Positive
    spot: Positive
    gpu: str | None = None
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    network_gbit: Positive | None = None
    preemptions_per_hour: LossRate | None = None


class CostAssumptions(FrozenModel):
    """Assumptions that no price list has; the table's comments say what each is.

    They are the used share of a GPU's peak by preset, what checkpoints take, how long a new machine takes to start with
    installation and with an image, how often machines are lost on either market, and what a network does and costs.
    """

    gpu_mfu: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]]
    checkpoint_seconds: Annotated[float, Field(gt=0.0, le=86_400.0)]
    checkpoint_mb_per_second: Positive = 100.0
    start_minutes: Minutes
    image_start_minutes: Minutes | None = None
    notice_seconds: Annotated[float, Field(ge=0.0, le=86_400.0)] = 16.0
    preemptions_per_hour: LossRate
    failures_per_hour: LossRate = 0.00016
    network_gbit: Positive = 5.0
    zone_traffic_per_gb: Annotated[float, Field(ge=0.0, le=1e3)] = 0.02

    @field_validator("gpu_mfu")
    @classmethod
    def _check_every_preset(cls, shares: dict[str, float]) -> dict[str, float]:
        missing = [name for name in PRESETS if name not in shares]
        if missing:
            raise ValueError(f"found no share for {', '.join(missing)}; expected one for every preset")
        return shares


class PriceTable(FrozenModel):
    """The whole table; `checked` is whether somebody compared it with the clouds' lists at `as_of`."""

    as_of: Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")]
    checked: bool
    currency: Annotated[str, Field(min_length=1, max_length=8)]
    region: dict[str, str]
    assumptions: CostAssumptions
    gpus: dict[str, Gpu]
    instances: Annotated[dict[str, Instance], Field(min_length=1)]
    gets_per_1000: dict[str, Positive] = Field(default_factory=dict)
    """Price of 1,000 requests to an object store that read (GET), by the scheme of its addresses."""

    @model_validator(mode="after")
    def _check_gpus(self) -> "PriceTable":
        for name, instance in self.instances.items():
            if (instance.gpu is None) != (instance.gpus == 0):
                raise ValueError(f"instances.{name}: found gpu without gpus, or the other way round; expected both")
            if instance.gpu is not None and instance.gpu not in self.gpus:
                raise ValueError(f"instances.{name}: found the GPU {instance.gpu!r}; expected one of gpus")
        return self


def read_prices(path: Path = PRICES_FILE) -> PriceTable:
    """Read a table. Raises SpecError, with lines and columns, if it is wrong."""
    source = read_yaml(path, KIND)
    try:
        return PriceTable.model_validate(source.document)
    except ValidationError as error:
        problems = list_validation_problems(error, source.document, PriceTable)
        lines = [f"{source.locate(each.path)}: {format_key_path(each.path)}: {each.text}" for each in problems]
        raise build_spec_error(lines) from error


@cache
def load_shipped_prices() -> PriceTable:
    """Return the table of this version."""
    return read_prices()


def find_gpu_memory(prices: PriceTable, instance: str) -> float | None:
    """Return the memory of one GPU of a machine in GiB, or None if it has none or is not in the table."""
    found = prices.instances.get(instance)
    return None if found is None or found.gpu is None else prices.gpus[found.gpu].memory_gib


def build_instance_error(prices: PriceTable, instance: str, where: str) -> SpecError:
    """Return the error for a machine that the table lacks."""
    near = format_word_suggestion(instance, list(prices.instances))
    return SpecError(
        f"{where}: found the machine {instance!r}, of which no price is known{near}; expected one of the table's "
        f"{len(prices.instances)}. Copy {PRICES_FILE.name} of gapctl.cluster, add it there, and give the "
        "copy with --prices"
    )


GIB: Final = 2.0**30
BYTES_PER_PARAMETER: Final = 16
"""Weight, gradient and AdamW's two moments, 4 bytes each."""

RUNTIME_BYTES: Final = 1.0 * GIB
"""CUDA's context and kernels, and the allocator's reserve."""

MAD_IMAGE_BYTES: Final = 1.3e9
"""All of MNIST in 24 variants, which a trial keeps on the device; the bundled digits are a fourteenth."""


def estimate_trial_memory(config: TrialConfig, pack: int = 1, workers: int = 1) -> float:
    """Estimate one GPU's memory in bytes for `pack` trials of one shape, or for one of a trial's `workers`.

    Per trial: 16 bytes a parameter; activations of a worker's part of the batch, or of one of its micro-batches; four
    matrices of logits in float32, that part by the whole batch; its pixels in float32. Once per GPU: MAD's images and
    1 GiB for CUDA. Activations in 16 bits, twice that in float32: a transformer's layer takes tokens x width x (34 + 5
    heads tokens / width) bytes a sample (arXiv 2205.05198, eq. 2); a ResNet takes 6 bytes per output of its
    convolutions, which are kept, as are their norms and ReLUs.
    """
    if is_table(config):  # rows and moments in float32; logits both ways, their softmax and slopes
        state = BYTES_PER_PARAMETER * (count_model_parameters(config.model) or 0)
        return pack * (state + 8 * 4.0 * config.train.batch_size**2) + RUNTIME_BYTES
    towers, batch = config.model.towers, config.train.batch_size
    parameters = count_model_parameters(config.model)
    if towers.image is None or towers.text is None or parameters is None:
        raise InputError(
            f"base.model.architecture: of {get_model_name(config.model)}, with an encoder of another library, the "
            "memory and speed are not known; train a few steps on one machine first"
        )
    part = batch / workers
    wide = 2.0 if config.train.precision == "float32" else 1.0
    at_once = part / config.train.micro_batches
    activations = wide * at_once * (_estimate_activations(towers.image) + _estimate_activations(towers.text))
    logits = 4 * 4.0 * part * batch
    pixels = 4.0 * part * 3 * towers.image_size**2
    state = BYTES_PER_PARAMETER * parameters
    digits = 1 / 14 if config.data.source == "bundled" else 1.0
    images = digits * MAD_IMAGE_BYTES if isinstance(config.data, MadData) else 0.0
    return pack * (state + activations + logits + pixels) + images + RUNTIME_BYTES


def choose_speed_reference_preset(model: Model | OpenClipModel) -> str:
    """Return the preset whose share of a GPU's peak a model is taken to reach: an architecture's nearest kind."""
    if isinstance(model, Model):
        return "mad-tiny" if model.is_table else model.preset
    return "rn50-cc12m" if model.can_read_architecture and model.towers.is_resnet else "vit-b-32"


def _estimate_activations(tower: Tower | PatchTower | ResNet) -> float:
    """Return the bytes that one sample's forward pass keeps for the backward pass, in 16 bits."""
    if isinstance(tower, ResNet):
        return 6.0 * _count_convolution_outputs(tower)
    return tower.layers * tower.tokens * (34 * tower.width + 5 * tower.heads * tower.tokens)


def _count_convolution_outputs(tower: ResNet) -> int:
    """Count the outputs of all convolutions for one image: stem and bottleneck groups (arXiv 2103.00020, sec. 2.4)."""
    found = (tower.image_size // 2) ** 2 * 2 * tower.width
    for group, blocks in enumerate(tower.layers):
        narrow, side = tower.width << group, tower.image_size // (4 << group)
        entering = side if group == 0 else 2 * side
        found += 2 * entering**2 * narrow + 2 * side**2 * 4 * narrow  # the first block has a branch beside it
        found += (blocks - 1) * side**2 * (2 * narrow + 4 * narrow)
    return found


class TrialsAtOnce(NamedTuple):
    """`machines` of one kind train `trials` at once: one machine several trials, or several machines one trial."""

    trials: int
    machines: int


def count_gpus_per_worker(machine: Mapping[str, float], resources: Resources) -> float:
    """Return the GPUs that each worker of a trial takes of a machine with these; `auto` is one if there is one."""
    if resources.gpus == "auto":
        return min(1.0, machine.get("GPU", 0.0))
    return float(resources.gpus)


def count_trials_at_once(machine: Mapping[str, float], resources: Resources) -> TrialsAtOnce | None:
    """Return the fewest machines that train a trial, and how many trials they train; None if no worker fits.

    `machine` is what each has: Ray's CPU and GPU.
    """
    by_cpu = machine.get("CPU", 0.0) // (resources.cpus + resources.readers)
    gpus = count_gpus_per_worker(machine, resources)
    places = int(min(by_cpu, machine.get("GPU", 0.0) // gpus if gpus > 0 else by_cpu))
    if places == 0:
        return None
    if places >= resources.workers:
        return TrialsAtOnce(places // resources.workers, 1)
    return TrialsAtOnce(1, -(-resources.workers // places))


Market = Literal["spot", "on demand"]
MARKETS: Final[tuple[Market, ...]] = ("spot", "on demand")
DEFAULT_IDLE_MINUTES: Final = 5.0
"""Minutes until Ray releases an idle machine if the file does not say."""


@dataclass(frozen=True)
class CostEstimate:
    """All trainings on one kind of machine, bought on one market, with so many workers for each trial.

    `hours` is until the last training ends, `machine_hours` what is paid for. In `network_hours` of these, machines
    wait for each other's data; `lost_hours` go into restarts, work done again and checkpoints. Money is in the table's
    currency: `workers`, of which `lost` is wasted, `head`, and `total`. `zone_traffic`, which is in none of them, is
    what the `traffic_gb` between machines would cost if all of it crossed zones. `chosen` marks the market that the
    file buys on.
    """

    node: str
    instance: str
    market: Market
    chosen: bool
    trial_workers: int
    machines: int
    hours: float
    machine_hours: float
    network_hours: float
    preemptions: float
    lost_hours: float
    workers: float
    lost: float
    head: float
    total: float
    traffic_gb: float
    zone_traffic: float


@dataclass(frozen=True)
class ImpossibleEstimate:
    """A kind of machine without an estimate, on one market or, where that is None, on any; `found` says why."""

    node: str
    instance: str
    market: Market | None
    trial_workers: int
    found: str

    def __str__(self) -> str:
        workers = f"trials of {self.trial_workers} worker{'s' * (self.trial_workers != 1)}"
        where = (self.node, self.instance or "no machine", self.market or "any market", workers)
        return f"{', '.join(where)}: {self.found}"


def estimate_costs(
    cluster: ClusterFile, trials: Sequence[Trial], resources: Resources, prices: PriceTable
) -> tuple[list[CostEstimate], list[ImpossibleEstimate]]:
    """Return one estimate per kind of worker and market, each as if it alone trained everything, and those without one.

    A kind of worker has none where its machine has no price, where no trial fits on it, and on a market that loses
    machines so often that trainings hardly ever end. Trainings that begin with another's weights are assumed not to
    wait for it. Raises InputError for a head without a price.
    """
    head = _find_head_price(cluster, prices)
    found, impossible = list[CostEstimate](), list[ImpossibleEstimate]()
    for node in cluster.workers:
        try:
            machine, slots = _find_instance(cluster, node, prices), _find_trials_at_once(cluster, node, resources)
        except InputError as error:
            impossible.append(ImpossibleEstimate(node.name, node.instance, None, resources.workers, str(error)))
            continue
        for market in MARKETS:
            try:
                each = _estimate_node_cost(cluster, node, machine, slots, market, trials, resources, prices, head)
            except InputError as error:
                impossible.append(ImpossibleEstimate(node.name, node.instance, market, resources.workers, str(error)))
            else:
                found.append(each)
    return found, impossible


def _find_trials_at_once(cluster: ClusterFile, node: NodeType, resources: Resources) -> TrialsAtOnce:
    """Return what machines of a kind train at once. Raises InputError if not one worker of a trial fits."""
    slots = count_trials_at_once(node.resources, resources)
    if slots is None:
        has = (node.resources.get("CPU", 0.0), node.resources.get("GPU", 0.0))
        takes = (resources.cpus + resources.readers, count_gpus_per_worker(node.resources, resources))
        raise InputError(
            f"{cluster.source.locate((*node.path, 'resources'))}: found {has[0]:g} CPUs and {has[1]:g} GPUs; expected "
            f"at least {takes[0]:g} and {takes[1]:g}, as each worker of a trial takes"
        )
    return slots


def get_start_hours(cluster: ClusterFile, node: NodeType, assumed: CostAssumptions) -> float:
    """Return the hours from asking for a machine until a trial trains on it, by an image where its kind gets one."""
    of_image = assumed.image_start_minutes if starts_from_image(cluster, node) else None
    return (assumed.start_minutes if of_image is None else of_image) / 60


def get_loss_rate(machine: Instance, market: Market, assumed: CostAssumptions) -> float:
    """Return how many machines of a kind are lost in an hour, for each that there is."""
    if market == "on demand":
        return assumed.failures_per_hour
    return assumed.preemptions_per_hour if machine.preemptions_per_hour is None else machine.preemptions_per_hour


class PackHours(NamedTuple):
    """Hours of one pack: `network` and `lost` are parts of `total`; its machines send `sent_gb` in all."""

    total: float
    network: float
    lost: float
    sent_gb: float


def _estimate_pack(
    pack: Sequence[Trial],
    work: float,
    slots: TrialsAtOnce,
    machine: Instance,
    losses: float,
    restart: float,
    resources: Resources,
    assumed: CostAssumptions,
) -> PackHours:
    """Add to a pack's hours of `work` what its machines send each other, checkpoints, and `losses` of each an hour."""
    if work == 0:
        return PackHours(0.0, 0.0, 0.0, 0.0)
    config, parameters = pack[0].config, sum(count_trial_parameters(each) or USUAL_PARAMETERS for each in pack)
    network = sent = 0.0
    if slots.machines > 1 and config.train.samples:
        steps = config.train.samples / config.train.batch_size
        each = estimate_exchange(parameters, config.train.batch_size, config.model.embed_dim, resources.workers)
        gbit = machine.network_gbit or assumed.network_gbit
        network = work * compute_network_share(each, gbit, 3600 * work / steps, config.train.micro_batches)
        sent = slots.machines * steps * each.total / 1e9
    writing = CHECKPOINT_BYTES * parameters / (1e6 * assumed.checkpoint_mb_per_second) / 3600
    apart = choose_checkpoint_hours(assumed.checkpoint_seconds / 3600, writing)
    if apart > work + network:  # it ends before its first checkpoint
        apart, writing = work + network, 0.0
    total = (work + network) * compute_slowdown(slots.machines * losses, restart, apart, writing)
    return PackHours(total, network, total - work - network, sent)


def _estimate_node_cost(
    cluster: ClusterFile,
    node: NodeType,
    machine: Instance,
    slots: TrialsAtOnce,
    market: Market,
    trials: Sequence[Trial],
    resources: Resources,
    prices: PriceTable,
    head: float,
) -> CostEstimate:
    assumed = prices.assumptions
    rate = machine.spot if market == "spot" else machine.on_demand
    losses, start = get_loss_rate(machine, market, assumed), get_start_hours(cluster, node, assumed)
    restart = start + assumed.notice_seconds / 3600
    packs = pack_trials(trials, resources.pack)
    hours = [
        _estimate_pack(pack, work, slots, machine, losses, restart, resources, assumed)
        for pack, work in zip(
            packs, _estimate_pack_hours(packs, node.resources, machine, resources, prices), strict=True
        )
    ]
    # A fallback with a limit of 0 counts like the largest other kind.
    most = cluster.count_max_machines(node) or max(1, *map(cluster.count_max_machines, cluster.workers))
    groups = _schedule_trainings([each.total for each in hours], slots.trials, max(1, most // slots.machines))
    busy = slots.machines * groups
    idle = (DEFAULT_IDLE_MINUTES if cluster.idle_minutes is None else cluster.idle_minutes) / 60
    paid = sum(start + each + idle for each in busy)
    # Trials side by side share their machine's hours, those that wait and those that are lost.
    share = sum(busy) / (sum(each.total for each in hours) or 1.0)
    lost_hours = share * sum(each.lost for each in hours)
    wall = start + max(busy, default=0.0) if busy else 0.0
    sent = sum(each.sent_gb for each in hours)
    return CostEstimate(
        node=node.name,
        instance=node.instance,
        market=market,
        chosen=node.spot == (market == "spot"),
        trial_workers=resources.workers,
        machines=len(busy),
        hours=wall,
        machine_hours=paid,
        network_hours=share * sum(each.network for each in hours),
        preemptions=losses * sum(busy),
        lost_hours=lost_hours,
        workers=paid * rate,
        lost=lost_hours * rate,
        head=wall * head,
        total=paid * rate + wall * head,
        traffic_gb=sent,
        zone_traffic=sent * assumed.zone_traffic_per_gb,
    )


def _schedule_trainings(durations: Sequence[float], slots: int, most: int) -> list[float]:
    """Return the busy hours of each machine if trainings go in order to the slot that is free first."""
    free = [(0.0, place) for place in range(min(len(durations), slots * most))]
    busy = [0.0] * -(-len(free) // slots)
    for duration in durations:
        begins, place = free[0]
        ends, machine = begins + duration, place % len(busy)
        busy[machine] = max(busy[machine], ends)
        heapq.heapreplace(free, (ends, place))
    return busy


def _estimate_pack_hours(
    packs: Sequence[Pack],
    has: Mapping[str, float],
    machine: Instance,
    resources: Resources,
    prices: PriceTable,
) -> list[float]:
    """Return the hours of each pack's operations, which are its trials' together; `has` is what Ray gives of a machine.

    Operations that are not known are not counted.
    """
    share = count_gpus_per_worker(has, resources)

    def rate(trial: Trial) -> float:
        if share > 0 and machine.gpu is not None:
            peak = prices.gpus[machine.gpu].peak_tflops * 1e12
            return (
                resources.workers
                * share
                * peak
                * prices.assumptions.gpu_mfu[choose_speed_reference_preset(trial.config.model)]
            )
        return resources.workers * resources.cpus * FLOPS_PER_CPU

    trials = (trial for pack in packs for trial in pack)
    seconds = iter(compute_by_arm(trials, lambda trial: (count_trial_flops(trial) or 0) / rate(trial)))
    return [sum(islice(seconds, len(pack))) / 3600 for pack in packs]


class RentEstimate(NamedTuple):
    """One rented machine that trains all trials: its name in the table of prices, its GPU, hours and money."""

    machine: str
    gpu: str | None
    hours: float
    cost: float


def estimate_rent(trials: Sequence[Trial], resources: Resources, prices: PriceTable) -> RentEstimate | None:
    """Return the machine that trains all trials for the least money, rented on demand by itself; None where none can.

    Its start is paid for. On a machine with a GPU, each trial must fit into the memory of one.
    """
    need = max(compute_by_arm(trials, lambda trial: _estimate_least_memory(trial, resources)), default=0.0)
    start = prices.assumptions.start_minutes / 60
    found, packs = [], pack_trials(trials, resources.pack)
    for name, machine in prices.instances.items():
        has = {"CPU": float(machine.cpus), "GPU": float(machine.gpus)}
        slots = count_trials_at_once(has, resources)
        small = machine.gpu is not None and need > prices.gpus[machine.gpu].memory_gib * GIB
        if slots is None or slots.machines > 1 or small:
            continue
        durations = _estimate_pack_hours(packs, has, machine, resources, prices)
        hours = start + max(_schedule_trainings(durations, slots.trials, 1), default=0.0)
        found.append(RentEstimate(name, machine.gpu, hours, hours * machine.on_demand))
    return min(found, key=lambda each: (each.cost, each.hours), default=None)


MEASURING_FACTOR: Final = 1.5
"""Memory of a model whose activations are not counted, in multiples of its weights: those of a batch come on top."""


def _estimate_least_memory(trial: Trial, resources: Resources) -> float:
    """Return the bytes of a GPU's memory that a trial takes at least, also where a model's layers are not known."""
    samples, known = trial.config.train.samples, count_model_parameters(trial.config.model) is not None
    if samples and known:
        return estimate_trial_memory(trial.config, resources.pack, resources.workers)
    each = BYTES_PER_PARAMETER if samples else WEIGHT_BYTES
    return MEASURING_FACTOR * each * (count_trial_parameters(trial) or USUAL_PARAMETERS) + RUNTIME_BYTES


def _find_instance(cluster: ClusterFile, node: NodeType, prices: PriceTable) -> Instance:
    place = cluster.source.locate(node.instance_at)
    if not node.instance:
        key = f"nodeSelector with {INSTANCE_LABEL}" if cluster.cloud == "kuberay" else str(node.instance_at[-1])
        raise InputError(f"{place}: {node.name}: found no machine; expected its {key}, so that it has a price")
    if node.instance not in prices.instances:
        raise build_instance_error(prices, node.instance, f"{place}: {node.name}")
    return prices.instances[node.instance]


def _find_head_price(cluster: ClusterFile, prices: PriceTable) -> float:
    if not cluster.heads:
        raise InputError(f"{cluster.source.path}: found no head; expected one machine for the driver")
    head, *_ = cluster.heads
    machine = _find_instance(cluster, head, prices)
    return machine.spot if head.spot else machine.on_demand


def format_money(amount: float) -> str:
    """Write an amount of money to two significant digits, whole where it is 10 or more."""
    if 0 < amount < 0.01:
        return "< 0.01"
    rounded = float(f"{amount:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2f}"
