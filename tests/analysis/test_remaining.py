"""The command that trains what is missing is the one that asked for it."""

from pathlib import Path

from analysis_ledgers import CONTRAST, sweep_file

from gapctl.analysis.results import build_finishing_command
from gapctl.config.load import load_sweep
from gapctl.plan.plan import make_plan


def command(path: Path, *overrides: str, runs: str = "runs") -> str:
    return build_finishing_command(make_plan(load_sweep(path, None, overrides), lambda data: "fingerprint"), runs)


def test_it_names_the_file_the_changes_and_the_ledger(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, CONTRAST)

    assert command(path) == f"gapctl sweep {path}"
    assert command(path, "seeds=4", "base.loss.kind=siglip", runs="s3://a/runs") == (
        f"gapctl sweep {path} --set seeds=4 --set base.loss.kind=siglip --runs s3://a/runs"
    )


def test_levels_and_words_with_spaces_are_quoted(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, CONTRAST)
    quoted = command(path, "question=Does it really?", "vary.data.captions.attributes=[0, 5]")

    assert quoted == (
        f"""gapctl sweep {path} --set 'question="Does it really?"' --set 'vary.data.captions.attributes=[0, 5]'"""
    )
