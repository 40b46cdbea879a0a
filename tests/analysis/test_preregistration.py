"""Whoever has seen results cannot make hypotheses of them that count as declared, whichever way they try."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, TREND, falling, finish, plan_of, sweep_file

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.preregistration import DeclarationChange
from gapctl.analysis.results import AnalysisResults
from gapctl.ledger import Ledger
from gapctl.plan.plan import Plan

TWO: Mapping[str, list[Any]] = {ATTRIBUTES: [0, 1, 5], "temperature.mode": ["learned", "fixed"]}
WEAKER = {**CONTRAST, "smallest_effect": 0.01}
MEASURE = falling(0.05, noise=0.005)


def asked(folder: Path, *hypotheses: Mapping[str, Any], **changes: Any) -> Plan:
    """A sweep over two factors, unless it is `changed`."""
    return plan_of(sweep_file(folder, *(hypotheses or (CONTRAST,)), **{"vary": TWO, **changes}))


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seen")
    assert not exploratory(trained(asked(folder), Ledger(str(folder / "runs"))))
    return folder / "runs"


@pytest.fixture
def seen(looked_at: Path, tmp_path: Path) -> Ledger:
    """A ledger whose results somebody looked at: declared, trained, judged."""
    return Ledger(shutil.copytree(looked_at, str(tmp_path / "runs")))


def exploratory(found: AnalysisResults) -> bool:
    marks = {verdict.exploratory for verdict in found.verdicts}
    assert len(marks) == 1
    return marks.pop()


def trained(plan: Plan, ledger: Ledger) -> AnalysisResults:
    """What `gapctl sweep` does: declares, trains what is left, judges."""
    ledger.declare_plan(plan)
    for trial in plan.trials:
        if ledger.result(trial.id) is None:
            finish(ledger, trial, MEASURE(trial))
    ledger.record_start(plan.sweep.spec.name)
    return analyze_finished_trials(plan, ledger)


CHANGES: Mapping[str, Callable[[Path], Plan]] = {
    "a smaller smallest effect": lambda folder: asked(folder, WEAKER),
    "another direction": lambda folder: asked(folder, {**CONTRAST, "direction": "either"}),
    "another response": lambda folder: asked(folder, {**CONTRAST, "response": "gap/l2m"}),
    "another claim": lambda folder: asked(folder, {**CONTRAST, "claim": "It is large."}),
    "other levels in the contrast": lambda folder: asked(folder, {**CONTRAST, "between": [1, 5]}),
    "a where": lambda folder: asked(folder, {**CONTRAST, "where": {"temperature.mode": "fixed"}}),
    "one more hypothesis": lambda folder: asked(folder, CONTRAST, TREND),
    "another hypothesis of the same name": lambda folder: asked(folder, {**TREND, "id": CONTRAST["id"]}),
    "a larger alpha": lambda folder: asked(folder, alpha=0.1),
    "another question": lambda folder: asked(folder, question="Is it large?"),
    "fewer seeds": lambda folder: asked(folder, seeds=2),
    "more seeds": lambda folder: asked(folder, seeds=4),
    "other seeds": lambda folder: asked(folder, first_seed=1),
    "fewer levels": lambda folder: asked(folder, vary={**TWO, ATTRIBUTES: [0, 5]}),
    "fewer factors": lambda folder: asked(folder, vary={ATTRIBUTES: TWO[ATTRIBUTES]}),
    "more levels": lambda folder: asked(folder, vary={**TWO, "train.lr": [1e-3, 2e-3]}),
    "other levels": lambda folder: asked(folder, vary={**TWO, "temperature.mode": ["learned"]}),
    "another recipe": lambda folder: asked(folder, train={"lr": 2e-3}),
    "another name": lambda folder: asked(folder, name="anew"),
    "another name with hypotheses of the results": lambda folder: asked(folder, WEAKER, name="anew"),
    "another name with one seed that was seen": lambda folder: asked(folder, name="anew", first_seed=2),
    "another name with one level that was seen": lambda folder: asked(
        folder, {**CONTRAST, "between": [0, 5]}, name="anew", vary={ATTRIBUTES: [0, 5], "temperature.mode": ["fixed"]}
    ),
    "the same name in another folder": lambda folder: asked(elsewhere(folder), WEAKER),
    "another scale": lambda folder: at_scale(asked(folder), "other"),
}


def elsewhere(folder: Path) -> Path:
    (folder / "elsewhere").mkdir(exist_ok=True)
    return folder / "elsewhere"


def at_scale(plan: Plan, scale: str) -> Plan:
    return replace(plan, sweep=replace(plan.sweep, scale=scale))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_sweep_changed_after_a_look_explores_and_the_first_declaration_holds(
    seen: Ledger, tmp_path: Path, change: Callable[[Path], Plan]
) -> None:
    first, before, changed = asked(tmp_path), seen.read_declaration("made-up"), change(tmp_path)

    assert exploratory(analyze_finished_trials(changed, seen)), "judged as it is"
    assert exploratory(trained(changed, seen)), "declared and trained first"
    assert exploratory(trained(changed, seen)), "and once more"
    after = seen.read_declaration("made-up")

    assert before is not None
    assert after is not None
    assert after.declared["base"] == before.declared["base"]
    assert (after.hypotheses_sha256, after.question) == (before.hypotheses_sha256, before.question)
    assert not exploratory(analyze_finished_trials(first, seen))


def declaration_deleted(ledger: Ledger) -> Ledger:
    Path(ledger.root, "made-up.sweep.json").unlink()
    return ledger


def copied(ledger: Ledger) -> Ledger:
    return Ledger(shutil.copytree(ledger.root, f"{ledger.root}-2"))


def only_results_left(ledger: Ledger) -> Ledger:
    declaration_deleted(ledger)
    for file in [*Path(ledger.root).glob("*/trial.yaml"), *Path(ledger.root).glob("*/history.parquet")]:
        file.unlink()
    return ledger


def trials_moved_away(ledger: Ledger) -> Ledger:
    for trial_id in ledger.list_trial_ids():
        shutil.rmtree(Path(ledger.root, trial_id))
    return ledger


TAMPERED: Mapping[str, Callable[[Ledger], Ledger]] = {
    "the declaration is deleted": declaration_deleted,
    "the ledger is copied": copied,
    "the ledger is copied without the declaration": lambda ledger: declaration_deleted(copied(ledger)),
    "nothing but results is left": only_results_left,
    "the trials are moved away and trained again": trials_moved_away,
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED.keys())
def test_a_ledger_made_to_forget_still_explores(
    seen: Ledger, tmp_path: Path, tamper: Callable[[Ledger], Ledger]
) -> None:
    assert exploratory(trained(asked(tmp_path, WEAKER), tamper(seen)))


def test_hypotheses_may_be_edited_until_a_trial_begins(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    ledger.declare_plan(asked(tmp_path, question="What?", seeds=2))
    ledger.record_start("made-up")
    ledger.trial(asked(tmp_path).trials[0].id).fail("ImportError: before it began")
    edited = asked(tmp_path, WEAKER)

    assert not exploratory(trained(edited, ledger))
    declaration = ledger.read_declaration("made-up")
    assert declaration is not None
    assert (declaration.question, declaration.begun) == ("Does it?", ["base"])
    assert declaration.declared["base"].text == edited.sweep.text


def test_what_changed_is_told_by_id_with_the_text_that_was_declared(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    first = asked(tmp_path, CONTRAST, TREND)
    trained(first, ledger)
    late = {**TREND, "id": "late"}
    found = trained(asked(tmp_path, {**WEAKER, "where": {"temperature.mode": "fixed"}}, late, alpha=0.1), ledger)

    assert found.declared is not None
    assert (found.declared.text, found.declared.added, found.declared.removed) == (
        first.sweep.text,
        ("late",),
        ("slope",),
    )
    assert found.declared.changed == (
        DeclarationChange("difference", "smallest_effect", "0.05", "0.01"),
        DeclarationChange("difference", "where", "nothing", '{"temperature.mode":"fixed"}'),
        DeclarationChange(None, "alpha", "0.05", "0.1"),
    )
    fields = ("smallest_effect was 0.05, is 0.01", 'where was nothing, is {"temperature.mode":"fixed"}')
    assert found.declared.changes == (
        "added since: late",
        "removed since: slope",
        f"changed since: difference ({'; '.join(fields)})",
        "alpha was 0.05, is 0.1",
    )


def test_hypotheses_in_another_order_are_told_as_that(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "runs"))
    trained(asked(tmp_path, CONTRAST, TREND), ledger)
    found = trained(asked(tmp_path, TREND, CONTRAST), ledger)

    assert found.declared is not None
    assert found.declared.changes == ("order was difference, slope, is slope, difference",)


def test_what_was_declared_at_another_scale_is_found_there(seen: Ledger, tmp_path: Path) -> None:
    other = at_scale(asked(tmp_path, WEAKER, train={"samples": 512}), "other")
    found = trained(other, seen)

    assert found.declared is not None
    assert found.declared.changes == ("changed since: difference (smallest_effect was 0.05, is 0.01)",)
    assert found.declared.command is None


@pytest.mark.parametrize("name", ["declared", "asked"])
def test_a_text_that_was_changed_in_the_ledger_is_not_taken_for_what_was_declared(
    seen: Ledger, tmp_path: Path, name: str
) -> None:
    changed = asked(tmp_path, WEAKER)
    path = Path(seen.root, "made-up.sweep.json")
    document = json.loads(path.read_text())
    other = "asked" if name == "declared" else "declared"
    document[name]["base"]["text"] = changed.sweep.text
    document[other]["base"]["text"] = "name: ["
    path.write_text(json.dumps(document))
    found = analyze_finished_trials(changed, seen)

    assert exploratory(found)
    assert found.declared is None


def test_a_ledger_of_an_older_version_keeps_the_text_that_is_left(seen: Ledger, tmp_path: Path) -> None:
    first = asked(tmp_path).sweep.text
    path = Path(seen.root, "made-up.sweep.json")
    document = json.loads(path.read_text())
    del document["declared"], document["begun"]
    document["question"] = "What, before it was put otherwise?"
    path.write_text(json.dumps(document))

    assert not exploratory(trained(asked(tmp_path), seen)), "older versions kept the first question of all"
    found = trained(asked(tmp_path, WEAKER), seen)
    assert exploratory(found)
    assert found.declared is not None
    assert found.declared.text == first
    assert exploratory(trained(asked(tmp_path, question="Another?"), seen))
