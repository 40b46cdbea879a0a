"""What is worked out once for an arm is what each of its trials gives by itself: ids, operations, sizes and hours."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gapctl.cluster.cost import estimate_rent, load_shipped_prices
from gapctl.config.arms import resolve_config
from gapctl.config.base import format_canonical_json
from gapctl.config.load import load_sweep
from gapctl.config.trial import TrialConfig
from gapctl.extensions import collect_extension_code
from gapctl.plan.estimate import FLOPS_PER_CPU, count_trial_flops, count_trial_parameters
from gapctl.plan.plan import Plan, Trial, compute_by_arm, make_plan, pack_trials
from gapctl.plan.trial_id import PROVISIONAL, RECIPE_VERSION, ArmHasher, format_hashed_config, hash_extensions

SWEEPS = Path(__file__).parents[2] / "sweeps"
SHIPPED = sorted(path.stem for path in SWEEPS.glob("*.yaml"))
PATHS = {
    "train.lr": st.floats(1e-6, 1.0),
    "train.samples": st.integers(0, 10**9),
    "data.captions.attributes": st.integers(0, 5),
    "data.main_factor": st.sampled_from(["digit", "colour", "scale"]),
    "data.source": st.sampled_from(["bundled", "elsewhere"]),
    "temperature.init": st.floats(0.01, 10.0),
    "temperature.mode": st.sampled_from(["learned", "fixed"]),
    "model.preset": st.sampled_from(["mad-tiny", "mad-patch4", "table"]),
    "evaluate.gallery": st.integers(2, 4096),
}
FINGERPRINTS = st.text(max_size=12) | st.text(max_size=12).map(lambda text: text + PROVISIONAL)


def plan_of(name: str, scale: str | None) -> Plan:
    return make_plan(load_sweep(SWEEPS / f"{name}.yaml", scale), lambda data: data.address, provisional=True)


def compute_trial_id(
    config: TrialConfig,
    seed: int,
    data_fingerprint: str,
    recipe_version: int = RECIPE_VERSION,
    parent: str | None = None,
    sets: Mapping[str, str] = MappingProxyType({}),
    model_fingerprint: str = "",
) -> str:
    """The id by its definition: the sha256 of one document, in canonical JSON."""
    document = {
        "config": json.loads(format_hashed_config(config)),
        "data": data_fingerprint,
        "recipe": recipe_version,
        "seed": seed,
        **({"parent": parent} if parent else {}),
        **({"sets": dict(sets)} if sets else {}),
        **({"model": model_fingerprint} if model_fingerprint else {}),
        **hash_extensions(collect_extension_code(config.extensions)),
    }
    fingerprints = (data_fingerprint, model_fingerprint, *sets.values())
    mark = PROVISIONAL if any(each.endswith(PROVISIONAL) for each in fingerprints) else ""
    return hashlib.sha256(format_canonical_json(document).encode()).hexdigest()[:12] + mark


def compute_slowly(trial: Trial) -> str:
    sets = {name: each.fingerprint for name, each in trial.evaluation_sets.items()}
    return compute_trial_id(
        trial.config,
        trial.seed,
        trial.data_fingerprint,
        parent=trial.parent,
        sets=sets,
        model_fingerprint=trial.model_fingerprint,
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_ids_of_shipped_sweeps_are_those_of_their_trials_one_by_one(name: str) -> None:
    scales: list[str | None] = [*load_sweep(SWEEPS / f"{name}.yaml").spec.scales] or [None]
    trainings = [trial for scale in scales for trial in plan_of(name, scale).trainings]

    assert trainings
    assert [trial.id for trial in trainings] == [compute_slowly(trial) for trial in trainings]


@settings(max_examples=60)
@given(
    values=st.fixed_dictionaries({}, optional=PATHS),
    seed=st.integers(0, 2**40),
    data=FINGERPRINTS,
    version=st.integers(1, 99),
    parent=st.none() | st.from_regex("[0-9a-f]{12}[?]?", fullmatch=True),
    sets=st.dictionaries(st.text(min_size=1, max_size=8), FINGERPRINTS, max_size=3),
    model=FINGERPRINTS,
)
def test_an_arm_gives_each_seed_and_parent_the_id_that_a_trial_by_itself_has(
    values: dict[str, float | int | str],
    seed: int,
    data: str,
    version: int,
    parent: str | None,
    sets: Mapping[str, str],
    model: str,
) -> None:
    try:
        config = resolve_config(TrialConfig(), values)
    except ValueError:  # levels that do not go together
        return
    hasher = ArmHasher(config, data, version, sets, model)
    hasher.compute_trial_id(seed + 1)  # leaves nothing behind

    assert hasher.compute_trial_id(seed, parent) == compute_trial_id(config, seed, data, version, parent, sets, model)


@pytest.mark.parametrize("name", ["imbalance", "posthoc", "optimum", "public_attributes"])
def test_what_is_counted_by_arm_is_counted_alike_for_each_trial(name: str) -> None:
    trainings = plan_of(name, None).trainings

    for count in (count_trial_flops, count_trial_parameters):
        assert compute_by_arm(trainings, count) == [count(trial) for trial in trainings]


@pytest.mark.parametrize("size", [1, 3])
def test_the_cheapest_machine_trains_each_pack_as_long_as_its_trials_one_by_one(size: int) -> None:
    plan = plan_of("imbalance", "hour")
    resources = plan.sweep.spec.resources.model_copy(update={"pack": size, "gpus": 0})
    packs = pack_trials(plan.trials, size)
    found = estimate_rent(plan.trials, resources, load_shipped_prices())
    alone = sum((count_trial_flops(trial) or 0) / FLOPS_PER_CPU for pack in packs for trial in pack) / 3600

    assert max(map(len, packs)) == size
    assert found is not None
    start = load_shipped_prices().assumptions.start_minutes / 60
    cores = load_shipped_prices().instances[found.machine].cpus
    assert alone / cores <= (found.hours - start) * resources.cpus * (1 + 1e-9)
    assert found.hours - start <= alone / resources.cpus
