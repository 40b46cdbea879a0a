"""An empty ledger for each test."""

from pathlib import Path

import pytest

from gapctl.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "runs"))
