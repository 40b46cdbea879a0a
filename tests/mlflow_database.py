"""MLflow's empty database, made once for all tests of a process: its tables take more than a second to make."""

import tempfile
from functools import cache
from pathlib import Path


def write_empty_database(file: Path) -> Path:
    """Write a database with MLflow's tables and nothing in them."""
    file.write_bytes(_make_empty_database())
    return file


@cache
def _make_empty_database() -> bytes:
    from gapctl.tracking.store import open_mlflow_client

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "empty.db")
        open_mlflow_client(f"sqlite:///{file}")
        return file.read_bytes()
