"""A ledger and an MLflow database for each test, and plans of a small sweep."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_sweep import FINGERPRINT, SWEEP, Runs, Shown

from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan, make_plan
from mlflow_database import write_empty_database


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables take seconds to make, so that tests get a copy of one fresh database."""
    return write_empty_database(tmp_path_factory.mktemp("mlflow") / "empty.db")


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copyfile(empty_database, tmp_path / 'mlflow.db')}"


@pytest.fixture
def shown(uri: str) -> Shown:
    return Shown(MlflowClient(uri))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(Ledger(str(tmp_path / "runs")))


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., Plan]:
    """Makes the plan of a sweep file that is written for it."""

    def make(
        name: str = "small",
        scale: str | None = None,
        levels: Sequence[int] = (0, 5),
        vary: str = "",
        overrides: Sequence[str] = (),
    ) -> Plan:
        file = tmp_path / f"{name}.yaml"
        file.write_text(SWEEP.format(name=name, levels=f"{list(levels)}\n{vary}".rstrip()))
        return make_plan(load_sweep(file, scale, overrides), lambda data: FINGERPRINT)

    return make


@pytest.fixture
def plan(plan_of: Callable[..., Plan]) -> Plan:
    return plan_of()


@pytest.fixture
def finished(plan: Plan, runs: Runs) -> Plan:
    """The plan, with every trial of it done."""
    for trial in plan.trials:
        runs.finish(trial)
    return plan
