"""A ledger of tiny trials, trained in this process, for tests of sweeps and models."""

from pathlib import Path

import pytest

import gapctl
from command_line import gapctl as run_verb
from idx_files import write_digits
from sweep_texts import edited


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sweep.yaml` and a ledger below `runs` that holds its finished trials."""
    folder = tmp_path_factory.mktemp("trained")
    digits = write_digits(folder / "digits")
    base = f"base:\n  data: {{source: {digits}}}\n  evaluate: {{gallery: 64}}\n"
    (folder / "sweep.yaml").write_text(edited(("base:\n", base)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPCTL_CACHE", str(folder / "cache"))
        for trial in gapctl.load_sweep(folder / "sweep.yaml", scale="quick").plan().ids:
            options = ("--scale", "quick", "--trial", trial, "--runs", str(folder / "runs"))
            assert run_verb("train", str(folder / "sweep.yaml"), *options).exit_code == 0
    return folder


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, with its cache in use."""
    monkeypatch.setenv("GAPCTL_CACHE", str(trained / "cache"))
    return trained
