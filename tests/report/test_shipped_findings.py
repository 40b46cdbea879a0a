"""The page of findings in docs/ is what the ledger beside it gives."""

import tarfile
from pathlib import Path

from command_line import gapctl
from sweep_texts import REPOSITORY


def test_the_page_and_its_figures_follow_from_the_shipped_ledger(tmp_path: Path) -> None:
    with tarfile.open(REPOSITORY / "docs/results/laptop/ledger.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")

    answer = gapctl("findings", "--runs", str(tmp_path / "laptop"), "--out", str(tmp_path / "findings.md"))

    assert answer.exit_code == 0, answer.err
    made = tmp_path / "images/findings"
    shipped = REPOSITORY / "docs/images/findings"
    assert (tmp_path / "findings.md").read_text() == (REPOSITORY / "docs/findings.md").read_text()
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {
        path.name: path.read_bytes() for path in shipped.iterdir()
    }
