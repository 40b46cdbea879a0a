"""The services that a sweep leans on, as they are taken away and brought back: MLflow's server and the object store."""

import signal
import subprocess
from pathlib import Path

from drill.local_cluster import HOST, free_port
from drill.processes import family, signalled
from gapctl.tracking import server as mlflow
from object_store import BUCKET


class TrackingServer:
    """MLflow on an SQLite database in `folder`, its files in the bucket, always on the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.uri = f"http://{HOST}:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        log, store = self._folder / "mlflow.log", f"sqlite:///{self._folder / 'mlflow.db'}"
        self._process = mlflow.start_server(store, f"s3://{BUCKET}/mlflow", HOST, self._port, log)
        mlflow.Server(self.uri, self._process, log).wait_until_ready()

    def kill(self) -> None:
        """Takes it away in the middle of whatever it does."""
        if self._process is not None:
            signalled(family(self._process.pid), signal.SIGKILL)
            self._process.wait(timeout=30)
