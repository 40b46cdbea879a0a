"""What a person sees of a running sweep: a table on a terminal of any width, plain lines in a log."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from gapctl.cli.console import show_progress
from gapctl.cli.data import MAKING_VARIANTS
from gapctl.config.load import load_sweep
from gapctl.ledger import Result
from gapctl.plan.plan import Plan, Trial, make_plan
from gapctl.sweep.progress import LiveTable, ProgressLog, TrialReport, format_clock

TRACEBACK = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: loss is not finite\n'
SWEEP = """\
name: long
question: Does it?
base: {train: {samples: 2_560, batch_size: 256}}
vary:
  data.captions.attributes: [0, 5]
  temperature.mode: [learned, fixed]
  temperature.init: [0.01, 0.07]
seeds: 2
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    file = tmp_path / "long.yaml"
    file.write_text(SWEEP)
    return make_plan(load_sweep(file), lambda data: "f" * 64)


def report(trial: Trial, seen: int = 1280) -> TrialReport:
    return TrialReport(trial, seen, 2560, samples_per_second=1234.5, loss=3.21, rows=[{"gap/rmg": 0.456}])


def result(trial: Trial) -> Result:
    return Result(trial.id, {"gap/rmg": 0.123}, 2560, 19.4, {}, {})


def drawn(plan: Plan, width: int, height: int = 24, running: int = 2) -> list[str]:
    """The table after one trial was done, one failed, and `running` are at work."""
    done, failed, *others = plan.trials
    table = LiveTable(plan.trials, 0, console := Console(file=io.StringIO(), width=width, height=height))
    for trial in (done, failed, *others[:running]):
        table.note_start(trial)
        table.note_progress(report(trial))
    table.note_result(done, result(done))
    table.note_failure(failed, TRACEBACK)
    console.print(table._draw_screen())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_fits_the_terminal_and_cuts_no_number(plan: Plan, width: int) -> None:
    lines = drawn(plan, width)

    assert max(map(len, lines)) <= width
    numbers = [line.split()[-5:] for line in lines if "1,23" in line]
    assert numbers == [["50%", "1,234", "3.210", "0.456", "0:01"]] * 2


def test_the_table_says_what_ended_and_how_far_all_is(plan: Plan) -> None:
    text = "\n".join(drawn(plan, 160))

    assert f"{plan.trials[0].label}: done in 19 s, RMG 0.123" in text
    assert f"{plan.trials[1].label}: failed: ValueError: loss is not finite" in text
    assert re.search(r"1 of 16 trials done, 1 failed, \d+:\d\d left$", text)


def test_a_table_of_many_trials_keeps_its_last_line_in_sight(plan: Plan) -> None:
    lines = drawn(plan, width=160, height=12, running=14)

    assert len(lines) <= 12
    assert "more in training" in lines[-2]
    assert "1 of 16 trials done" in lines[-1]


def test_a_log_has_lines_with_times_and_no_control_codes(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    done, failed, lost, *_ = plan.trials
    console = Console(file=io.StringIO(), width=80)
    with ProgressLog(plan.trials, 0, console) as log:
        for trial in (done, failed, lost):
            log.note_start(trial)
        log.note_progress(report(done))
        monkeypatch.setattr("gapctl.sweep.progress.SILENCE_SECONDS", 0.0)
        log.note_progress(report(done))
        log.note_worker_loss(lost)
        log.note_result(done, result(done))
        log.note_failure(failed, TRACEBACK)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()

    assert "\x1b" not in text
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in text.splitlines())
    told = [line[9:] for line in text.splitlines()]
    assert told[:2] == ["loading the data and starting Ray", f"in training: {done.label}"]
    assert re.fullmatch(r"0 of 16 trials done, .* left; 3 in training at 1,234 samples/s", told[2])
    assert told[3:] == [
        f"{lost.label}: its process was lost; another goes on from its checkpoint",
        f"[1/16] {done.label}: done in 19 s, RMG 0.123",
        f"[2/16] {failed.label}: failed: ValueError: loss is not finite",
    ]


def test_a_log_is_told_once_that_images_are_being_made() -> None:
    console = Console(file=io.StringIO())
    with show_progress(console, announce=True) as show:
        show(MAKING_VARIANTS, 1, 10)
        show(MAKING_VARIANTS, 2, 10)

    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "making MAD's variants (once; they are cached)\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3_661, "1:01:01"), (float("nan"), "-"), (float("inf"), "-")]
)
def test_time_left_is_told_in_hours_where_there_are_some(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text
