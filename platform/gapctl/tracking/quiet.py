"""MLflow without its voice: no log lines on the terminal, no usage reports, no long waits for a dead server."""

import logging
import os
import warnings

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
LOUD = ("mlflow", "alembic", "sqlalchemy.engine", "sqlalchemy.pool", "urllib3.connectionpool")
WARNERS = r"(mlflow|alembic|sqlalchemy|urllib3|requests)(\.|$)"


def hush() -> None:
    """To be called before MLflow is imported; what the environment says already stays."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", module=WARNERS)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
