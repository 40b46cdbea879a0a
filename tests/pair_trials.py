"""Short trainings on the bundled pairs, in this process."""

from typing import Any

import torch

from gapctl.config.trial import TrialConfig
from gapctl.data.load import load_dataset
from gapctl.training.trainer import TrainingRun
from gapctl.training.trial_state import TrialState, TrialStore

STEPS, BATCH = 6, 16
CPU = torch.device("cpu")


def pair_config(**changes: Any) -> TrialConfig:
    """Six steps of the small model, measured in the middle and at the end; changes by section."""
    document: dict[str, Any] = {
        "data": {"dataset": "cc12m", "captions": {"keep": "half"}},
        "model": {"preset": "pairs-small", "embed_dim": 32},
        "train": {"samples": STEPS * BATCH, "batch_size": BATCH, "precision": "float32"},
        "evaluate": {"every": 3 * BATCH, "gallery": 40},
    }
    for section, values in changes.items():
        document[section] = {**document.get(section, {}), **values}
    return TrialConfig.model_validate(document)


def begun(config: TrialConfig, store: TrialStore, seed: int = 0, initial: bytes | None = None) -> TrainingRun:
    """The training of a configuration from where its store says."""
    member = TrialState(config, seed, load_dataset(config.data), store, CPU, initial=initial)
    return TrainingRun([member], CPU)


def finished(config: TrialConfig, store: TrialStore, seed: int = 0, initial: bytes | None = None) -> TrialState:
    """The same, done."""
    run = begun(config, store, seed, initial)
    while not run.done:
        run.train_for(60.0)
    (member,) = run.members
    return member
