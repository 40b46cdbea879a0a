"""Two workers with half of each batch take the steps that one takes with all of it."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, distributed

import gapctl
from forked import PROCESSES
from gapctl.models.losses import NO_TERMS, LossKind, LossTerms
from gapctl.training.autograd_step import AutogradStep
from gapctl.training.workers import SINGLE_WORKER, WorkerGroup, get_worker_group
from open_models import CPU, TINY, TINY_RESNET, pairs, tiny_model, tiny_rule

BATCH, STEPS, WORKERS = 12, 3, 2


class Case(NamedTuple):
    """A loss, what is added to it, and in how many parts a batch goes through the towers."""

    loss: LossKind
    micro_batches: int
    terms: LossTerms = NO_TERMS

    @property
    def name(self) -> str:
        return "-".join(str(part) for part in (self.loss, self.micro_batches, *self.terms))


ALL_TERMS = LossTerms(alignment=0.7, uniformity=0.5, cross_uniformity=0.3)
CASES = [
    Case("clip", 1),
    Case("clip", 2),
    Case("siglip", 1),
    Case("siglip", 3),
    Case("clip", 2, ALL_TERMS),
    Case("squared_logits", 2, ALL_TERMS),
]


@gapctl.losses.register("squared_logits", initial_bias=-1.0)
def squared_logits(image_AE: Tensor, text_AE: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """The mean squared difference of logits from 1 for matched pairs and 0 for others, as a package may register."""
    assert bias is not None
    return (scale * image_AE @ text_AE.T + bias - torch.eye(len(image_AE))).square().mean()


Found = dict[str, Tensor]


def steps(case: Case, group: WorkerGroup, rate: float, *, seed: int = 0, parts: int | None = None) -> Found:
    """Some steps on this worker's part of each batch: their losses, and what the last left behind."""
    model = tiny_model(TINY, case.loss, seed=seed)
    rule = tiny_rule(TINY, case.loss, parts or case.micro_batches, terms=case.terms)
    step = AutogradStep(model, rule, CPU, group)
    own = BATCH // group.size
    losses = []
    for index in range(STEPS):
        image_BCHW, token_BL = (part[group.rank * own :][:own] for part in pairs(TINY, BATCH, seed=index))
        losses.append(step(image_BCHW, token_BL, rate))
    moments = [kept["exp_avg"] for kept in step.optimizer_state()["state"].values()]
    return {
        "losses": torch.cat(losses),
        "gradients": torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None]),
        "moments": torch.cat(moments),
        "parameters": torch.cat([value.detach().flatten() for value in model.parameters()]),
        "scalars": torch.stack([value.grad for name, value in model.named_parameters() if name.startswith("logit_")]),
    }


def work(rank: int, folder: Path) -> None:
    """One worker, through every case; its own first weights are others than the first worker's."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORKERS)
    try:
        group = get_worker_group()
        found = {case.name: steps(case, group, 1e-3, seed=rank) for case in CASES}
        resnet = tiny_model(TINY_RESNET, seed=rank)
        step = AutogradStep(resnet, tiny_rule(TINY_RESNET, micro_batches=2), CPU, group)
        for index in range(STEPS):
            step(*pairs(TINY_RESNET, BATCH, seed=WORKERS * index + rank), 1e-3)
        found["resnet"] = {name: value.detach() for name, value in resnet.named_parameters()}
        torch.save(found, folder / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_workers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Found]]:
    """What both found, case by case; the second of them is this process."""
    folder = tmp_path_factory.mktemp("workers")
    first = PROCESSES.Process(target=work, args=(0, folder))
    first.start()
    work(1, folder)
    first.join()
    assert first.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_workers_find_the_loss_gradients_and_parameters_of_one(of_workers: list[dict[str, Found]], case: Case) -> None:
    torch.set_num_threads(1)
    expected = steps(case, SINGLE_WORKER, 1e-3, parts=1)

    for found in of_workers:
        for name, value in found[case.name].items():
            error = float((value - expected[name]).norm() / expected[name].norm())
            assert error < (1e-3 if name == "parameters" else 1e-4), f"{name}: {error}"
    assert float(expected["losses"].std()) > 1e-3


@pytest.mark.parametrize("case", [*(case.name for case in CASES), "resnet"])
def test_workers_end_with_the_same_parameters_to_the_last_bit(of_workers: list[dict[str, Found]], case: str) -> None:
    first, second = (found[case] for found in of_workers)

    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def train_twice(rank: int, folder: Path) -> None:
    """One of three workers: a training without a restart, and the same one with a restart after its first step."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=3)
    try:
        torch.save([train_in_parts([STEPS]), train_in_parts([1, STEPS - 1])], folder / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


def train_in_parts(parts: Sequence[int]) -> Tensor:
    """The parameters after so many steps a part; each part begins anew from the weights and moments of the last."""
    group, model, state, done = get_worker_group(), tiny_model(TINY), None, 0
    for part in parts:
        step = AutogradStep(copy.deepcopy(model), tiny_rule(TINY), CPU, group)
        step.load([state])
        for index in range(done, done + part):
            step(*(each[group.rank :: group.size] for each in pairs(TINY, BATCH, seed=index)), 1e-3)
        model, state, done = step.model, step.optimizer_state(), done + part
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def test_three_workers_that_go_on_have_the_same_parameters_to_the_last_bit(tmp_path: Path) -> None:
    others = [PROCESSES.Process(target=train_twice, args=(rank, tmp_path)) for rank in (0, 1)]
    for other in others:
        other.start()
    train_twice(2, tmp_path)
    for other in others:
        other.join()

    for rank in range(3):
        without_restart, with_restart = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(without_restart, with_restart)


def test_a_process_that_trains_by_itself_is_a_group_of_one() -> None:
    assert get_worker_group() == SINGLE_WORKER
