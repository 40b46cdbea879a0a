"""The command line answers at once, prints what it promises, and leaves colours to those who want them."""

import json
import os
import pty
import re
import socket
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from command_line import gapctl, gapctl_in_turn, gapctl_process, in_turn
from gapctl import __version__
from gapctl.cli.options import load_plan
from gapctl.ledger import LeaseOwner, Ledger, Result
from gapctl.plan.estimate import Cost
from gapctl.plan.trial_id import compute_trial_id
from sweep_texts import REPOSITORY, SHIPPED, edited

HEAVY = {
    "torch",
    "ray",
    "mlflow",
    "open_clip",
    "polars",
    "altair",
    "pandas",
    "scipy",
    "statsmodels",
    "numpy",
    "skimage",
    "fsspec",
}
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;\d+)*m")
PROBE = """
import sys
from gapctl.cli.main import run
for line in sys.argv[1:]:
    try:
        run(line.split())
    except SystemExit as left:
        assert not left.code, left.code
    print("\\nIMPORTED", *sys.modules)
"""


def test_the_command_answers_without_importing_what_only_trainings_need() -> None:
    lines = ["--help", "--version", f"plan {SHIPPED} --runs=."]
    lines += ["sweep --help", "measure --help", "intervene --help", "data mad --help"]
    command = [sys.executable, "-c", PROBE, *lines]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    imported = [set(line.split()) for line in done.stdout.splitlines() if line.startswith("IMPORTED")]
    for line, modules in zip(lines, imported, strict=True):
        assert "typer" in modules, line
        assert not {name.split(".")[0] for name in modules} & HEAVY, f"{line}, or a command before it"
    assert not any(name.startswith("pydantic") for name in imported[0])
    assert not imported[2] & {"gapctl.cli.sweep", "gapctl.tracking.tracker", "rich.progress"}


def test_help_names_every_verb_of_the_design() -> None:
    code, out, err = gapctl("--help")

    assert (code, err) == (0, "")
    for verb in ("sweep", "plan", "status", "train", "analyze", "measure", "data", "ui", "track", "doctor"):
        assert re.search(rf"^\W*{verb}\s", out, re.MULTILINE), verb


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]

    assert gapctl("--version") == (0, f"gapctl {project['version']}\n", "")
    assert __version__ == project["version"]


def test_the_module_is_the_command(tmp_path: Path) -> None:
    assert gapctl_process("--version", folder=tmp_path) == gapctl("--version")


def test_a_plan_in_json_has_its_trials_and_totals_and_nothing_else(tiny: Path) -> None:
    code, out, err = gapctl("plan", str(tiny), "--set", "seeds=2", "--json")
    document = json.loads(out)

    assert (code, err) == (0, "")
    assert set(document) == {"trials", "totals"}
    assert [trial["label"] for trial in document["trials"]] == [
        "attributes=0 seed=0",
        "attributes=5 seed=0",
        "attributes=0 seed=1",
        "attributes=5 seed=1",
    ]
    for trial in document["trials"]:
        assert list(trial) == ["id", "label", "seed", "factors", "config", "steps", "bits", "loss_bayes", "finished"]
        assert trial["factors"] == {"data.captions.attributes": trial["config"]["data"]["captions"]["attributes"]}
        assert trial["config"]["train"]["samples"] == 512
    costs = {field.name for field in fields(Cost)} - {"unknown"}  # which is said where operations are not known
    assert set(document["totals"]) == {
        *costs,
        "finished",
        "rent",
        "disks",
        "few_steps",
        "notes",
        *(f"left_{name}" for name in costs),
    }
    assert document["totals"]["trials"] == 4
    assert document["totals"]["samples"] == 4 * 512
    assert document["totals"]["flops"] > 0


def test_a_plan_says_what_of_it_is_finished_and_what_the_rest_costs(in_every_state: Path) -> None:
    runs = str(in_every_state.parent / "runs")
    document = json.loads(gapctl("plan", str(in_every_state), "--runs", runs, "--json").out)
    totals = document["totals"]
    people = gapctl("plan", str(in_every_state), "--runs", runs).out

    assert [trial["finished"] for trial in document["trials"]] == [True, False, False, True, False]
    assert (totals["trials"], totals["finished"], totals["left_trials"]) == (5, 2, 3)
    assert totals["left_cpu_hours"] == pytest.approx(totals["cpu_hours"] * 3 / 5)
    assert totals["samples"] - totals["left_samples"] == 2 * 512
    assert f"2 of them finished in {runs}; 3 left, 1,536 samples" in people
    assert people.count("  finished") == 2


def test_a_plan_of_which_all_is_finished_says_that_nothing_is_left(tiny: Path) -> None:
    ledger = Ledger(str(tiny.parent / "runs"))
    for trial in load_plan(tiny, None, None).trials:
        ledger.trial(trial.id).finish(Result(trial.id, {}, 512, 1.0, {}, {}), b"")

    out = gapctl("plan", str(tiny), "--runs", ledger.root).out
    assert f"2 of them finished in {ledger.root}; nothing is left to train" in out


def test_a_plan_in_json_gives_the_ids_that_the_ledger_uses(tiny: Path) -> None:
    document = json.loads(gapctl("plan", str(tiny), "--json").out)
    trials = load_plan(tiny, None, None).trials

    assert [trial["id"] for trial in document["trials"]] == [
        compute_trial_id(trial.config, trial.seed, trial.data_fingerprint) for trial in trials
    ]


def test_a_plan_for_people_says_the_same_as_the_one_in_json(tiny: Path) -> None:
    document = json.loads(gapctl("plan", str(tiny), "--json").out)
    code, out, err = gapctl("plan", str(tiny))

    assert (code, err) == (0, "")
    for trial in document["trials"]:
        assert re.search(rf"^{trial['id']} +{trial['label']} +512", out, re.MULTILINE)
    assert "tiny: Does it?" in out
    assert "2 trials, 1,024 samples" in out
    assert load_plan(tiny, None, None).sweep.hypotheses_sha256[:12] in out


@pytest.fixture
def in_every_state(tiny: Path) -> Path:
    """A sweep whose five trials are done, running, failed, damaged and missing."""
    tiny.write_text(edited(("[0, 5]\nhyp", "[0, 1, 2, 3, 5]\nhyp")))
    ledger = Ledger(str(tiny.parent / "runs"))
    done, running, failed, damaged, _ = load_plan(tiny, None, None).trials
    for trial in (done, damaged):
        result = Result(trial.id, {"gap/rmg": 0.5}, 512, 61.5, {"python": "3"}, {"device": "cpu"})
        ledger.trial(trial.id).finish(result, b"weights")
    in_training = ledger.trial(running.id)
    in_training.acquire(LeaseOwner("run", "tiny"))
    in_training.heartbeat(128)
    ledger.trial(failed.id).fail("Traceback\nValueError: [/bold] no")
    (tiny.parent / "runs" / damaged.id / "result.json").write_text("{")
    return tiny


STATES = ["done", "running", "failed", "damaged", "missing"]


def test_a_status_in_json_has_every_trial_with_its_state(in_every_state: Path) -> None:
    code, out, err = gapctl("status", str(in_every_state), "--runs", str(in_every_state.parent / "runs"), "--json")
    document = json.loads(out)
    holder = f"held by {socket.gethostname()} pid {os.getpid()}"

    assert code == 1
    assert set(document) == {"trials", "totals"}
    assert [list(trial) for trial in document["trials"]] == [["trial", "label", "state", "detail"]] * 5
    assert [trial["state"] for trial in document["trials"]] == STATES
    assert [trial["detail"] for trial in document["trials"]][:2] == ["62 s", f"25%, {holder}"]
    assert document["totals"] == {**dict.fromkeys(STATES, 1), "stopped": 0}
    assert [line[:7] for line in err.splitlines()] == ["gapctl:"] * 2


def test_a_status_for_people_has_every_trial_and_tells_problems_apart(in_every_state: Path) -> None:
    code, out, err = gapctl("status", str(in_every_state), "--runs", str(in_every_state.parent / "runs"))
    lines = out.splitlines()

    assert code == 1
    rows = [line for line in lines[1:] if re.match("[0-9a-f]{12} ", line)]
    assert [re.split(r" {2,}", line)[2].strip() for line in rows] == STATES
    assert lines[-1] == "1 done, 1 running, 1 failed, 1 damaged, 1 missing"
    assert "failed: ValueError: [/bold] no; its traceback is in " in err


def test_a_sweep_that_has_not_begun_is_missing_and_that_is_no_failure(tiny: Path) -> None:
    code, out, err = gapctl("status", str(tiny), "--runs", str(tiny.parent / "absent"))

    assert (code, err) == (0, "")
    assert out.endswith("2 missing\n")
    assert not (tiny.parent / "absent").exists()


def test_the_runs_folder_may_be_named_by_the_environment(in_every_state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPCTL_RUNS", str(in_every_state.parent / "runs"))

    assert "1 done, 1 running" in gapctl("status", str(in_every_state)).out


def test_a_trial_that_is_done_is_not_trained_again(in_every_state: Path) -> None:
    runs = in_every_state.parent / "runs"
    done = load_plan(in_every_state, None, None).trials[0]
    before = (runs / done.id / "result.json").read_bytes()
    code, out, err = gapctl("train", str(in_every_state), "--trial", done.id[:8], "--runs", str(runs))

    assert (code, out, err) == (0, "", f"attributes=0 seed=0 ({done.id}) is done; nothing to train\n")
    assert (runs / done.id / "result.json").read_bytes() == before


def test_text_of_the_user_is_printed_as_it_is(tiny: Path) -> None:
    tiny.write_text(edited(("Does it?", "'Does [bold]it[/red] :smile: \\x5b?'")))

    assert "tiny: Does [bold]it[/red] :smile: \\x5b?" in gapctl("plan", str(tiny)).out


def test_a_long_line_is_not_cut_where_the_output_is_narrow(tiny: Path) -> None:
    long = "factors/of/a/folder/with/a/very/long/name/that/goes/on/and/on/for/longer/than/a/terminal/is/wide"
    tiny.write_text(edited(("Does it?", f"Does {long}?")))

    assert f"tiny: Does {long}?\n" in gapctl_process("plan", str(tiny), COLUMNS="30").out


VISIBLE: list[list[str]] = [
    ["--help"],
    ["plan", str(SHIPPED)],
    ["status", str(SHIPPED)],
    ["plan", "absent.yaml"],
    ["paln"],
]


def on_a_terminal(folder: Path, *commands: list[str], **environment: str) -> list[str]:
    """What each command shows on a terminal."""
    ours, theirs = pty.openpty()
    usual = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    process = subprocess.Popen(
        in_turn(*commands),
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**usual, "TERM": "xterm", **environment},
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return re.split("\x1e\\d+\x1e\x1e", shown.decode())[:-1]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux answers so once the other end is closed
        return b""


def test_no_color_is_respected_on_a_terminal(tmp_path: Path) -> None:
    for arguments, shown in zip(VISIBLE, on_a_terminal(tmp_path, *VISIBLE, NO_COLOR="1"), strict=True):
        assert shown.strip(), arguments
        assert not COLOUR.search(shown), arguments


def test_a_terminal_may_show_colours(tmp_path: Path) -> None:
    (shown,) = on_a_terminal(tmp_path, ["--help"])

    assert COLOUR.search(shown)


def test_a_pipe_gets_no_escape_codes(tmp_path: Path) -> None:
    for arguments, (_, out, err) in zip(VISIBLE, gapctl_in_turn(*VISIBLE, folder=tmp_path), strict=True):
        assert out + err, arguments
        assert "\x1b" not in out + err, arguments


@pytest.mark.parametrize("option", ["--json", "--scale=paper"])
def test_a_reader_that_goes_away_is_no_error_to_be_traced(tmp_path: Path, option: str) -> None:
    out, into = os.pipe()
    os.close(out)
    done = subprocess.run(
        [sys.executable, "-m", "gapctl", "plan", str(SHIPPED), option],
        stdout=into,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(into)

    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
