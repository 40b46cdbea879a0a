"""The verdicts on a terminal: readable at 80 columns, without colour, and honest about exploration."""

import io
import math
from dataclasses import replace

import pytest
from analysis_ledgers import CONTRAST, TREND, by_seed, falling, fill, plan_of, sweep_file
from rich.console import Console

from gapctl.analysis.analyze import analyze_finished_trials
from gapctl.analysis.learning import ArmCheck
from gapctl.analysis.results import AnalysisResults, Interval
from gapctl.cli.verdict_table import print_verdicts
from gapctl.ledger import Ledger

LONG = {**CONTRAST, "id": "a-hypothesis-with-a-name-that-is-longer-than-any-sensible-one", "direction": "either"}

BETWEEN = "difference in %s by attributes in the caption (5 against 0)"


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> AnalysisResults:
    folder = tmp_path_factory.mktemp("ledger")
    plan = plan_of(sweep_file(folder, TREND, LONG, {**CONTRAST, "id": "open", "response": "gap/l2m"}))
    ledger = Ledger(str(folder / "runs"))
    loose = by_seed(gap__l2m=[-0.2, -0.05, 0.01])
    fill(ledger, plan, lambda trial: {**falling(0.05, noise=0.005)(trial), **loose(trial)})
    return analyze_finished_trials(plan, ledger)


def printed(analysis: AnalysisResults, width: int = 80, **options: bool) -> str:
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    print_verdicts(analysis, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def rows(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}


def test_question_verdicts_and_standing_are_all_said(analysis: AnalysisResults) -> None:
    text = printed(analysis, width=160)

    assert text.startswith("made-up: Does it?\n")
    header = text.splitlines()[1]
    assert header.split() == ["hypothesis", "verdict", "estimate", "95", "%", "interval", "p", "(Holm)", "seeds"]
    assert "18 of 18 trainings done" in text
    assert f"hypotheses sha256 {analysis.hypotheses_sha256[:12]}, declared before the first trial" in text


def test_a_row_has_verdict_estimate_interval_p_and_seeds(analysis: AnalysisResults) -> None:
    open_one = analysis.verdicts[2]
    row = rows(printed(analysis, width=160).split("\n\n")[0])["open"]

    assert row[1] == "inconclusive"
    assert [float(row[i]) for i in (2, 3, 5)] == pytest.approx([open_one.estimate, *open_one.ci], abs=5e-4)
    assert float(row[6]) == pytest.approx(open_one.p, abs=5e-4)
    assert row[7] == "3"


def test_where_names_leave_no_room_for_numbers_these_stand_below_them(analysis: AnalysisResults) -> None:
    wide, narrow = (printed(analysis, width).split("\n\n")[0].splitlines()[1:] for width in (160, 80))

    assert narrow[0::2] == ["hypothesis", *(verdict.id for verdict in analysis.verdicts)]
    below = [line.split() for line in narrow[1::2]]
    assert below == [line.split()[1:] for line in wide]
    assert len({len(line) for line in narrow[1::2]}) == 1


def test_marks_stand_in_words_beside_the_verdict_or_below_it_in_a_narrow_terminal(analysis: AnalysisResults) -> None:
    first, _, other = analysis.verdicts
    marked = replace(analysis, verdicts=(replace(first, exploratory=True, redesigned=True), other))
    wide, narrow, narrowest = (printed(marked, width).split("\n\n")[0].splitlines() for width in (160, 75, 66))

    assert any(line.startswith("slope ") and "  supported (exploratory, redesigned)  " in line for line in wide)
    assert narrow[2].split()[:2] == ["slope", "supported"]
    assert narrow[3] == f"{' ' * len('hypothesis')}  (exploratory, redesigned)"
    assert narrowest[3:6:2] == ["slope", "  (exploratory, redesigned)"]
    assert narrowest[4].split()[0] == "supported"
    assert max(map(len, [*narrow, *narrowest])) <= 75


def test_why_models_did_not_learn_is_told_once(analysis: AnalysisResults) -> None:
    checks = (ArmCheck("attributes=0", {}, "train/loss", (0, 1), (0,), "loss 5.600 in 1 of 2 seeds", 1),)
    marked = [replace(verdict, not_learned=checks) for verdict in analysis.verdicts]
    text = " ".join(printed(replace(analysis, verdicts=tuple(marked))).split())

    assert text.count("Not learned: attributes=0: loss 5.600 in 1 of 2 seeds.") == 1
    assert text.count("Not learned: as for slope.") == len(marked) - 1


def test_each_claim_is_followed_by_its_effect_its_reason_and_the_seeds_it_needs(analysis: AnalysisResults) -> None:
    joined = " ".join(printed(analysis).split())
    effects = ["slope of relative modality gap (RMG), per attribute", BETWEEN % "relative modality gap (RMG)"]
    effects.append(f"{BETWEEN % 'distance of the modality means (L2M)'}, distance")

    for verdict, effect in zip(analysis.verdicts, effects, strict=True):
        said = f"{verdict.claim} Effect: {effect}. {verdict.reason}"
        assert f"{verdict.id}: {verdict.verdict} {said}" in joined
    assert f"About {analysis.verdicts[2].seeds_needed} seeds would probably settle it" in joined


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(analysis: AnalysisResults, width: int) -> None:
    lines = printed(analysis, width).splitlines()

    assert max(len(line) for line in lines) <= width
    assert not any("…" in line for line in lines)
    assert all(any(verdict.verdict in line for line in lines) for verdict in analysis.verdicts)


def test_without_a_terminal_there_is_no_colour(analysis: AnalysisResults) -> None:
    assert "\x1b[" not in printed(analysis)


def test_no_color_is_respected_on_a_terminal(analysis: AnalysisResults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m" in printed(analysis, force_terminal=True)

    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in printed(analysis, force_terminal=True)


def test_hypotheses_changed_or_undeclared_are_called_exploratory(analysis: AnalysisResults) -> None:
    exploring = [replace(verdict, exploratory=True) for verdict in analysis.verdicts]
    changed = replace(analysis, declared_sha256="0123456789abcdef" * 4, verdicts=tuple(exploring))
    undeclared = replace(changed, declared_sha256=None)

    assert "exploratory: those declared before the first trial were 0123456789ab" in " ".join(printed(changed).split())
    assert "exploratory: they were not declared before the first trial" in " ".join(printed(undeclared).split())
    assert "slope: supported (exploratory)" in printed(changed)


def test_an_effect_within_some_trainings_says_which(analysis: AnalysisResults) -> None:
    held = replace(analysis.verdicts[0], where={"temperature.mode": "learned", "train.lr": 0.001})
    joined = " ".join(printed(replace(analysis, verdicts=(held,))).split())

    assert "(RMG), where temperature is learned and learning rate is 0.001, per attribute." in joined


def test_a_correlation_is_printed_in_plain_letters(analysis: AnalysisResults) -> None:
    tau = replace(analysis.verdicts[0], test="correlation", factor="temperature/tau", given=("temperature.mode",))

    assert "(RMG) with temperature tau given temperature, Kendall's tau." in " ".join(
        printed(replace(analysis, verdicts=(tau,))).split()
    )


def test_what_is_not_known_is_a_dash(analysis: AnalysisResults) -> None:
    unknown = replace(
        analysis.verdicts[2],
        estimate=math.nan,
        ci=Interval(math.nan, math.nan),
        p=math.nan,
        p_direction=math.nan,
        seeds=0,
    )

    row = rows(printed(replace(analysis, verdicts=(unknown,))).split("\n\n")[0])["open"]
    assert row == ["open", "inconclusive", "-", "-", "-", "0"]


def test_square_brackets_in_a_claim_are_printed_as_they_are(analysis: AnalysisResults) -> None:
    marked = replace(analysis.verdicts[0], claim="The gap [red]falls[/red].")

    assert "The gap [red]falls[/red]." in printed(replace(analysis, question="[bold]?", verdicts=(marked,)))


def test_a_file_without_hypotheses_says_so(analysis: AnalysisResults) -> None:
    text = printed(replace(analysis, verdicts=()))

    assert "states no hypotheses" in text
    assert "hypothesis  " not in text
