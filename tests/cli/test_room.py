"""A sweep asks for room on its disks before it begins."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from command_line import gapctl
from gapctl.cli.options import load_plan
from gapctl.errors import InputError
from gapctl.ledger import Ledger
from gapctl.sweep.disk_space import DiskSpace, check_disk_space, measure_disks
from searches import search_file
from sweep_texts import SHIPPED

GB = 10**9


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def with_free(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * GB, 0, int(free)))


def test_a_disk_without_room_is_refused_with_numbers_and_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_free(monkeypatch, 0.2 * GB)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # on the same disk
    database = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    answer = gapctl("sweep", str(SHIPPED), "--scale", "smoke", "--runs", str(tmp_path / "runs"), "--set", database)

    assert answer.exit_code == 2
    assert "has 200 MB free" in answer.err
    assert "will take about 5" in answer.err
    assert "another ledger with --runs" in answer.err
    assert not list((tmp_path / "runs").glob("*/trial.yaml"))


@pytest.mark.parametrize(("free", "warned", "refused"), [(0.9, True, True), (1.9, True, False), (2.1, False, False)])
def test_less_than_twice_the_need_is_a_warning(free: float, warned: bool, refused: bool) -> None:
    room = DiskSpace(("the ledger",), "/data/runs", 1.0 * GB, free * GB)
    if refused:
        with pytest.raises(InputError, match=r"/data/runs has 900 MB free, and the ledger will take about 1\.0 GB"):
            check_disk_space([room])
    else:
        assert [line.startswith("little room: ") for line in check_disk_space([room])] == [True] * warned


def test_a_need_that_is_estimated_high_refuses_nothing() -> None:
    full = DiskSpace(("the ledger",), "/data/runs", 1.0 * GB, 0.1 * GB)

    (warning,) = check_disk_space([full], estimated_high=True)

    assert warning.startswith("little room: ")


def test_a_search_without_room_is_refused_before_it_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_free(monkeypatch, 0.2 * GB)
    database = f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"
    answer = gapctl("sweep", str(search_file(tmp_path)), "--runs", str(tmp_path / "runs"), "--set", database)

    assert answer.exit_code == 2, answer.err
    assert "has 200 MB free" in answer.err
    assert not list((tmp_path / "runs").glob("*.search.json"))


def test_what_shares_a_disk_is_added_up_and_a_store_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    plan = load_plan(SHIPPED, "smoke", [f"tracking.uri=sqlite:///{tmp_path}/mlflow.db"])
    (both,) = measure_disks(plan, plan.trainings, Ledger(str(tmp_path / "new" / "runs")), None)
    (less,) = measure_disks(plan, plan.trainings, Ledger("memory://room/runs"), None)

    assert both.users == ("the ledger", "MLflow", "Ray")
    assert less.users == ("MLflow", "Ray")
    assert less.needed < both.needed
    assert measure_disks(plan, plan.trainings, Ledger("memory://room/runs"), "auto")[0].users == ("MLflow",)


def test_a_plan_says_where_a_sweep_would_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = gapctl("plan", str(SHIPPED), "--scale", "smoke", "--runs", str(tmp_path / "runs")).out
    monkeypatch.setattr("gapctl.plan.estimate.REPORT_BYTES", 10**15)
    too_little = gapctl("plan", str(SHIPPED), "--scale", "smoke", "--runs", str(tmp_path / "runs")).out

    refused = "too little, so `gapctl sweep` refuses to start on this machine"
    assert refused not in enough
    assert refused in " ".join(too_little.split())


def test_a_plan_says_how_much_room_it_takes(tmp_path: Path) -> None:
    said = gapctl("plan", str(SHIPPED), "--scale", "smoke", "--runs", str(tmp_path / "runs")).out

    assert "disk: " in said
    assert "the ledger" in said
