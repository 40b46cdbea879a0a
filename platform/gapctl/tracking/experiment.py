"""The experiment of a sweep, or of what else is kept: found by its name, or made."""

from typing import TYPE_CHECKING

from gapctl.spec.load import Sweep
from gapctl.tracking.uri import artifact_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

KIND = "mlflow.experimentKind"


def experiment_of(client: "MlflowClient", sweep: Sweep, uri: str) -> str:
    """The id of the experiment named after the sweep; one that was deleted is restored, since its name is taken."""
    return experiment_named(client, sweep.spec.name, sweep.spec.question, uri)


def experiment_named(client: "MlflowClient", name: str, note: str, uri: str) -> str:
    """The id of the experiment of a name, made with a note where there is none; a deleted one is restored."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return _make(client, name, note, uri)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _make(client: "MlflowClient", name: str, note: str, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    root = artifact_root(uri)
    # Without a kind, MLflow's pages guess or ask whether this is about language models.
    tags = {"mlflow.note.content": note, KIND: "custom_model_development"}
    try:
        return str(client.create_experiment(name, artifact_location=root and f"{root}/{name}", tags=tags))
    except MlflowException as error:
        made_meanwhile = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or made_meanwhile is None:
            raise
        return str(made_meanwhile.experiment_id)
