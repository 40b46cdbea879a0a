"""Where a browser finds a sweep in MLflow's pages."""

from collections.abc import Mapping

from gapctl.errors import WorkError
from gapctl.spec.secrets import without_passwords
from gapctl.tracking.reasons import in_plain_words
from gapctl.tracking.store import open_store
from gapctl.tracking.views import PREFIX, TABLE

TRAININGS = "workflowType=machine_learning"
"""Without it MLflow's pages open on what they have for language models."""

SHARE_KEY = "viewStateShareKey"


def page_address(address: str, uri: str, sweep_name: str | None) -> str:
    """The page of the sweep's experiment on a server at `address`; of all experiments where it has none yet.

    Raises WorkError where the store cannot be asked.
    """
    if sweep_name is None:
        return every_page(address)
    try:
        experiment = open_store(uri).get_experiment_by_name(sweep_name)
    except Exception as error:
        raise WorkError(f"MLflow at {without_passwords(uri)} cannot be read: {in_plain_words(error)}") from error
    return every_page(address) if experiment is None else sweep_page(address, experiment.experiment_id, experiment.tags)


def every_page(address: str) -> str:
    """The page of all experiments."""
    return f"{address}/#/experiments?{TRAININGS}"


def sweep_page(address: str, experiment_id: str, tags: Mapping[str, str]) -> str:
    """The page of an experiment, as the sweep's own view shows it where there is one."""
    view = f"&{SHARE_KEY}={TABLE}" if f"{PREFIX}{TABLE}" in tags else ""
    return f"{address}/#/experiments/{experiment_id}/runs?{TRAININGS}{view}"
