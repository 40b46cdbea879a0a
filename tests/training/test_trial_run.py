"""A training's numbers depend on configuration, seed and data alone: not on pieces, pauses or checkpoints."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from gapctl.config.checks import OF_TABLES
from gapctl.config.metrics import METRICS, ONLY_OF_SETS, is_analysis_metric, is_cross_trial_metric
from gapctl.config.trial import Evaluate, Loss, MadCaptions, MadData, Temperature, Train, TrialConfig
from gapctl.data.mad.feed import MadFeed
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def config(**changes: object) -> TrialConfig:
    parts: dict[str, object] = {
        "data": MadData(captions=MadCaptions(attributes=5)),
        "train": Train(samples=256, batch_size=32, precision="float32"),
        "evaluate": Evaluate(every=96, gallery=40),
    }
    return TrialConfig(**{**parts, **changes})


def begin(store: MemoryStore, seed: int = 0, **changes: object) -> TrainingRun:
    return TrainingRun([TrialState(config(**changes), seed, small_data(), store, CPU)], CPU)


def finish(run: TrainingRun, seconds: float = 60.0) -> dict[str, float]:
    while not run.done:
        run.train_for(seconds)
    return run.members[0].read_final_metrics()


def same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return a.keys() == b.keys() and all(a[key] == b[key] or math.isnan(a[key]) for key in a)


@pytest.fixture(scope="module")
def whole() -> dict[str, float]:
    torch.set_num_threads(1)
    return finish(begin(MemoryStore()))


def test_the_same_trial_gives_the_same_bits(whole: dict[str, float]) -> None:
    assert same(finish(begin(MemoryStore())), whole)


def test_a_trial_cut_into_single_steps_gives_the_same_bits(whole: dict[str, float]) -> None:
    assert same(finish(begin(MemoryStore()), seconds=1e-9), whole)


def test_a_finished_trial_keeps_the_centroids_whose_difference_is_its_gap() -> None:
    store = MemoryStore()
    run = begin(store)
    run.train_for(1e-9)
    assert store.centroids is None
    metrics = finish(run)

    assert store.centroids is not None
    difference_D = np.subtract(*store.centroids)
    assert math.isclose(float(np.linalg.norm(difference_D)), metrics["gap/l2m"], rel_tol=1e-12)


def test_a_finished_trial_keeps_where_its_gap_puts_the_gallery_which_lies_a_gap_apart_on_average() -> None:
    store = MemoryStore()
    metrics = finish(begin(store))

    assert store.axis is not None
    image_N, text_N, on_mean_N, label_N = store.axis
    assert store.centroids is not None
    assert {len(row_N) for row_N in store.axis} == {config().evaluate.gallery}
    assert set(label_N) <= set(range(10))
    assert math.isclose(float(np.mean(image_N) - np.mean(text_N)), metrics["gap/l2m"], rel_tol=1e-12)
    assert math.isclose(float(np.mean(on_mean_N)), float(np.linalg.norm(store.centroids[0])), rel_tol=1e-12)


@pytest.mark.parametrize("pieces", [1, 3, 4, 8])
def test_a_trial_continued_from_its_checkpoint_gives_the_same_bits(whole: dict[str, float], pieces: int) -> None:
    store = MemoryStore()
    run = begin(store)
    for _ in range(pieces):
        run.train_for(1e-9)
    run.save()

    assert same(finish(begin(store)), whole)


def test_a_checkpoint_follows_each_evaluation_however_long_is_trained_at_once(
    whole: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "gapctl.training.trial_state.CHECKPOINT_SPACING", 0
    )  # however long the machine takes to write one
    store = MemoryStore()
    finish(begin(store))
    assert [name for name, _ in store.saved] == ["96", "192"]

    assert same(finish(begin(store)), whole)


@pytest.mark.parametrize(("quick", "saved"), [(0.0, ["32"]), (1_000.0, [])])
def test_a_quick_evaluation_before_the_first_step_is_not_worth_a_checkpoint(
    quick: float, saved: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gapctl.training.trial_state.QUICK_START_SECONDS", quick)
    store = MemoryStore()
    begin(store).train_for(1e-9, 2)

    assert [name for name, _ in store.saved] == saved


def test_a_damaged_newest_checkpoint_costs_only_the_work_since_the_older_one(whole: dict[str, float]) -> None:
    store = MemoryStore()
    run = begin(store)
    for _ in range(2):
        run.train_for(1e-9)
        run.save()
    store.saved[-1] = ("damaged", store.saved[-1][1][:1000])

    continued = begin(store)
    assert continued.members[0].samples_seen == 0 or continued.members[0].samples_seen < run.members[0].samples_seen
    assert same(finish(continued), whole)


def test_history_has_the_start_every_evaluation_and_the_end() -> None:
    store = MemoryStore()
    finish(begin(store))

    assert [row["samples_seen"] for row in store.rows] == [0, 96, 192, 256]
    assert "train/loss" not in store.rows[0]
    assert store.rows[-1]["train/loss"] > 0


def test_every_metric_that_a_trial_logs_has_a_meaning() -> None:
    logged = set(finish(begin(MemoryStore(), loss=Loss(kind="siglip"))))

    assert logged <= set(METRICS)


def test_a_trial_logs_every_metric_but_entropies_over_more_pairs_than_its_gallery_has() -> None:
    """Less those of image-text pairs, of evaluation sets and of tables alone, and those that the analysis computes."""
    logged = set(finish(begin(MemoryStore(), loss=Loss(kind="siglip"))))
    computed = {key for key in METRICS if is_analysis_metric(key) or is_cross_trial_metric(key)}
    missing = {
        key
        for key in set(METRICS) - logged - set(ONLY_OF_SETS) - set(OF_TABLES) - computed
        if not key.startswith(("captions/", "data/"))
    }

    assert all("_nats_at_" in key for key in missing)


def test_other_seeds_give_other_numbers(whole: dict[str, float]) -> None:
    assert finish(begin(MemoryStore(), seed=1))["gap/rmg"] != whole["gap/rmg"]


def test_arms_of_a_seed_start_from_the_same_weights() -> None:
    few, many = (begin(MemoryStore(), data=MadData(captions=MadCaptions(attributes=count))) for count in (0, 5))

    assert few.members[0].weights() == many.members[0].weights()


def test_a_fixed_temperature_stays_and_a_learned_one_moves(whole: dict[str, float]) -> None:
    fixed = finish(begin(MemoryStore(), temperature=Temperature(mode="fixed", init=0.07)))

    assert fixed["temperature/tau"] == pytest.approx(0.07, rel=1e-6)
    assert whole["temperature/tau"] != pytest.approx(0.07, rel=1e-6)


def test_a_learned_temperature_never_falls_below_a_hundredth() -> None:
    hot = Train(samples=256, batch_size=32, lr=0.5, warmup=0.0, precision="float32")
    found = finish(begin(MemoryStore(), temperature=Temperature(init=0.01), train=hot))

    assert found["temperature/tau"] >= 0.01 - 1e-6


def test_a_share_of_the_digits_is_all_that_training_shows() -> None:
    shown = MadFeed(small_data(60), config(data=MadData(share=0.25)), seed=0).draw(20).samples.digit_B

    assert set(shown) == set(range(15))


def test_captions_that_repeat_set_a_floor_under_the_loss() -> None:
    digits_only = finish(begin(MemoryStore(), data=MadData(captions=MadCaptions(attributes=0))))

    assert digits_only["train/loss"] >= digits_only["train/loss_floor"] > 0.5


def test_bfloat16_gives_nearly_the_same_loss(whole: dict[str, float]) -> None:
    half = finish(begin(MemoryStore(), train=Train(samples=256, batch_size=32, precision="bfloat16")))

    assert half["train/loss"] == pytest.approx(whole["train/loss"], rel=0.05)
