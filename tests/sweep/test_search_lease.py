"""One process of all machines runs a search on a ledger; one that is gone is followed by the next."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from gapctl.errors import InputError
from gapctl.ledger import Lease, LeaseLostError, LeaseOwner, Ledger
from gapctl.sweep import search as search_lease
from gapctl.sweep.search import hold_search_lease

NAME = "tune.base"


@pytest.fixture(params=["disk", "store"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(search_lease, "SEARCH_LEASE_CHECK_SECONDS", 0.01)
    return Ledger(str(tmp_path) if request.param == "disk" else f"memory://{tmp_path.name}-search/runs")


def taken_on_another_machine(ledger: Ledger) -> Lease:
    folder = ledger.open_search_folder(NAME)
    folder.acquire(LeaseOwner.for_sweep("tune"))
    assert folder.handle is not None
    lease = replace(folder.handle.lease, host="node-7", machine="another")
    write(ledger, lease)
    return lease


def write(ledger: Ledger, lease: Lease) -> None:
    ledger.keep(f"{NAME}.search/lease.json", json.dumps(asdict(lease)).encode())


def test_a_second_process_is_refused_wherever_it_runs_and_may_follow(ledger: Ledger) -> None:
    said: list[str] = []
    second = hold_search_lease(Ledger(ledger.root), NAME, said.append)
    refused = pytest.raises(InputError, match=r"another gapctl runs this search: it is held by .* pid")
    with hold_search_lease(ledger, NAME, said.append), refused, second:
        pass
    with hold_search_lease(ledger, NAME, said.append):
        pass

    assert said == []
    assert ledger.open_search_folder(NAME).lease() is None
    with hold_search_lease(ledger, NAME, said.append), hold_search_lease(ledger, "tune.quick", said.append):
        pass


def test_a_search_on_another_machine_that_renews_its_lease_is_left_to_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, said = taken_on_another_machine(ledger), list[str]()
    monkeypatch.setattr(
        search_lease.time, "sleep", lambda seconds: write(ledger, replace(lease, renewed=lease.renewed + 20))
    )

    with pytest.raises(InputError, match="held by node-7 pid"):
        hold_search_lease(ledger, NAME, said.append).__enter__()

    assert "tune.base.search is held by node-7" in said[0]


def test_a_search_whose_machine_was_lost_is_taken_over_once_its_lease_has_ended(ledger: Ledger) -> None:
    lease, said = taken_on_another_machine(ledger), list[str]()

    with hold_search_lease(ledger, NAME, said.append, lease_seconds=0.1) as require:
        require()
        found = ledger.open_search_folder(NAME).lease()

    assert len(said) == 1
    assert found is not None
    assert found.holder != lease.holder


def test_a_search_renews_its_lease_and_hears_when_it_was_lost(ledger: Ledger) -> None:
    with hold_search_lease(ledger, NAME, print, every=0.01) as require:
        first = ledger.open_search_folder(NAME).lease()
        assert first is not None
        deadline = time.monotonic() + 20
        while ledger.open_search_folder(NAME).lease() == first and time.monotonic() < deadline:
            time.sleep(0.01)
        renewed = ledger.open_search_folder(NAME).lease()
        assert renewed is not None
        assert renewed.holder == first.holder
        assert renewed.renewed > first.renewed
    with hold_search_lease(ledger, NAME, print) as require:
        theirs = replace(first, holder="theirs")
        write(ledger, theirs)
        with pytest.raises(LeaseLostError):
            require()

    assert ledger.open_search_folder(NAME).lease() == theirs
