"""What MLflow's runs say about themselves: names, tags, parameters and the data set."""

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from gapctl.ledger.declaring import DEFAULT_SCALE_NAME
from gapctl.plan.identity import RECIPE_VERSION
from gapctl.plan.trials import Plan, Trial
from gapctl.spec.data import Data
from gapctl.spec.load import Sweep
from gapctl.spec.secrets import without_password, without_passwords
from gapctl.tracking.treatments import Treatments

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

TRIAL = "gapctl.trial"
KIND = "gapctl.kind"
SCALE = "gapctl.scale"
OVERRIDES = "gapctl.overrides"
FAILURE = "gapctl.failure"
MODEL = "gapctl.model"
RUN_NAME = "mlflow.runName"
NOT_TRAINED = ("resources", "tracking", "limits")
"""What `--set` may change without making other trials."""
DIGEST_LENGTH = 36
"""The longest digest of a data set that MLflow takes."""


def scale_of(sweep: Sweep) -> str:
    """The scale's name; a sweep without scales has the ledger's name for that."""
    return sweep.scale or DEFAULT_SCALE_NAME


def overrides_of(sweep: Sweep) -> str:
    """The `--set` options that decide which trials there are, as they were typed; none is the empty text."""
    typed = (" ".join(text.split()) for text in sweep.overrides)
    return " ".join(dict.fromkeys(text for text in typed if text.partition(".")[0] not in NOT_TRAINED))


def sweep_name(sweep: Sweep) -> str:
    """The parent run's name; the capital letter sorts it before the trials, which are named for treatments."""
    return " ".join(filter(None, ["Sweep", scale_of(sweep), overrides_of(sweep)]))


def sweep_tags(sweep: Sweep) -> dict[str, str]:
    """The parent run's tags."""
    overrides = overrides_of(sweep)
    return {
        RUN_NAME: sweep_name(sweep),
        "mlflow.source.name": "gapctl",
        KIND: "sweep",
        "gapctl.sweep": sweep.spec.name,
        SCALE: scale_of(sweep),
        **({OVERRIDES: overrides} if overrides else {}),
        "gapctl.question": sweep.spec.question,
        "gapctl.spec_sha256": sweep.spec_sha256,
        "gapctl.hypotheses_sha256": sweep.hypotheses_sha256,
    }


def sweep_files(sweep: Sweep) -> dict[str, bytes]:
    """The sweep as it was written, and as scale and overrides made it; passwords of addresses aside."""
    document = sweep.spec.model_dump(mode="json")
    document["tracking"]["uri"] = without_password(sweep.spec.tracking.uri)
    resolved = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    files = {"sweep.yaml": sweep.text, "sweep.resolved.yaml": resolved}
    return {name: without_passwords(text).encode() for name, text in files.items()}


def trial_tags(plan: Plan, trial: Trial, parent_run_id: str) -> dict[str, str]:
    """A trial's tags in its sweep."""
    return {
        RUN_NAME: Treatments(plan).run_name(trial),
        "mlflow.parentRunId": parent_run_id,
        "mlflow.source.name": "gapctl",
        KIND: "trial",
        TRIAL: trial.id,
        "gapctl.sweep": plan.sweep.spec.name,
        SCALE: scale_of(plan.sweep),
        "gapctl.spec_sha256": plan.sweep.spec_sha256,
        "gapctl.hypotheses_sha256": plan.sweep.hypotheses_sha256,
        "gapctl.seed": str(trial.seed),
        "gapctl.recipe_version": str(RECIPE_VERSION),
        "gapctl.data_fingerprint": trial.data_fingerprint,
    }


def trial_params(plan: Plan, trial: Trial) -> dict[str, str]:
    """A trial's configuration by dotted path, and the columns to sort and group by: its treatments and its seed."""
    configuration = dict(_flat(trial.config.model_dump(mode="json")))
    return {**configuration, **columns(plan, trial)}


def columns(plan: Plan, trial: Trial) -> dict[str, str]:
    """A trial's treatments by their short names, and its seed."""
    treatments = Treatments(plan)
    return {**treatments.params(trial), "seed": treatments.seed(trial)}


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
