"""Limits of time and money: written like any setting, and no part of what a sweep asks."""

from pathlib import Path

import pytest

from gapctl.config.sweep import Limits
from gapctl.plan.estimate import explain_exceeded_limits
from gapctl.plan.plan import make_plan
from sweep_texts import TINY, complaints, loaded

LIMITED = f"{TINY}limits: {{hours: 10, cost: 200}}\n"


def test_limits_change_neither_trials_nor_hashes(tmp_path: Path) -> None:
    free, limited = loaded(tmp_path, TINY), loaded(tmp_path, LIMITED)

    assert limited.spec.limits == Limits(hours=10, cost=200)
    assert limited.spec_sha256 == free.spec_sha256
    assert limited.hypotheses_sha256 == free.hypotheses_sha256
    ids = [[trial.id for trial in make_plan(each, lambda data: "d").trials] for each in (free, limited)]
    assert ids[0] == ids[1]


def test_a_limit_is_set_from_outside_or_by_a_scale(tmp_path: Path) -> None:
    text = LIMITED.replace("quick: {seeds: 1}", "quick: {limits.hours: 0.5}")

    assert loaded(tmp_path, text, None, "limits.cost=3").spec.limits == Limits(hours=10, cost=3)
    assert loaded(tmp_path, text, "quick").spec.limits == Limits(hours=0.5, cost=200)


@pytest.mark.parametrize("wrong", ["limits.hours=0", "limits.cost=-1", "limits.hours=long", "limits.days=1"])
def test_a_wrong_limit_is_refused(tmp_path: Path, wrong: str) -> None:
    (line,) = complaints(tmp_path, TINY, overrides=[wrong])

    assert line.startswith(f"--set {wrong}: limits.")
    assert "xpected" in line


def test_a_plan_says_which_limits_it_exceeds() -> None:
    both = Limits(hours=10, cost=20)

    assert explain_exceeded_limits(both, 4.0, 5.0, 0.0, 0.0) == []
    assert [line.partition(":")[0] for line in explain_exceeded_limits(both, 11.0, 1.0, 0.0, 0.0)] == ["limits.hours"]
    assert [line.partition(":")[0] for line in explain_exceeded_limits(both, 4.0, 6.0, 0.0, 0.0)] == ["limits.cost"]
    assert len(explain_exceeded_limits(both, 4.0, 5.0, 7.0, 1.0)) == 2, "what was spent before counts"
    assert "no price is known" in explain_exceeded_limits(Limits(cost=20), 1.0, None, 0.0, 0.0)[0]
    assert explain_exceeded_limits(Limits(), 1e9, 1e9, 0.0, 0.0) == []
