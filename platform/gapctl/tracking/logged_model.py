"""A finished trial's weights as one of MLflow's logged models: treatments, final metrics, and where the weights lie.

The weights themselves stay in the ledger: MLflow's database decides where a logged model's files would be, so their
address is a tag.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from gapctl.ledger import Ledger
from gapctl.plan.trials import Trial

if TYPE_CHECKING:
    from mlflow import MlflowClient

TRIAL: Final = "gapctl.trial"
WEIGHTS: Final = "gapctl.weights"
NOT_IN_A_NAME: Final = str.maketrans(dict.fromkeys("/:.%\"'", "_"))
"""What MLflow refuses in a model's name."""


class RunPlace(NamedTuple):
    """A run and its experiment, by their ids."""

    experiment_id: str
    run_id: str


def make_model(
    client: "MlflowClient", run: RunPlace, trial: Trial, params: Mapping[str, str], weights: str, *, anew: bool
) -> str:
    """Makes a run's model and returns its id; unless the run is `anew`, what a kill left halfway goes first."""
    from mlflow.entities import LoggedModelOutput

    if not anew:
        for half_made in client.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'"):
            client.delete_logged_model(half_made.model_id)
    model = client.create_logged_model(
        run.experiment_id,
        name=model_name(trial),
        source_run_id=run.run_id,
        tags={TRIAL: trial.id, WEIGHTS: weights},
        params={"model.preset": trial.config.model.preset, **params},
        model_type=trial.config.model.preset,
    )
    client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, trial.config.train.samples)])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def model_name(trial: Trial) -> str:
    """The trial's label, less what MLflow refuses."""
    return trial.label.translate(NOT_IN_A_NAME)


def weights_address(ledger: Ledger, trial: Trial) -> str:
    """Where a finished trial's weights lie, for a process in any folder."""
    return Ledger(ledger.everywhere).trial(trial.id).path("checkpoints/final.pt")
