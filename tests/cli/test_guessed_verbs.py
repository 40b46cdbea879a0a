"""Verbs and options that a person guesses: a sweep to edit, all metrics, all sweeps of a ledger, the tab key."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import gapctl
from gapctl.cli.options import compute_data_source_fingerprint, load_plan
from gapctl.config.load import load_sweep
from gapctl.config.metrics import METRICS
from gapctl.ledger import Ledger, Result
from gapctl.ledger.lease import LeaseOwner
from gapctl.ledger.search_record import PointRecord, SearchRecord
from gapctl.plan.plan import make_plan
from sweep_texts import REPOSITORY, SHIPPED, edited


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def list_trial_ids(sweep: str | Path) -> list[str]:
    return [trial.id for trial in make_plan(load_sweep(Path(sweep)), compute_data_source_fingerprint).trials]


@pytest.mark.parametrize(("typed", "file", "name"), [
    ("my.yaml", "my.yaml", "my"),
    ("mine", "mine.yaml", "mine"),
    ("My Sweep.yaml", "My Sweep.yaml", "my_sweep"),
    ("2024.yaml", "2024.yaml", "'2024'"),
])  # fmt: skip
def test_a_new_sweep_is_a_copy_that_differs_by_its_name(typed: str, file: str, name: str, folder: Path) -> None:
    answer = gapctl("new", typed, "--from", "imbalance")

    assert answer.exit_code == 0, answer.err
    text = (folder / file).read_text()
    schema = f"$schema={SHIPPED.parent / 'schema.json'}"
    shipped = SHIPPED.read_text().replace("$schema=schema.json", schema)
    assert text == shipped.replace("\nname: imbalance\n", f"\nname: {name}\n")
    assert list_trial_ids(file) == list_trial_ids("imbalance")
    assert load_sweep(Path(file)).spec.name == name.strip("'")


def test_a_copy_beside_its_original_keeps_the_path_of_the_schema(folder: Path) -> None:
    gapctl("new", "one.yaml")
    (folder / "one.yaml").write_text((folder / "one.yaml").read_text().replace(str(SHIPPED.parent), "elsewhere"))

    assert gapctl("new", "two.yaml", "--from", "one.yaml").exit_code == 0
    assert "$schema=elsewhere/schema.json\n" in (folder / "two.yaml").read_text()


REFUSED = {
    "an old file": (["there.yaml"], "there.yaml: exists already; expected a new file"),
    "the same name": (["imbalance.yaml"], "its sweep would be named imbalance, as that of"),
    "no name": (["???.yaml"], "no sweep can be named after it"),
    "no folder": (["absent/my.yaml"], "FILE absent/my.yaml: cannot be written: there is no folder absent"),
    "no original": (["my.yaml", "--from", "imbalanc"], "did you mean imbalance?"),
    "a wrong original": (["my.yaml", "--from", "wrong.yaml"], "wrong.yaml:4:11: base.train.samples: found 'x'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_new_sweep_is_refused(case: str, folder: Path) -> None:
    arguments, expected = REFUSED[case]
    (folder / "there.yaml").write_text("mine")
    (folder / "wrong.yaml").write_text(edited(("samples: 512", "samples: x")))
    answer = gapctl("new", *arguments)

    assert (answer.exit_code, answer.out) == (2, "")
    assert expected in answer.err
    assert (folder / "there.yaml").read_text() == "mine"
    assert {path.name for path in folder.iterdir()} == {"there.yaml", "wrong.yaml"}


def test_every_metric_is_listed_with_its_unit_and_meaning() -> None:
    document = json.loads(gapctl("metrics", "--json").out)

    assert {each["key"]: (each["meaning"], each["unit"]) for each in document["metrics"]} == {
        metric.key: (metric.meaning, metric.unit) for metric in METRICS.values()
    }


def test_metrics_are_chosen_by_group_and_by_words() -> None:
    def list_keys(*arguments: str) -> list[str]:
        return [each["key"] for each in json.loads(gapctl("metrics", *arguments, "--json").out)["metrics"]]

    assert {key.partition("/")[0] for key in list_keys("--group", "train")} == {"train"}
    assert list_keys("--group", "train", "floor") == ["train/loss_floor"]
    assert list_keys("recall", "TEXT TO") == [f"quality/t2i_recall_{k}" for k in (1, 5, 10)]
    assert list_keys("degrees") == ["geometry/principal_angle_min"]
    shown = gapctl("metrics", "l2m").out
    assert "gap/l2m" in shown
    assert "distance between the mean image" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gap/rgm"], "did you mean gap/rmg? Expected a part of a name"),
        (["recall", "--group", "gap"], "recall: no metric in group gap has that in its name"),
        (["--group", "gpa"], "--group gpa: no such group; did you mean gap?"),
    ],
)
def test_a_metric_that_there_is_not_is_answered(arguments: list[str], expected: str) -> None:
    answer = gapctl("metrics", *arguments)

    assert (answer.exit_code, answer.out) == (2, "")
    assert expected in answer.err


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    """A ledger of a sweep with a trial in each state, another that has not begun, and a search of four points."""
    ledger = Ledger("runs")
    (folder / "sweep.yaml").write_text(edited(("[0, 5]\nhyp", "[0, 1, 2, 5]\nhyp")))
    (folder / "other.yaml").write_text(edited(("name: tiny", "name: other")))
    plan = load_plan(Path("sweep.yaml"), None, None)
    for each in (plan, load_plan(Path("other.yaml"), "quick", ["samples=1024"])):
        ledger.declare_plan(each)
    done, running, failed, _ = plan.trials
    ledger.trial(done.id).finish(Result(done.id, {"gap/rmg": 0.5}, 512, 1.0, {}, {}), b"")
    ledger.trial(running.id).acquire(LeaseOwner("run", "tiny"))
    ledger.trial(failed.id).fail("ValueError: no")
    states = ("done", "stopped", "running")
    points = [PointRecord(n, f"{n:012x}", {"train.lr": 0.1}, state, 0.5, 512) for n, state in enumerate(states)]
    ledger.save_search("tune.base", SearchRecord("base-1", "train/loss", "minimize", 4, points))
    ledger.save_search("tune.base.base-0", SearchRecord("base-0", "train/loss", "minimize", 9, points))
    return ledger


def test_status_without_a_file_counts_every_sweep_of_the_ledger(ledger: Ledger) -> None:
    answer = gapctl("status", "--json")
    found = {each["sweep"]: each for each in json.loads(answer.out)["sweeps"]}
    states = ("done", "running", "stopped", "failed", "damaged", "missing")

    assert {name: (each["scale"], [each["totals"][state] for state in states]) for name, each in found.items()} == {
        "tiny": ("base", [1, 1, 0, 1, 0, 1]),
        "other": ("quick", [0, 0, 0, 0, 0, 2]),
        "tune": ("base", [1, 0, 1, 0, 0, 2]),
    }
    assert answer.exit_code == 1
    assert answer.err == "gapctl: tiny, scale base: 1 failed; `gapctl status sweep.yaml` says why\n"


def test_status_of_every_sweep_for_people(ledger: Ledger) -> None:
    lines = [line.rstrip().split(maxsplit=2) for line in gapctl("status").out.splitlines()]

    assert ["tiny", "base", "1 of 4  1 running, 1 failed, 1 missing"] in lines
    assert ["other", "quick", "0 of 2  2 missing"] in lines


def test_a_damaged_declaration_hides_no_other_sweep(ledger: Ledger, folder: Path) -> None:
    (folder / "runs" / "other.sweep.json").write_text("{")
    answer = gapctl("status", "--json")

    assert {each["sweep"] for each in json.loads(answer.out)["sweeps"]} == {"tiny", "tune"}
    assert "runs/other.sweep.json: damaged" in answer.err


def test_status_without_a_file_needs_a_ledger_and_takes_no_scale() -> None:
    assert gapctl("status").err.startswith("gapctl: runs: keeps no sweep; expected a folder that `gapctl sweep FILE`")
    assert gapctl("status", "--scale", "smoke").err.startswith("gapctl: --scale and --set belong to a sweep")


def test_a_dry_run_is_answered_with_the_plan() -> None:
    answer = gapctl("sweep", "imbalance", "--scale", "smoke", "--set", "lr=0.1", "--dry-run")

    assert answer.exit_code == 2
    assert "`gapctl plan imbalance --scale smoke --set lr=0.1` lists what it would train" in answer.err
    assert "--dry-run" not in gapctl("sweep", "--help").out
    assert gapctl("plan", "imbalance", "--scale", "smoke", "--set", "lr=0.1").exit_code == 0


COMPLETING = """
import contextlib, io, json, os, sys
sys.argv[0], lines = "gapctl", sys.argv[1:]
from gapctl.cli.main import run
os.environ["_GAPCTL_COMPLETE"] = "complete_bash"
for line in lines:
    os.environ |= {"COMP_WORDS": f"gapctl {line}", "COMP_CWORD": str(line.count(" ") + 1)}
    with contextlib.redirect_stdout(io.StringIO()) as offered, contextlib.suppress(SystemExit):
        run([])
    print(json.dumps(offered.getvalue().split()))
print(*sorted({"numpy", "torch", "ray", "mlflow", "polars", "scipy", "open_clip"} & set(sys.modules)), file=sys.stderr)
"""


def complete(*lines: str) -> list[list[str]]:
    """What bash offers for the last word of each line after `gapctl`; nothing heavy is imported."""
    command = [sys.executable, "-c", COMPLETING, *lines]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_tab_key_completes_verbs_sweeps_scales_settings_and_metrics(folder: Path) -> None:
    (folder / "imitation.yaml").write_text("name: imitation\n")

    offered = {
        "stat": ["status"],
        "data veri": ["verify"],
        "plan im": ["imbalance", "imitation.yaml"],
        "analyze temp": ["temperature"],
        "plan imbalance --scale ": ["smoke", "laptop", "hour", "paper"],
        "sweep imbalance --set base.train.w": ["base.train.weight_decay=", "base.train.warmup="],
        "sweep imbalance --set lr": ["lr="],
        "metrics gap/l": ["gap/l2m", "gap/l2i", "gap/linear_separability", "gap/l2m_excess"],
        "plan imitation.yaml --scale ": [],
        "plan absent.yaml --scale ": [],
    }

    assert dict(zip(offered, complete(*offered), strict=True)) == offered


def test_the_tab_key_completes_the_trials_of_the_ledger_that_is_named(folder: Path) -> None:
    for name in ("0123456789ab", "0124aaaaaaaa", "ffffffffffff", "notes"):
        (folder / "ledger" / name).mkdir(parents=True)

    several, one, none = complete(
        "measure --runs ledger --trial 012", "train imbalance --runs ledger --trial f", "measure --trial 012"
    )

    assert several == ["0123456789ab", "0124aaaaaaaa"]
    assert one == ["ffffffffffff"]
    assert none == []


def test_a_shell_is_given_its_completion() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "gapctl", "--help"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout

    assert "--install-completion" in shown
    assert "--show-completion" in shown
