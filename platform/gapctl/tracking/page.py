"""Where a browser finds a sweep in MLflow's pages."""

from collections.abc import Mapping

from gapctl.errors import WorkError
from gapctl.spec.secrets import without_password
from gapctl.tracking.reasons import in_plain_words
from gapctl.tracking.store import open_store
from gapctl.tracking.views import CURVES, PREFIX, TABLE

TRAININGS = "workflowType=machine_learning"
"""Without it MLflow's pages open on what they have for language models."""

SHARE_KEY = "viewStateShareKey"
CHARTS = "compareRunsMode=CHART"


def page_address(address: str, uri: str, sweep_name: str | None) -> str:
    """The page of the sweep's experiment on a server at `address`; of all experiments where it has none yet.

    Raises WorkError where the store cannot be asked.
    """
    if sweep_name is None:
        return every_page(address)
    try:
        experiment = open_store(uri).get_experiment_by_name(sweep_name)
    except Exception as error:
        raise WorkError(f"MLflow at {without_password(uri)} cannot be read: {in_plain_words(error)}") from error
    return every_page(address) if experiment is None else sweep_page(address, experiment.experiment_id, experiment.tags)


def every_page(address: str) -> str:
    """The page of all experiments."""
    return f"{address}/#/experiments?{TRAININGS}"


def sweep_page(address: str, experiment_id: str, tags: Mapping[str, str]) -> str:
    """The page of an experiment, as the sweep's own table shows it where there is one."""
    return f"{address}/{_experiment(experiment_id)}{_view(tags, TABLE)}"


def curves_page(address: str, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """The page of an experiment's curves, or None where nobody saved that view."""
    view = _view(tags, CURVES)
    return f"{address}/{curves_address(experiment_id)}" if view else None


def curves_address(experiment_id: str) -> str:
    """An experiment's curves, below MLflow's address; "Views" alone shows their runs as a table at first."""
    return f"{_experiment(experiment_id)}&{SHARE_KEY}={CURVES}&{CHARTS}"


def run_address(experiment_id: str, run_id: str) -> str:
    """A run's page, below MLflow's address."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAININGS}"


def file_address(experiment_id: str, run_id: str, name: str) -> str:
    """A file of a run, below MLflow's address."""
    return f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{name}?{TRAININGS}"


def _experiment(experiment_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs?{TRAININGS}"


def _view(tags: Mapping[str, str], view: str) -> str:
    return f"&{SHARE_KEY}={view}" if f"{PREFIX}{view}" in tags else ""
