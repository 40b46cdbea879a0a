"""Trials trained together as one batched model get the numbers that they get alone, but for the order of sums."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gapctl.config.presets import PRESETS
from gapctl.config.trial import Evaluate, Loss, MadCaptions, MadData, Temperature, Train, TrialConfig
from gapctl.data.mad import sampler as sampling
from gapctl.data.mad.feed import MadFeed
from gapctl.data.mad.images import DeviceImages, compose_coloured_images
from gapctl.models.build import build_model
from gapctl.training.batches import (
    BATCHES_AHEAD,
    copy_to_device,
    iterate_device_batches,
    iterate_host_batches,
    join_batches,
)
from gapctl.training.fused_step import FusedStep
from gapctl.training.step_options import build_step_options
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import MAD_VOCABULARY as VOCABULARY
from gapctl.training.trial_state import TrialState
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")
PRESET = PRESETS["mad-tiny"]
TRIALS = ((0, 0), (5, 0), (3, 1))
"""Attributes and seed of the trials that are packed."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def config(attributes: int, **changes: object) -> TrialConfig:
    parts: dict[str, object] = {
        "data": MadData(captions=MadCaptions(attributes=attributes)),
        "temperature": Temperature(init=0.05 + 0.01 * attributes),
        "train": Train(samples=256, batch_size=32, precision="float32"),
        "evaluate": Evaluate(every=96, gallery=40),
    }
    return TrialConfig(**{**parts, **changes})


def members(stores: Sequence[MemoryStore], **changes: object) -> list[TrialState]:
    return [
        TrialState(config(attributes, **changes), seed, small_data(), store, CPU)
        for (attributes, seed), store in zip(TRIALS, stores, strict=True)
    ]


def stores() -> list[MemoryStore]:
    return [MemoryStore() for _ in TRIALS]


def finish(run: TrainingRun) -> list[dict[str, float]]:
    while not run.done:
        run.train_for(60.0)
    return [member.read_final_metrics() for member in run.members]


def alone(**changes: object) -> list[dict[str, float]]:
    return [finish(TrainingRun([member], CPU))[0] for member in members(stores(), **changes)]


def assert_close(found: Sequence[dict[str, float]], expected: Sequence[dict[str, float]]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        smooth = [key for key in one if not key.startswith("quality/") and not key.startswith("gap/dims")]
        for key in smooth:
            assert one[key] == pytest.approx(other[key], rel=2e-3, abs=2e-4, nan_ok=True), key


@pytest.fixture(scope="module")
def unpacked() -> list[dict[str, float]]:
    torch.set_num_threads(1)
    return alone()


@pytest.fixture(scope="module")
def packed() -> list[dict[str, float]]:
    torch.set_num_threads(1)
    return finish(TrainingRun(members(stores()), CPU))


@pytest.mark.parametrize("mode", ["learned", "fixed"])
@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_each_trial_of_a_pack_has_the_loss_and_gradients_that_it_has_alone(loss: str, mode: str) -> None:
    changes = {"loss": Loss(kind=loss), "temperature": Temperature(mode=mode, init=0.1)}  # type: ignore[arg-type]
    configs = [config(attributes, **changes) for attributes, _ in TRIALS]
    models = [
        [build_model(one, VOCABULARY, seed) for one, (_, seed) in zip(configs, TRIALS, strict=True)] for _ in "ab"
    ]
    batches = [next(iter(MadFeed(small_data(), one, seed)))[0] for one, (_, seed) in zip(configs, TRIALS, strict=True)]
    together, pairs = FusedStep(models[0], PRESET, build_step_options(configs[0], "float32")), join_batches(batches)

    loss_M = together.gradients(together.cut_normalised_patches(pairs.image_SCHW), together.captions(pairs.second))

    for index, (model, batch) in enumerate(zip(models[1], batches, strict=True)):
        step, own = FusedStep([model], PRESET, build_step_options(configs[index], "float32")), join_batches([batch])
        (expected,) = step.gradients(step.cut_normalised_patches(own.image_SCHW), step.captions(own.second))
        assert float(loss_M[index]) == pytest.approx(float(expected), rel=1e-6)
        assert together.weights.keys() == step.weights.keys()
        for name, weight in step.weights.items():
            error = (together.weights[name].grad[index] - weight.grad).norm() / weight.grad.norm().clamp_min(1e-12)
            assert float(error) < 1e-4, name


def test_packed_trials_end_with_the_numbers_of_trials_alone(
    packed: list[dict[str, float]], unpacked: list[dict[str, float]]
) -> None:
    assert_close(packed, unpacked)


def test_bfloat16_is_packed_as_it_is_computed_alone() -> None:
    half = {"train": Train(samples=128, batch_size=32, precision="bfloat16")}
    together = finish(TrainingRun(members(stores(), **half), CPU))

    separate = [metrics["train/loss"] for metrics in alone(**half)]
    assert min(abs(one - other) for one in separate for other in separate if one != other) > 4e-3
    assert [metrics["train/loss"] for metrics in together] == pytest.approx(separate, abs=2e-3)


def test_what_a_packed_trial_writes_is_its_own_alone() -> None:
    together, single = stores(), MemoryStore()
    for run in (TrainingRun(members(together), CPU), TrainingRun([members([single, *stores()[1:]])[0]], CPU)):
        while run.members[0].steps < 2:
            run.train_for(1e-9)
        run.save()

    sizes = [len(store.saved[-1][1]) for store in (together[0], single)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    assert len(members(together)[0].weights()) == pytest.approx(len(members([single] * 3)[0].weights()), rel=0.01)


def test_an_evaluation_of_each_member_is_followed_by_one_checkpoint_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("CHECKPOINT_SPACING", "QUICK_START_SECONDS"):  # however fast the machine
        monkeypatch.setattr(f"gapctl.training.trial_state.{limit}", 0)
    kept = stores()
    run = TrainingRun(members(kept), CPU)
    while not all(member.steps > 3 for member in run.members):
        run.train_for(1e-9)

    assert [len(store.saved) for store in kept] == [2, 2, 2]


def test_a_trial_says_how_many_it_was_trained_with() -> None:
    run = TrainingRun(members(stores()), CPU)
    while run.members[0].steps < 1:
        run.train_for(1e-9)

    assert [member.packed for member in run.members] == [3, 3, 3]


def test_a_device_keeps_one_copy_of_a_source_s_images() -> None:
    split = small_data().train

    assert copy_to_device(split, CPU) is copy_to_device(split, CPU)


def test_many_seeds_in_one_process_draw_an_epoch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int, int]] = []
    make = sampling._draw_epoch.__wrapped__

    def recorded(seed: int, epoch: int, count: int) -> object:
        drawn.append((seed, epoch))
        return make(seed, epoch, count)

    monkeypatch.setattr(sampling, "_draw_epoch", recorded)
    feeds = [MadFeed(small_data(), config(0), seed) for seed in range(9)]
    for _ in range(2):
        for feed in feeds:
            feed.draw(1)

    assert {seed for seed, _ in drawn} == set(range(9))
    assert len(set(drawn)) == len(drawn)


def test_a_packed_trial_goes_on_alone_and_a_trial_alone_goes_on_packed(unpacked: list[dict[str, float]]) -> None:
    kept = stores()
    run = TrainingRun(members(kept), CPU)
    for _ in range(6):
        run.train_for(1e-9)
    run.save()
    assert {member.steps for member in run.members} == {3}

    singles = [TrainingRun([member], CPU) for member in members(kept)]
    for single in singles:
        while single.members[0].steps < 5:
            single.train_for(1e-9)
        single.save()

    assert_close(finish(TrainingRun(members(kept), CPU)), unpacked)


def test_members_that_stand_apart_meet_and_end_the_same(unpacked: list[dict[str, float]]) -> None:
    kept = stores()
    ahead = TrainingRun([members(kept)[1]], CPU)
    while ahead.members[0].steps < 5:
        ahead.train_for(1e-9)
    ahead.save()
    together = members(kept)
    assert [member.steps for member in together] == [0, 5, 0]

    assert_close(finish(TrainingRun(together, CPU)), unpacked)


def test_a_pack_cut_into_pieces_and_continued_gives_the_same_bits(packed: list[dict[str, float]]) -> None:
    kept = stores()
    run = TrainingRun(members(kept), CPU)
    for _ in range(7):
        run.train_for(1e-9)
    run.save()

    again = finish(TrainingRun(members(kept), CPU))
    assert [{k: v for k, v in one.items() if v == v} for one in again] == [
        {k: v for k, v in one.items() if v == v} for one in packed
    ]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_images_rendered_on_a_device_are_those_of_the_host_to_the_byte(seed: int) -> None:
    images_NVHW = small_data().train.images_NVHW
    random = np.random.default_rng(seed)
    digit, variant, colour = (random.integers(0, high, 17) for high in (len(images_NVHW), 24, 7))

    on_device = DeviceImages(images_NVHW, CPU).render(
        *(torch.from_numpy(column) for column in (digit, variant, colour))
    )

    np.testing.assert_array_equal(on_device.numpy(), compose_coloured_images(images_NVHW, digit, variant, colour))


def test_pairs_drawn_on_a_device_are_those_of_the_host() -> None:
    configs = [config(attributes) for attributes, _ in TRIALS]

    def feeds() -> list[MadFeed]:
        return [MadFeed(small_data(), one, seed) for one, (_, seed) in zip(configs, TRIALS, strict=True)]

    host, device = (
        iterate_host_batches(feeds()),
        iterate_device_batches(feeds(), DeviceImages(small_data().train.images_NVHW, CPU), CPU),
    )

    for _ in range(BATCHES_AHEAD + 2):
        one, other = next(host), next(device)
        torch.testing.assert_close(other.image_SCHW, one.image_SCHW, rtol=0, atol=0)
        torch.testing.assert_close(other.second, one.second, rtol=0, atol=0)
        np.testing.assert_array_equal(other.caption_id_MB, one.caption_id_MB)
