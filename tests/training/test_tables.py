"""A table has an embedding per factor combination and caption; its trainings are exact, in packs and resumed."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from gapctl.config.trial import Evaluate, Loss, MadCaptions, MadData, Model, Start, Temperature, Train, TrialConfig
from gapctl.data.mad.rows import IMAGE_ROWS
from gapctl.models.table import EmbeddingTable, TableStart
from gapctl.training.batches import iterate_batches
from gapctl.training.checkpoint import LossEnding
from gapctl.training.step_options import StepOptions
from gapctl.training.table_step import LikelihoodRatios, TableStep, compute_unit_gradients
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState
from gapctl.training.workers import SINGLE_WORKER
from mad_data import small_data
from memory_store import MemoryStore

CPU = torch.device("cpu")
VARIED: Sequence[tuple[int, int, dict[str, Any]]] = (
    (0, 0, {}),
    (5, 0, {"temperature": Temperature(mode="fixed", init=0.2)}),
    (2, 1, {"init": Start(gap=1.0)}),
)
"""Attributes, seed and settings of tables that train together."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def config(attributes: int = 2, **changes: Any) -> TrialConfig:
    parts: dict[str, Any] = {
        "data": MadData(captions=MadCaptions(attributes=attributes)),
        "model": Model(preset="table", embed_dim=12),
        "train": Train(samples=20 * 37, batch_size=37, lr=0.1, weight_decay=0.1),
        "evaluate": Evaluate(every=7 * 37, gallery=40),
    }
    return TrialConfig(**{**parts, **changes})


def member(store: MemoryStore, attributes: int = 2, seed: int = 0, **changes: Any) -> TrialState:
    return TrialState(config(attributes, **changes), seed, small_data(), store, CPU)


def varied(stores: Sequence[MemoryStore], **changes: Any) -> list[TrialState]:
    return [
        member(store, attributes, seed, **{**changes, **own})
        for (attributes, seed, own), store in zip(VARIED, stores, strict=True)
    ]


def finish(run: TrainingRun) -> list[dict[str, float]]:
    while not run.done:
        run.train_for(60.0)
    return [
        {key: value for key, value in each.read_final_metrics().items() if not math.isnan(value)}
        for each in run.members
    ]


def options(loss: str = "clip", speed: float = 1.0, decay: float = 0.1) -> StepOptions:
    black = (0.0, 0.0, 0.0)
    return StepOptions(
        loss=loss,
        precision="float32",
        mean=black,
        std=black,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=decay,
        temperature_speed=speed,
    )


class NumpyAdam:
    """AdamW of one array (R, ...), moved only where its rows were shown."""

    def __init__(self, value: np.ndarray, decay: float) -> None:
        self.value, self.decay = value.astype(np.float64), decay
        self.first, self.second = np.zeros_like(self.value), np.zeros_like(self.value)
        self.steps = np.zeros(len(value))

    def step(self, shown: np.ndarray, grad: np.ndarray, rate: float) -> None:
        for row in np.unique(shown):
            self.steps[row] += 1
            self.first[row] = 0.9 * self.first[row] + 0.1 * grad[row]
            self.second[row] = 0.999 * self.second[row] + 0.001 * grad[row] ** 2
            mean = self.first[row] / (1 - 0.9 ** self.steps[row])
            spread = np.sqrt(self.second[row] / (1 - 0.999 ** self.steps[row]))
            self.value[row] = self.value[row] * (1 - rate * self.decay) - rate * mean / (spread + 1e-8)


def autograd(image_RD: np.ndarray, text_RD: np.ndarray, log_scale: np.ndarray, shown: Sequence[np.ndarray]) -> Any:
    """CLIP's loss of the shown rows and its gradients by both tables and the log scale, in float64."""
    leaves = [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in (image_RD, text_RD, log_scale)]
    image, text, scale = leaves
    x, y = normalize(image[shown[0]], dim=-1), normalize(text[shown[1]], dim=-1)
    logits, target = scale.exp() * x @ y.T, torch.arange(len(x))
    loss = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    return loss.item(), [grad.numpy() for grad in torch.autograd.grad(loss, leaves)]


def test_steps_of_a_table_are_those_of_a_hand_written_adamw_on_the_rows_that_are_shown() -> None:
    table = EmbeddingTable(30, 9, TableStart(embed_dim=7, gap=0.5), seed=3)
    image, text = (NumpyAdam(each.detach().numpy(), 0.1) for each in (table.image_rows, table.text_rows))
    scale = NumpyAdam(table.logit_scale.detach().numpy()[None], 0.0)
    step, draws = TableStep([table], options()), np.random.default_rng(0)
    for rate in (0.1, 0.05, 0.02):
        shown = [draws.integers(0, rows, 16) for rows in (30, 9)]
        expected, (by_image, by_text, by_scale) = autograd(image.value, text.value, scale.value[0], shown)

        (loss,) = step(*map(torch.from_numpy, shown), rate)

        image.step(shown[0], by_image, rate)
        text.step(shown[1], by_text, rate)
        scale.step(np.array([0]), by_scale[None], rate)
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        squares = sum(float((each**2).sum()) for each in (by_image, by_text, by_scale))
        assert float(step.compute_gradient_norms()[0]) == pytest.approx(math.sqrt(squares), rel=1e-4)
    np.testing.assert_allclose(table.image_rows.detach().numpy(), image.value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(table.text_rows.detach().numpy(), text.value, rtol=1e-4, atol=1e-5)
    assert float(table.logit_scale.detach()) == pytest.approx(scale.value[0], rel=1e-5)


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_rows_that_no_batch_shows_stay_where_they_are(loss: str) -> None:
    table = EmbeddingTable(30, 9, TableStart(embed_dim=7, loss=loss), seed=3)
    before = table.image_rows.detach().clone()
    step = TableStep([table], options(loss))

    step(torch.tensor([4, 4, 7]), torch.tensor([0, 1, 1]), 0.1)

    moved = (table.image_rows.detach() != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [4, 7]


def test_a_fixed_temperature_stays_and_a_learned_one_moves_at_its_own_speed_within_its_bounds() -> None:
    start = TableStart(embed_dim=7, temperature=0.0101)
    tables = [EmbeddingTable(30, 9, start, seed=3) for _ in range(2)]
    tables.append(EmbeddingTable(30, 9, start._replace(learned=False), seed=3))
    steps = [TableStep([table], options(speed=speed)) for table, speed in zip(tables, (1.0, 0.5, 1.0), strict=True)]
    before = float(tables[0].logit_scale.detach())
    for step in steps:
        step(torch.arange(6), torch.arange(6), 1e-3)

    moves = [float(table.logit_scale.detach()) - before for table in tables]
    assert moves[1] == pytest.approx(moves[0] / 2, rel=1e-2)
    assert moves[0] != 0.0
    assert moves[2] == 0.0
    for _ in range(30):
        steps[0](torch.arange(6), torch.arange(6), 1.0)
    assert 0.0 <= float(tables[0].logit_scale.detach()) <= math.log(100.0) + 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": Loss(targets="posterior")},
        {"loss": Loss(kind="siglip")},
        {"loss": Loss(uniformity=0.5, alignment=0.1)},
    ],
    ids=["clip", "posterior", "siglip", "terms"],
)
def test_a_table_among_others_has_the_bits_that_it_has_alone(changes: dict[str, Any]) -> None:
    alone = [finish(TrainingRun([each], CPU))[0] for each in varied([MemoryStore() for _ in VARIED], **changes)]

    assert finish(TrainingRun(varied([MemoryStore() for _ in VARIED], **changes), CPU)) == alone


def test_a_table_that_is_killed_and_resumed_ends_with_the_bits_of_a_peaceful_one() -> None:
    peaceful, kept = finish(TrainingRun(varied([MemoryStore() for _ in VARIED]), CPU)), [MemoryStore() for _ in VARIED]
    run = TrainingRun(varied(kept), CPU)
    for _ in range(12):
        run.train_for(1e-9)
    run.save()
    assert 0 < varied(kept)[0].steps < 20

    assert finish(TrainingRun(varied(kept), CPU)) == peaceful


def test_a_table_goes_on_alone_from_a_checkpoint_that_was_written_among_others() -> None:
    peaceful, kept = finish(TrainingRun(varied([MemoryStore() for _ in VARIED]), CPU)), [MemoryStore() for _ in VARIED]
    run = TrainingRun(varied(kept), CPU)
    for _ in range(12):
        run.train_for(1e-9)
    run.save()

    assert [finish(TrainingRun([each], CPU))[0] for each in varied(kept)] == peaceful


def test_the_order_and_words_of_captions_change_no_number_of_a_table() -> None:
    wordings: list[dict[str, Any]] = [
        {},
        {"order": "canonical"},
        {"synonyms": 3},
        {"synonyms": 3, "synonym_draw": "once", "order": "canonical"},
    ]
    about = [MadData(captions=MadCaptions(attributes=2, **wording)) for wording in wordings]

    first, *others = (finish(TrainingRun([member(MemoryStore(), data=data)], CPU))[0] for data in about)

    assert others == [first] * 3


def test_the_number_of_threads_changes_no_more_than_rounding() -> None:
    one = finish(TrainingRun([member(MemoryStore())], CPU))[0]
    torch.set_num_threads(2)

    two = finish(TrainingRun([member(MemoryStore())], CPU))[0]

    smooth = [key for key in one if not key.startswith(("quality/", "gap/dims", "geometry/neighbor"))]
    assert {key: two[key] for key in smooth} == pytest.approx({key: one[key] for key in smooth}, rel=1e-4, abs=1e-5)


def test_batches_of_tables_are_the_numbers_of_the_samples_that_encoders_would_see() -> None:
    table, encoders = member(MemoryStore()), member(MemoryStore(), model=Model(preset="mad-tiny"))
    numbers, seen = (next(iterate_batches([each], CPU, SINGLE_WORKER, None)) for each in (table, encoders))

    words = [frozenset(row) for row in seen.second.tolist()]
    together = {(one, other) for one in range(37) for other in range(37) if words[one] == words[other]}
    rows = numbers.second.tolist()
    assert together == {(one, other) for one in range(37) for other in range(37) if rows[one] == rows[other]}
    assert int(numbers.image_SCHW.max()) < IMAGE_ROWS
    assert numbers.caption_id_MB.tolist() == [rows]


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("rows", [10, 1_680])
def test_a_table_begins_with_unit_rows_and_the_stated_gap(gap: float, rows: int) -> None:
    table = EmbeddingTable(IMAGE_ROWS, rows, TableStart(embed_dim=16, gap=gap), seed=1)
    sides = [each.detach() for each in (table.image_rows, table.text_rows)]

    assert float((sides[0].mean(dim=0) - sides[1].mean(dim=0)).norm()) == pytest.approx(gap, abs=1e-2)
    for side in sides:
        torch.testing.assert_close(side.norm(dim=1), torch.ones(len(side)))


def test_a_gallery_measures_the_stated_gap_before_the_first_step() -> None:
    run = TrainingRun([member(MemoryStore(), attributes=5, init=Start(gap=1.0))], CPU)
    while not run.members[0].rows:
        run.train_for(1e-9)

    assert run.members[0].rows[0]["gap/l2m"] == pytest.approx(1.0, abs=0.15)


def test_captions_that_say_all_are_learned_to_a_small_loss() -> None:
    train = Train(samples=64 * 1_000, batch_size=64, lr=0.1, weight_decay=0.0)
    wide = Model(preset="table", embed_dim=64)
    store = MemoryStore()
    plain = Evaluate(every=10**9, gallery=400)
    (metrics,) = finish(TrainingRun([member(store, 5, model=wide, train=train, evaluate=plain)], CPU))

    # Images come from few digits here, so that equal captions alone set the floor.
    assert metrics["train/loss_end"] - metrics["train/loss_floor"] < 0.05
    assert metrics["quality/i2t_recall_1"] > 0.9
    assert metrics["train/loss_fall"] > 0.0


def test_only_a_loss_near_that_of_the_best_model_has_converged() -> None:
    ending = LossEnding()
    for step in range(80):
        ending.add(2.0 if step < 70 else 1.0, step, 80)

    assert ending.measure(None) == {"train/loss_end": 1.0, "train/loss_fall": 1.0}
    assert ending.measure(0.99)["train/converged"] == 1.0
    assert ending.measure(0.97)["train/converged"] == 0.0


@pytest.mark.parametrize(("loss", "is_known"), [(Loss(), True), (Loss(uniformity=1.0), False)])
def test_whether_a_loss_with_more_terms_has_converged_is_not_known(loss: Loss, is_known: bool) -> None:
    (metrics,) = finish(TrainingRun([member(MemoryStore(), loss=loss)], CPU))

    assert ("train/converged" in metrics) == is_known
    assert "train/loss_end" in metrics


def test_an_intervention_is_fitted_on_a_table_too() -> None:
    shifted = Evaluate(every=10**9, gallery=40, intervention="shift")
    (metrics,) = finish(TrainingRun([member(MemoryStore(), init=Start(gap=1.0), evaluate=shifted)], CPU))

    assert metrics["gap/l2m"] < 0.4


def test_the_first_steps_may_go_with_other_images() -> None:
    mismatched = Train(samples=20 * 37, batch_size=37, lr=0.1, mismatched=1.0)
    losses = [
        finish(TrainingRun([member(MemoryStore(), 5, train=train)], CPU))[0]["train/loss"]
        for train in (mismatched, config().train)
    ]

    assert losses[0] > losses[1] + 0.2


def test_posterior_targets_have_the_gradient_of_drawn_ones_on_average() -> None:
    words = MadData(main_factor="swelling", captions=MadCaptions(attributes=1))
    state = member(MemoryStore(), data=words, loss=Loss(targets="posterior"))
    assert isinstance(state.model, EmbeddingTable)
    ratios, batches = LikelihoodRatios([state.model]), iterate_batches([state], CPU, SINGLE_WORKER, None)
    slopes: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for _ in range(1_500):
        batch = next(batches)
        shown = torch.stack([batch.image_SCHW, batch.second])[None]
        image, text = state.model.encode_image(shown[0, 0]), state.model.encode_text(shown[0, 1])
        for posterior, found in slopes.items():
            target = ratios.find_targets(shown) if posterior else None
            scale = state.model.logit_scale.detach()[None]
            slope = compute_unit_gradients(options(), image.detach()[None], text.detach()[None], scale, None, target)
            by_row = torch.zeros(state.model.text_rows.shape)
            found.append(by_row.index_add_(0, shown[0, 1], slope.text_PBE[0]))

    posterior, drawn = (torch.stack(each) for each in slopes.values())
    error = float(drawn.std(dim=0).norm()) / math.sqrt(len(drawn))
    assert float(posterior.mean(dim=0).norm()) > 4 * error
    assert float((posterior.mean(dim=0) - drawn.mean(dim=0)).norm()) < error
    assert float(posterior.std(dim=0).norm()) < 0.9 * float(drawn.std(dim=0).norm())


def test_posterior_targets_come_nearer_to_the_optimum_in_as_many_steps() -> None:
    train = Train(samples=64 * 600, batch_size=64, lr=0.1, weight_decay=0.0)
    changes = {"train": train, "evaluate": Evaluate(every=10**9, gallery=40)}
    ends = [
        finish(TrainingRun([member(MemoryStore(), 1, loss=Loss(targets=targets), **changes)], CPU))[0]["train/loss_end"]
        for targets in ("drawn", "posterior")
    ]

    assert ends[1] < ends[0] - 0.05
