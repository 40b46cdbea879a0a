"""Pack the whole state of a training as bytes, and restore it so that training continues to the last bit on a CPU.

A checkpoint is torch's format behind its own sha256, because torch does not notice a flipped bit.
"""

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import torch
from torch import nn

from gapctl.training.optimizer import OptimizerState

DIGEST_BYTES = 32
UNREADABLE_ERRORS = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError)
"""Exceptions of torch's reader of plain tensors for bytes that hold something else."""


@dataclass
class LossSums:
    """The sums of the loss and of its floor since the last evaluation."""

    loss: float = 0.0
    floor: float = 0.0
    steps: int = 0


CONVERGED_NATS: Final = 0.02
"""How near the Bayes loss a table's last losses must be."""


@dataclass
class LossEnding:
    """The sums of the loss over the last eighth of a training's steps, and over the eighth before it."""

    last: float = 0.0
    last_steps: int = 0
    before: float = 0.0
    before_steps: int = 0

    def add(self, loss: float, step: int, steps: int) -> None:
        """Add the loss of the 0-based `step` of so many."""
        eighth = 8 * step // steps
        if eighth == 7:
            self.last, self.last_steps = self.last + loss, self.last_steps + 1
        elif eighth == 6:
            self.before, self.before_steps = self.before + loss, self.before_steps + 1

    def measure(self, bayes: float | None) -> dict[str, float]:
        """Return what a table logs of it by metric name; `bayes` is the least loss of any model, where it is known."""
        if not self.last_steps or not self.before_steps:
            return {}
        end = self.last / self.last_steps
        measured = {"train/loss_end": end, "train/loss_fall": self.before / self.before_steps - end}
        return measured if bayes is None else {**measured, "train/converged": float(end - bayes <= CONVERGED_NATS)}


@dataclass
class TrainingState:
    """A training's progress apart from its weights: steps, wall seconds, sums of the loss and rows of history.

    `packed` is the largest number of trials that took a step together, this one included. `feed` holds the counts of a
    feed of pairs. `stretches` maps the first step of each stretch to the hardware. Checkpoints of earlier versions lack
    it, and `ending`.
    """

    step: int = 0
    seconds: float = 0.0
    sums: LossSums = field(default_factory=LossSums)
    ending: LossEnding = field(default_factory=LossEnding)
    rows: list[dict[str, float]] = field(default_factory=list)
    packed: int = 1
    feed: dict[str, Any] = field(default_factory=dict)
    stretches: dict[int, str] = field(default_factory=dict)


def pack_checkpoint(model: nn.Module, optimizer: OptimizerState, state: TrainingState) -> bytes:
    """Pack weights, optimiser moments and progress into bytes of plain tensors and numbers."""
    content = _serialize_document({"model": _copy_weights(model), "optimizer": optimizer, "state": asdict(state)})
    return hashlib.sha256(content).digest() + content


def pack_weights(model: nn.Module) -> bytes:
    """Pack the weights alone."""
    return _serialize_document(_copy_weights(model))


def _copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copy the weights: a packed model's are views of all trials' weights, which torch would save with them."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def unpack_weights(content: bytes) -> dict[str, torch.Tensor]:
    """Return the weights that `pack_weights` packed, on the CPU, without unpickling.

    Raise ValueError if the bytes are anything else.
    """
    try:
        weights = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except UNREADABLE_ERRORS as error:
        raise ValueError(f"no weights can be read from it ({type(error).__name__})") from error
    if not isinstance(weights, dict):
        raise ValueError(f"it holds a {type(weights).__name__}, not weights by name")
    return weights


class ResumePoint(NamedTuple):
    """The state in which a training continues; the optimiser's is None at the beginning."""

    state: TrainingState
    optimizer: OptimizerState | None


def restore_training(saved: Iterable[tuple[str, bytes]], model: nn.Module) -> ResumePoint:
    """Restore the first readable checkpoint (newest first) into the model; return a fresh state if none is readable."""
    for _, sealed in saved:
        digest, content = sealed[:DIGEST_BYTES], sealed[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            continue
        try:
            document = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        except UNREADABLE_ERRORS:
            continue
        if isinstance(document, dict):
            model.load_state_dict(document["model"])
            state = document["state"]
            sums, ending = LossSums(**state["sums"]), LossEnding(**state.get("ending", {}))
            return ResumePoint(TrainingState(**{**state, "sums": sums, "ending": ending}), document["optimizer"])
    return ResumePoint(TrainingState(), None)


def _serialize_document(document: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    torch.save(document, buffer)
    return buffer.getvalue()
