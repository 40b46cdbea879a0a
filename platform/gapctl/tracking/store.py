"""Opening MLflow's store, and making its database in one piece where there is none."""

import os
import shutil
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from gapctl.tracking.quiet import hush
from gapctl.tracking.uri import absolute, database_file, is_server

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_store(uri: str) -> "MlflowClient":
    """A client of the store at an address; takes seconds at first, and raises whatever MLflow or its database raise."""
    hush()
    from mlflow import MlflowClient

    file = database_file(uri)
    if file is not None and not (file.exists() and file.stat().st_size):
        _make_database(file)
    if not is_server(uri):
        _try_database(absolute(uri))
    return MlflowClient(absolute(uri))


def _try_database(uri: str) -> None:
    """Fails at once where MLflow would try again for minutes."""
    from sqlalchemy import create_engine, inspect

    engine = create_engine(uri)
    try:
        inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _make_database(file: Path) -> None:
    """Lets MLflow make its tables elsewhere first: killed halfway, it would leave a database that it cannot repair."""
    from mlflow import MlflowClient

    with TemporaryDirectory(prefix="gapctl-mlflow-") as folder:
        made = Path(folder) / "mlflow.db"
        MlflowClient(f"sqlite:///{made}").search_experiments()
        part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            shutil.copyfile(made, part)
            _put(part, file)
        finally:
            part.unlink(missing_ok=True)


def _put(part: Path, file: Path) -> None:
    """Never over a database that another process made in the meantime."""
    if file.exists() and not file.stat().st_size:
        file.unlink()
    try:
        os.link(part, file)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        part.rename(file)
