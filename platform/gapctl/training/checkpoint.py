"""The whole state of a training as bytes; reading it back continues to the last bit on a CPU."""

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from gapctl.training.fused_step import OptimizerState

DIGEST_BYTES = 32
UNREADABLE_ERRORS = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError)
"""What torch's reader of plain tensors raises on bytes that hold something else."""


@dataclass
class LossSums:
    """The loss and its floor, added up since the last evaluation."""

    loss: float = 0.0
    floor: float = 0.0
    steps: int = 0


@dataclass
class TrainingState:
    """Where a training stands beside its weights: steps done, rows of history, sums and wall seconds.

    `packed` is the most trials that took a step together with this one, itself included, `feed` what a feed of pairs
    counted. `stretches` has, by the step from which on it was so, what the training ran on; checkpoints of earlier
    versions lack it.
    """

    step: int = 0
    seconds: float = 0.0
    sums: LossSums = field(default_factory=LossSums)
    rows: list[dict[str, float]] = field(default_factory=list)
    packed: int = 1
    feed: dict[str, Any] = field(default_factory=dict)
    stretches: dict[int, str] = field(default_factory=dict)


def pack_checkpoint(model: nn.Module, optimizer: OptimizerState, state: TrainingState) -> bytes:
    """Weights, optimiser moments and progress in one blob of plain tensors and numbers."""
    document = {"model": _copy_weights(model), "optimizer": optimizer, "state": asdict(state)}
    return _seal_content(_serialize_document(document))


def pack_weights(model: nn.Module) -> bytes:
    """The weights alone."""
    return _serialize_document(_copy_weights(model))


def _copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copies, because a packed model's weights are views of all its pack's, which torch would save with them."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def unpack_weights(content: bytes) -> dict[str, Any]:
    """What `pack_weights` packed, on the CPU, nothing unpickled; raises ValueError where it is anything else."""
    try:
        weights = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except UNREADABLE_ERRORS as error:
        raise ValueError(f"no weights can be read from it ({type(error).__name__})") from error
    if not isinstance(weights, dict):
        raise ValueError(f"it holds a {type(weights).__name__}, not weights by name")
    return weights


class ResumePoint(NamedTuple):
    """Where a training continues; the optimiser's state is there unless it begins."""

    state: TrainingState
    optimizer: OptimizerState | None


def restore_training(saved: Iterable[tuple[str, bytes]], model: nn.Module) -> ResumePoint:
    """Reads the first blob that can be read (newest first) into the model; a fresh state where none can."""
    for _, content in saved:
        document = _read_document(content)
        if document is not None:
            model.load_state_dict(document["model"])
            state = document["state"]
            return ResumePoint(TrainingState(**{**state, "sums": LossSums(**state["sums"])}), document["optimizer"])
    return ResumePoint(TrainingState(), None)


def _serialize_document(document: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(document, buffer)
    return buffer.getvalue()


def _seal_content(content: bytes) -> bytes:
    """The content behind its sha256: torch reads a file with a flipped bit without a word."""
    return hashlib.sha256(content).digest() + content


def _open_seal(sealed: bytes) -> bytes | None:
    digest, content = sealed[:DIGEST_BYTES], sealed[DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest else None


def _read_document(sealed: bytes) -> dict[str, Any] | None:
    content = _open_seal(sealed)
    if content is None:
        return None
    try:
        document = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except UNREADABLE_ERRORS:
        return None
    return document if isinstance(document, dict) else None
