"""Where a browser finds a sweep in MLflow's pages."""

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
    everything = f"{address}/#/experiments?{TRAININGS}"
    if sweep_name is None:
        return everything
    try:
        experiment = open_store(uri).get_experiment_by_name(sweep_name)
    except Exception as error:
        raise WorkError(f"MLflow at {without_passwords(uri)} cannot be read: {in_plain_words(error)}") from error
    if experiment is None:
        return everything
    view = f"&{SHARE_KEY}={TABLE}" if f"{PREFIX}{TABLE}" in experiment.tags else ""
    return f"{address}/#/experiments/{experiment.experiment_id}/runs?{TRAININGS}{view}"
