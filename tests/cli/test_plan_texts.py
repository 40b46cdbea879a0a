"""`gapctl plan` names the arms that a line is about by the levels that decide it."""

from pathlib import Path

from command_line import gapctl
from sweep_texts import REPOSITORY, TINY


def list_information(sweep: Path, *options: str) -> list[str]:
    """The lines about bits, from the arms on."""
    said = gapctl("plan", str(sweep), *options).out.splitlines()
    return [line.rpartition(": ")[2] for line in said if line.startswith("captions leave")]


def test_captions_of_equal_bits_are_all_named_and_nothing_else_is() -> None:
    arms = list_information(REPOSITORY / "sweeps" / "ambiguity.yaml")

    assert "captions=scale, fracture" in arms
    assert "captions=drawn-2" in arms
    assert not any("length" in arm for arm in arms)


def test_where_the_batch_size_decides_the_bayes_loss_too_both_are_named() -> None:
    both = list_information(REPOSITORY / "sweeps" / "imbalance.yaml", "--set", "vary.train.batch_size=[64, 128]")

    assert both[:2] == ["attributes=0, batch_size=64", "attributes=0, batch_size=128"]


def test_where_no_factor_decides_the_bits_they_are_of_all_arms(tmp_path: Path) -> None:
    alike = TINY.partition("hypotheses:")[0].replace("data.captions.attributes: [0, 5]", "train.lr: [0.001, 0.002]")
    (tmp_path / "tiny.yaml").write_text(alike, encoding="utf-8")

    assert list_information(tmp_path / "tiny.yaml") == ["all arms"]
