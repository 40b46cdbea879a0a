"""The page of findings in docs/ is what the ledgers beside it give, and its notes say what other ledgers hold."""

import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from command_line import gapctl
from findings_claims import load_withdrawals, parse_notes
from gapctl.analysis.compare import SweepAnalysis
from gapctl.analysis.service import judge_ledger
from gapctl.ledger import LedgerSnapshot
from gapctl.report.text import format_aligned_numbers
from make_findings import extract_shipped_ledgers
from sweep_texts import REPOSITORY

NOTES = REPOSITORY / "docs/findings.notes.yaml"
PAGE = REPOSITORY / "docs/findings.md"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped")
    extract_shipped_ledgers(folder)
    return folder


@pytest.fixture(scope="module")
def judged(ledger: Path) -> dict[str, SweepAnalysis]:
    sweeps, _ = judge_ledger(LedgerSnapshot(str(ledger)), ["posthoc", "presence_bias", "next_confounds", "entropy"])
    return {one.analysis.sweep: one for one in sweeps}


def visible() -> str:
    """The page as it opens: what is folded left out."""
    return re.sub(r"<details>.*?</details>", "", PAGE.read_text(), flags=re.S)


def verdicts_of(run: str) -> dict[str, dict[str, Any]]:
    held = json.loads((REPOSITORY / "docs/results" / run / "verdicts.json").read_text())["verdicts"]
    return {verdict["id"]: verdict for verdict in held}


def hour_long(metric: str) -> dict[int, float]:
    """A column of the hour-long run's table, by attributes in the caption."""
    text = (REPOSITORY / "docs/results/imbalance-hour/README.md").read_text()
    head, _, *rows = (line.strip("| ").split(" | ") for line in text.split("\n| k |")[1].split("\n\n")[0].splitlines())
    column = ["k", *head].index(metric)
    return {int(row[0]): float(row[column]) for row in rows}


def test_the_page_and_its_figures_follow_from_the_shipped_ledger(ledger: Path, tmp_path: Path) -> None:
    noted = ("--notes", str(NOTES))

    answer = gapctl("claims", "--runs", str(ledger), *noted, "--out", str(tmp_path / "findings.md"))

    assert answer.exit_code == 0, answer.err
    made = tmp_path / "images/findings"
    shipped = REPOSITORY / "docs/images/findings"
    assert (tmp_path / "findings.md").read_text() == PAGE.read_text()
    assert {path.name: path.read_bytes() for path in made.iterdir()} == {
        path.name: path.read_bytes() for path in shipped.iterdir()
    }


def test_the_page_is_read_in_ten_minutes_before_anything_is_unfolded() -> None:
    assert len(visible().split()) <= 2_500


def test_answers_are_of_twelve_words_at_most() -> None:
    notes = parse_notes(NOTES.read_text(), "notes")

    assert len(notes.claims) == 13
    for number, noted in notes.claims.items():
        assert noted.answer is not None
        assert len(noted.answer.split()) <= 12, number


def test_claim_6_is_untested_and_stated_in_both_halves() -> None:
    claim = PAGE.read_text().split("### Claim 6")[1].split("### ")[0]
    (row,) = [line for line in visible().splitlines() if line.startswith("| **Claim 6**")]

    assert "correlate weakly" in claim
    assert "closing the gap improves performance" in claim
    assert row.count("| untested ") == 5
    assert "| yes |" not in claim
    assert "| no |" not in claim


def test_both_estimands_are_those_of_the_ledger(judged: dict[str, SweepAnalysis]) -> None:
    page = PAGE.read_text()

    for heading in ("### Claim 4", "### Further check 3"):
        own = page.split(heading)[1].split("### ")[0]
        assert "| next\\_confounds (laptop) | 0.489, 0.072 to 0.906 (95 %, 3 seeds) | −0.617, " in own
    assert "| object\\_attribute (laptop) | ~~0.63, " in page
    assert "~~−0.560, " in page


def test_rows_that_learned_nothing_or_were_withdrawn_are_struck_through() -> None:
    page = PAGE.read_text()

    for hypothesis in (
        "one-modality-has-the-gap-of-two-with-poor-captions",
        "without-imbalance-sharing-little-opens-no-gap",
        "swelling-comes-first-where-captions-always-name-it",
        "fracture-comes-first-where-captions-always-name-it",
        "object-bias-costs-attribute-accuracy",
        "closing-buys-robustness",
        "seeds-share-the-direction",
    ):
        rows = [line for line in page.splitlines() if f"(`{hypothesis}`)" in line]
        assert rows
        assert all("| ~~" in row for row in rows), hypothesis
    assert not any("~~" in line for line in page.splitlines() if "imbalance (laptop)" in line)


def test_the_notes_of_longer_runs_have_those_ledgers_numbers() -> None:
    notes = parse_notes(NOTES.read_text(), "notes")
    note, hour = notes.claims["claim 1"], verdicts_of("imbalance-hour")
    trend, contrast = hour["information-closes-the-gap"], hour["full-captions-against-none"]
    images, texts = hour["information-removes-object-bias"], hour["text-bias-changes"]
    estimate, low, high = format_aligned_numbers([trend["estimate"], *trend["ci"]])
    rmg = hour_long("RMG")
    shown = {
        name: format_aligned_numbers([found["estimate"]])[0]
        for name, found in (("c", contrast), ("i", images), ("t", texts))
    }
    pictograms = format_aligned_numbers([verdicts_of("captions-openmoji")["full-captions-close-the-gap"]["estimate"]])[
        0
    ]

    assert note.note is not None
    (mark,) = trend["marks"]
    assert f"**{trend['verdict']}**, but {mark} ({estimate} per attribute, {low} to {high}, p after Holm" in note.note
    assert f"{trend['p']:.3f};" in note.note
    assert f"to {shown['c']}, at learned temperatures of" in note.note
    assert f"RMG is {rmg[0]} where captions name the digit alone, {rmg[1]} with one attribute and {rmg[5]}" in note.note
    assert note.elsewhere["6,400 steps"] == f"full against none: yes, {shown['c']}; slope {estimate}, not monotone"
    assert pictograms in note.elsewhere["pictograms"]
    assert notes.claims["claim 2"].elsewhere["6,400 steps"] == f"yes: images {shown['i']}, texts {shown['t']}"
    assert {found["verdict"] for found in (contrast, images, texts)} == {"supported"}


def test_what_is_said_of_lists_after_6_400_steps_is_so_in_that_run() -> None:
    note, hour = parse_notes(NOTES.read_text(), "notes").claims["question 1"], verdicts_of("ambiguity-hour")
    early = verdicts_of("ambiguity")
    list_of_three, words = (
        "three-listed-leave-a-smaller-gap-than-four-drawn",
        "words-that-cannot-be-foreseen-open-the-gap",
    )
    ends = [verdict["verdict"] for verdict in hour.values()]
    shown = {name: format_aligned_numbers([hour[name]["estimate"]])[0] for name in (list_of_three, words)}

    assert note.elsewhere["6,400 steps"] == (
        f"{ends.count('supported')} for, {ends.count('refuted')} against, {ends.count('inconclusive')} open: "
        f"three listed less four drawn {shown[list_of_three]}, words drawn anew {shown[words]}"
    )
    assert hour[list_of_three]["verdict"] == early[list_of_three]["verdict"] == "supported"
    assert hour["the-digit-alone-leaves-a-smaller-gap-than-two-drawn"]["refuted_as"] == "negligible"


def test_what_the_answer_says_of_6_400_steps_is_so_in_that_run() -> None:
    rmg, l2m = hour_long("RMG"), hour_long("L2M")

    assert min(rmg, key=lambda k: rmg[k]) == 5
    assert sorted(rmg, key=lambda k: rmg[k])[1] == 0
    assert list(l2m.values()) not in (sorted(l2m.values()), sorted(l2m.values(), reverse=True))
    said = "at a learned temperature, captions of the digit alone have a smaller RMG than those of one to four"
    assert said in " ".join(visible().split())


def test_what_is_said_of_temperatures_after_6_400_steps_is_so_in_that_run() -> None:
    note, hour = parse_notes(NOTES.read_text(), "notes").claims["question 2"], verdicts_of("transience-hour")
    kept, less = hour["a-low-temperature-keeps-a-larger-gap"], hour["information-counts-for-less-later"]

    assert {verdict["verdict"] for verdict in hour.values()} == {"supported"}
    assert note.elsewhere["6,400 steps"] == (
        f"in part: 0.03 keeps {kept['estimate']:.3f} more than 0.2; "
        f"information counts for {less['estimate']:.3f} less, but at 0.2 for more"
    )
    assert f"keeps 0.607 more L2M than 0.2, and {kept['estimate']:.3f} after 6,400 steps" in " ".join(visible().split())
    assert note.note is not None
    assert "all six predictions hold" in note.note


def test_the_note_compares_with_the_row_that_stands_below_it() -> None:
    note = parse_notes(NOTES.read_text(), "notes").claims["claim 1"].note
    assert note is not None
    (before,) = re.findall(r"shrinks from (\S+) to", note)

    (row,) = [
        line
        for line in PAGE.read_text().splitlines()
        if "(`full-captions-against-none`)" in line and line.startswith("| Captions")
    ]
    assert f"| {before} |" in row


def test_reasons_for_withdrawing_have_the_ledger_s_numbers(judged: dict[str, SweepAnalysis]) -> None:
    bias, moved = judged["presence_bias"].analysis.trials, judged["posthoc"].analysis.trials

    for factor in ("swelling", "fracture"):
        of_factor = bias.filter((bias["data.main_factor"] == factor) & (bias["data.captions.attributes"] == 1))
        known = f"{mean(of_factor[f'quality/accuracy_{factor}']):.0f} %"
        assert (
            f"({known}, chance 50 %)"
            in load_withdrawals()["presence_bias"][f"{factor}-is-known-better-when-always-named"]
        )
    untouched = moved.filter(moved["evaluate.intervention"] == "none")
    assert (
        f"a rate of {100 * mean(untouched['quality/flip_rate']):.1f} %"
        in load_withdrawals()["posthoc"]["closing-buys-robustness"]
    )


def test_what_is_asked_of_robustness_is_a_tenth_of_the_rate_that_was_measured(judged: dict[str, SweepAnalysis]) -> None:
    from gapctl.config.load import load_sweep

    moved = judged["posthoc"].analysis.trials
    asked = {
        item.where["data.captions.attributes"]: item.smallest_effect
        for item in load_sweep(REPOSITORY / "sweeps/robustness.yaml").spec.hypotheses
        if item.where
    }

    for said, smallest in asked.items():
        untouched = moved.filter(
            (moved["evaluate.intervention"] == "none") & (moved["data.captions.attributes"] == said)
        )
        assert smallest == pytest.approx(mean(untouched["quality/flip_rate"]) / 10, abs=5e-5)


def test_a_gap_that_is_said_to_open_rose(ledger: Path, judged: dict[str, SweepAnalysis]) -> None:
    import polars as pl

    note = parse_notes(NOTES.read_text(), "notes").claims["claim 5"].note
    assert note is not None
    rows = []
    for trial in judged["entropy"].plan.trials:
        history = pl.read_parquet(ledger / trial.id / "history.parquet")["gap/rmg"]
        rows.append({**trial.factors, "first": history[0], "last": history[-1]})
    poor = pl.DataFrame(rows).filter(pl.col("data.captions.attributes") == 0)
    last = dict(poor.group_by("temperature.mode").agg(pl.col("last").mean()).iter_rows())

    rise = f"rose from {mean(poor['first']):.3f} to {last['learned']:.3f} with a fast temperature"
    assert f"{rise} and to {last['frozen']:.3f} with a frozen one" in note
    assert (poor["last"] > poor["first"]).all()


@pytest.mark.parametrize("page", ["README.md", "docs/findings.md"])
def test_neither_page_says_whatever_else_is_changed(page: str) -> None:
    text = " ".join((REPOSITORY / page).read_text().split())

    assert "whatever else is changed" not in text.replace("*Captions close the gap whatever else is changed.*", "")


def test_the_readme_says_beside_the_demo_s_verdict_what_the_longer_run_makes_of_it() -> None:
    readme = " ".join((REPOSITORY / "README.md").read_text().split())
    trend = verdicts_of("imbalance-hour")["information-closes-the-gap"]
    rmg = hour_long("RMG")

    assert f"slope of {trend['estimate']:.4f}, **{trend['marks'][0]}**" in readme
    assert f"{rmg[0]:.2f} with the digit alone, {rmg[1]:.2f} with one attribute" in readme
    assert readme.index("**not monotone**") < readme.index("## A question of your own")
