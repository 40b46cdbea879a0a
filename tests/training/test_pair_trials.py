"""Trainings on image-text pairs: they learn from what their captions keep, and go on where they were stopped."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from gapctl.cli.options import load_plan
from gapctl.data.load import load_dataset
from gapctl.ledger import Ledger
from gapctl.sweep.pack_work import PackWork
from gapctl.training.checkpoint import unpack_weights
from gapctl.training.trial_state import NOT_METRICS
from memory_store import MemoryStore
from pair_trials import BATCH, STEPS, begun, finished, pair_config

ARMS = """\
name: arms
question: Does each arm read its own captions?
base:
  data: {dataset: cc12m}
  model: {preset: pairs-small, embed_dim: 32}
  train: {samples: 32, batch_size: 16, precision: float32}
  evaluate: {every: 32, gallery: 20}
vary: {data.captions.keep: [full, quarter]}
"""


def weights(content: bytes) -> dict[str, torch.Tensor]:
    return unpack_weights(content)


def same(first: bytes, second: bytes) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class Trained(NamedTuple):
    """What a training left."""

    weights: bytes
    metrics: Mapping[str, float]
    rows: Sequence[Mapping[str, float]]


@pytest.fixture(scope="module")
def plain() -> Trained:
    """An uninterrupted training, with nothing changed."""
    store = MemoryStore()
    member = finished(pair_config(), store)
    return Trained(member.weights(), member.read_final_metrics(), store.rows)


def test_a_training_logs_what_its_captions_kept_and_what_held_out_pairs_show(plain: Trained) -> None:
    found = plain.metrics

    assert 0.3 < found["captions/share_kept"] < 0.6
    assert found["data/substituted"] == 0
    assert found["entropy/gallery"] == 40
    assert {"gap/rmg", "quality/i2t_recall_10", "quality/object_accuracy", "train/loss"} <= found.keys()
    assert not found.keys() & set(NOT_METRICS)
    assert 0 <= plain.rows[-1]["data/wait_share"] <= 1
    assert [row["samples_seen"] for row in plain.rows] == [0, 3 * BATCH, STEPS * BATCH]


@pytest.mark.parametrize("stop_after", [2, 5])
def test_a_training_that_was_stopped_ends_with_the_same_weights(plain: Trained, stop_after: int) -> None:
    store = MemoryStore()
    run = begun(pair_config(), store)
    while run.members[0].steps < stop_after:
        run.train_for(0.0)
    run.save()

    assert same(finished(pair_config(), store).weights(), plain.weights)


@pytest.mark.parametrize(
    "changes",
    [{"model": {"shared": "blocks"}}, {"loss": {"alignment": 1.0, "uniformity": 1.0, "cross_uniformity": 1.0}}],
    ids=["shared blocks", "terms of the loss"],
)
def test_rival_explanations_train_on_pairs(plain: Trained, changes: dict[str, dict[str, object]]) -> None:
    member = finished(pair_config(**changes), MemoryStore())
    found, expected = weights(member.weights()), weights(plain.weights)

    assert found.keys() == expected.keys()
    assert not torch.equal(found["token_embedding.weight"], expected["token_embedding.weight"])
    tied = torch.equal(found["text_projection"], found["visual.proj"])
    assert tied == ("model" in changes)
    assert 0 < member.read_final_metrics()["gap/rmg"] < 1


def test_a_training_begins_with_its_parents_weights_and_may_keep_its_temperature() -> None:
    parent = finished(pair_config(temperature={"init": 0.05}), MemoryStore())
    changes = {"data.captions.keep": "half"}
    frozen = pair_config(
        data={"captions": {"keep": "quarter"}},
        temperature={"mode": "frozen"},
        init_from=changes | {"temperature.mode": "learned"},
    )
    run = begun(frozen, MemoryStore(), initial=parent.weights())

    assert same(run.members[0].weights(), parent.weights())
    run.train_for(60.0)
    after = weights(run.members[0].weights())
    before = weights(parent.weights())
    assert torch.equal(after["logit_scale"], before["logit_scale"])
    assert not torch.equal(after["visual.proj"], before["visual.proj"])


def test_a_fixed_temperature_is_set_whatever_the_parent_had(plain: Trained) -> None:
    fixed = pair_config(
        temperature={"mode": "fixed", "init": 0.2}, init_from={"temperature.mode": "learned", "temperature.init": 0.07}
    )

    assert math.isclose(
        finished(fixed, MemoryStore(), initial=plain.weights).read_final_metrics()["temperature/tau"],
        0.2,
        rel_tol=1e-6,
    )


def test_a_scheduled_temperature_ends_where_it_should() -> None:
    store = MemoryStore()
    finished(pair_config(temperature={"mode": "schedule", "init": 0.1, "final": 0.05}), store)

    assert math.isclose(store.rows[0]["temperature/tau"], 0.1, rel_tol=1e-6)
    assert math.isclose(store.rows[-1]["temperature/tau"], 0.05, rel_tol=1e-6)


@pytest.mark.parametrize("changes", [{"micro_batches": 4}, {"precision": "bfloat16"}])
def test_other_steps_train_alike(plain: Trained, changes: dict[str, object]) -> None:
    other = finished(pair_config(train=changes), MemoryStore()).read_final_metrics()["train/loss"]

    assert math.isclose(plain.metrics["train/loss"], other, rel_tol=1e-4 if "micro_batches" in changes else 2e-2)


def test_what_captions_kept_is_counted_on_over_an_interruption(plain: Trained) -> None:
    store = MemoryStore()
    run = begun(pair_config(), store)
    while run.members[0].steps < 2:
        run.train_for(0.0)
    run.save()
    found = finished(pair_config(), store).read_final_metrics()

    assert {key: found[key] for key in plain.metrics if key.startswith("captions/")} == {
        key: value for key, value in plain.metrics.items() if key.startswith("captions/")
    }


def test_arms_that_share_their_pairs_read_them_each_in_its_own_way(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(ARMS)
    plan = load_plan(tmp_path / "sweep.yaml", None, None)
    shared = {trial.config.data.address: load_dataset(trial.config.data) for trial in plan.trainings}
    kept = {}
    for trial in plan.trials:
        work = PackWork([trial], shared[trial.config.data.address], str(tmp_path / "runs"), threads=1, gpu=False)
        while work.unfinished:
            work.train_for(60.0)
        result = Ledger(str(tmp_path / "runs")).result(trial.id)
        assert result is not None
        kept[trial.factors["data.captions.keep"]] = result.metrics["captions/share_kept"]

    assert len(shared) == 1
    assert kept["full"] == 1.0
    assert 0.1 < kept["quarter"] < 0.4
