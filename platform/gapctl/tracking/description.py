"""What MLflow's runs say about themselves: names, tags, parameters, notes and the data set."""

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from gapctl.ledger.ledger import DEFAULT_SCALE_NAME
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.load import Sweep
from gapctl.spec.trial import Data

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

TRIAL = "gapctl.trial"
SCALE = "gapctl.scale"
FAILURE = "gapctl.failure"
DIGEST_LENGTH = 36
"""The longest digest of a data set that MLflow takes."""


def scale_of(sweep: Sweep) -> str:
    """The scale's name; a sweep without scales has the ledger's name for that."""
    return sweep.scale or DEFAULT_SCALE_NAME


def sweep_name(sweep: Sweep) -> str:
    """The parent run's name."""
    return f"{sweep.spec.name} ({scale_of(sweep)})"


def sweep_tags(sweep: Sweep) -> dict[str, str]:
    """The parent run's tags, its note among them."""
    return {
        "mlflow.note.content": _note(sweep),
        "mlflow.source.name": "gapctl",
        "gapctl.sweep": sweep.spec.name,
        SCALE: scale_of(sweep),
        "gapctl.spec_sha256": sweep.spec_sha256,
        "gapctl.hypotheses_sha256": sweep.hypotheses_sha256,
    }


def sweep_files(sweep: Sweep) -> dict[str, bytes]:
    """The sweep as it was written, and as scale and overrides made it."""
    resolved = yaml.safe_dump(sweep.spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return {"sweep.yaml": sweep.text.encode(), "sweep.resolved.yaml": resolved.encode()}


def trial_tags(plan: Plan, trial: Trial, parent_run_id: str) -> dict[str, str]:
    """A trial's tags in its sweep."""
    return {
        "mlflow.parentRunId": parent_run_id,
        "mlflow.source.name": "gapctl",
        TRIAL: trial.id,
        "gapctl.sweep": plan.sweep.spec.name,
        "gapctl.spec_sha256": plan.sweep.spec_sha256,
        "gapctl.seed": str(trial.seed),
        "gapctl.data_fingerprint": trial.data_fingerprint,
    }


def trial_params(trial: Trial) -> dict[str, str]:
    """A trial's configuration by dotted path, and its seed."""
    return {**dict(_flat(trial.config.model_dump(mode="json"))), "seed": str(trial.seed)}


def dataset_input(trial: Trial) -> "DatasetInput":
    """The trial's data as MLflow lists inputs; the digest is the beginning of the fingerprint."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data = trial.config.data
    dataset = Dataset(
        name=_dataset_name(data),
        digest=trial.data_fingerprint[:DIGEST_LENGTH],
        source_type="gapctl",
        source=json.dumps({"dataset": data.dataset, "source": data.source}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _dataset_name(data: Data) -> str:
    return f"{data.dataset}-{PurePosixPath(data.source).name or data.source}"


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _note(sweep: Sweep) -> str:
    hypotheses = [f"* **{item.id}**: {item.claim}" for item in sweep.spec.hypotheses]
    listed = ["", "Hypotheses:", "", *hypotheses] if hypotheses else []
    return "\n".join([sweep.spec.question, *listed])
