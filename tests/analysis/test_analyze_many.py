"""`gapctl analyze` on several sweeps, its tables for other programs and its formats, as they are typed."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from analysis_ledgers import ATTRIBUTES, CONTRAST, RMG, TREND, falling, fill, sweep_file
from two_sweeps import TwoSweeps, two_sweeps

from command_line import Answer, gapctl
from gapctl.cli.options import load_plan
from gapctl.ledger import Ledger


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TwoSweeps:
    return two_sweeps(tmp_path_factory.mktemp("two"))


@pytest.fixture
def own(made: TwoSweeps, tmp_path: Path) -> Path:
    """A ledger to change."""
    return Path(shutil.copytree(made.runs, tmp_path / "runs"))


def analyzed(made: TwoSweeps, *arguments: str) -> Answer:
    return gapctl("analyze", "--runs", made.runs, *arguments)


def wrong(answer: Answer) -> str:
    assert (answer.exit_code, answer.out) == (2, "")
    assert "Traceback" not in answer.err
    return answer.err


def test_two_files_are_judged_and_compared(made: TwoSweeps) -> None:
    done = analyzed(made, *made.files)

    assert done.exit_code == 0
    assert "slope: supported" in done.out
    assert "2 sweeps compared" in done.out
    assert "levels (base) and rates (base) share 6 trainings" in done.out
    assert "different train.lr: levels (base): 0.001; rates (base): 0.001, 0.002" in done.out
    assert "Intervals: levels (base) 95 %, rates (base) 99 %" in done.out


def test_json_of_several_holds_each_ones_own_document(made: TwoSweeps) -> None:
    several = json.loads(analyzed(made, *made.files, "--json").out)
    alone = json.loads(analyzed(made, made.files[0], "--json").out)

    assert set(several) == {"sweeps", "comparisons", "shared_trials", "differences", "not_judged"}
    assert {name: several["sweeps"][0][name] for name in alone} == alone
    assert [trial["label"] for trial in several["sweeps"][1]["missing"]] == ["lr=0.002 attributes=5 seed=2"]
    assert [found["sweep"] for found in several["comparisons"][0]["findings"]].count("rates (base)") == 1


def test_data_that_is_not_here_is_not_needed_to_judge_a_ledger(own: Path, tmp_path: Path) -> None:
    file = sweep_file(tmp_path, TREND, CONTRAST)
    document = json.loads(file.read_text())
    document["base"]["data"] = {"dataset": "mad", "source": "mnist"}
    file.write_text(json.dumps(document))

    said = wrong(gapctl("analyze", "--runs", str(own), str(file)))

    assert "mnist: the data source does not exist" in said
    assert f"`gapctl analyze --all --runs {own}` judges all that the ledger keeps, without its data" in said
    assert "--all" not in wrong(gapctl("analyze", "--runs", str(tmp_path / "none"), str(file)))


def test_all_needs_no_files_and_gives_the_same(tmp_path: Path) -> None:
    made = two_sweeps(tmp_path)
    named = json.loads(analyzed(made, *made.files, "--json").out)
    for file in made.files:
        Path(file).unlink()

    assert json.loads(analyzed(made, "--all", "--json").out) == named


def test_the_trials_that_are_missing_come_with_the_command_that_finishes_them(made: TwoSweeps) -> None:
    said = " ".join(analyzed(made, made.files[1]).out.split())

    assert "1 training: lr=0.002 attributes=5 seed=2" in said
    assert "finishes them" in said


def test_a_ledger_of_an_older_version_says_how_to_name_its_file(made: TwoSweeps, own: Path) -> None:
    path = own / "rates.sweep.json"
    declared = json.loads(path.read_text())
    del declared["asked"]
    path.write_text(json.dumps(declared))
    answer = gapctl("analyze", "--all", "--runs", str(own))

    assert answer.exit_code == 1
    assert "slope: supported" in answer.out
    assert f"{path}: keeps no sweep file for scale base, as an older gapctl wrote it" in answer.err
    assert json.loads(gapctl("analyze", "--all", "--json", "--runs", str(own)).out)["not_judged"]


def test_trials_of_an_earlier_recipe_are_judged_as_what_they_are(tmp_path: Path) -> None:
    from gapctl.config.load import load_sweep
    from gapctl.plan.plan import make_plan
    from gapctl.plan.trial_id import RECIPE_VERSION

    file = sweep_file(tmp_path, TREND)
    earlier = make_plan(load_sweep(file), lambda data: "fingerprint", recipe_version=RECIPE_VERSION - 1)
    fill(Ledger(str(tmp_path / "runs")), earlier, falling(0.05))
    table = tmp_path / "trials.csv"
    answer = gapctl("analyze", "--all", "--runs", str(tmp_path / "runs"), "--export", str(table))

    assert answer.exit_code == 0
    assert set(pl.read_csv(table)["recipe_version"]) == {RECIPE_VERSION - 1}


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_trials_and_their_evaluations_are_written_as_tables(made: TwoSweeps, tmp_path: Path, ending: str) -> None:
    trials, history = tmp_path / f"trials.{ending}", tmp_path / f"history.{ending}"
    answer = analyzed(made, *made.files, "--export", str(trials), "--export-history", str(history))
    read = pl.read_parquet if ending == "parquet" else pl.read_csv

    assert answer.exit_code == 0
    assert f"29 rows: {trials}" in answer.out
    assert (len(read(trials)), len(read(history))) == (29, 58)
    assert read(trials).schema[ATTRIBUTES] == pl.Int64
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"history.{ending}", f"trials.{ending}"]


def test_a_named_treatment_has_its_levels_in_the_table(tmp_path: Path) -> None:
    document = json.loads(sweep_file(tmp_path, vary={"path": ["learned", "cold"]}).read_text())
    document["treatments"] = {"path": {"learned": {}, "cold": {"temperature.mode": "fixed"}}}
    file, runs, table = tmp_path / "made-up.yaml", tmp_path / "runs", tmp_path / "trials.csv"
    file.write_text(json.dumps(document))
    fill(Ledger(str(runs)), load_plan(file, None, ()), lambda trial: {RMG: 0.5})

    answer = gapctl("analyze", str(file), "--runs", str(runs), "--export", str(table))

    assert answer.exit_code == 0, answer.err
    assert pl.read_csv(table)["path"].to_list() == ["learned", "cold"] * 3


def test_a_damaged_history_is_named_only_where_histories_are_read(made: TwoSweeps, own: Path, tmp_path: Path) -> None:
    (own / made.levels.trials[0].id / "history.parquet").write_bytes(b"PAR1")
    arguments = ("analyze", made.files[0], "--runs", str(own))
    asked = gapctl(*arguments, "--export-history", str(tmp_path / "h.csv"))

    assert gapctl(*arguments).exit_code == 0
    assert asked.exit_code == 1
    assert "history.parquet: damaged" in asked.err
    assert len(pl.read_csv(tmp_path / "h.csv")) == 2 * 17


def test_markdown_shows_figures_that_lie_beside_it(made: TwoSweeps, tmp_path: Path) -> None:
    out = tmp_path / "the report.md"
    answer = analyzed(made, made.files[0], "--out", str(out))
    text = out.read_text(encoding="utf-8")
    figures = {path.name for path in (tmp_path / "the report-figures").iterdir()}

    assert answer.exit_code == 0
    assert "✓ **supported**" in text
    assert "rmg-by-attributes.png" in figures
    assert all(f"](the%20report-figures/{name})" in text for name in figures)
    assert made.levels.sweep.hypotheses_sha256 in text
    assert all(f"`{trial.id}`" in text for trial in made.levels.trials)


def test_latex_has_one_table_for_each_family_of_hypotheses(made: TwoSweeps, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.tex"
    analyzed(made, *made.files, "--out", str(out))
    text = out.read_text(encoding="utf-8")

    assert text.count(r"\begin{table}") == text.count(r"\bottomrule") == 2
    assert r"$\alpha = 0.05$, Holm's correction over 2 hypotheses" in text
    assert r"$\alpha = 0.01$, Holm's correction over 1 hypothesis." in text
    assert made.levels.sweep.hypotheses_sha256 in text


def test_an_effect_within_some_trainings_says_which_in_every_format(tmp_path: Path) -> None:
    vary = {ATTRIBUTES: [0, 5], "temperature.mode": ["learned", "fixed"]}
    file = sweep_file(tmp_path, {**CONTRAST, "where": {"temperature.mode": "learned"}}, vary=vary)
    runs = str(tmp_path / "runs")
    fill(Ledger(runs), load_plan(file, None, None), falling(0.05))
    said = [gapctl("analyze", str(file), "--runs", runs).out]
    for ending in ("html", "md", "tex"):
        out = tmp_path / f"report.{ending}"
        gapctl("analyze", str(file), "--runs", runs, "--out", str(out))
        said.append(out.read_text(encoding="utf-8"))

    assert ["5 against 0" in " ".join(text.split()) for text in said] == [True] * 4
    assert [", where temperature is learned" in " ".join(text.split()) for text in said] == [True] * 4


def test_a_format_without_a_place_goes_beside_the_ledgers_own_report(made: TwoSweeps, own: Path) -> None:
    one = gapctl("analyze", made.files[0], "--runs", str(own), "--format", "latex")
    two = gapctl("analyze", "--all", "--runs", str(own), "--format", "html")

    assert f"report: {own}/levels.base.report.tex" in one.out
    assert (own / "levels.base.report.tex").exists()
    assert f"report: {own}/comparison.report.html" in two.out
    assert "What they share and where they differ" in (own / "comparison.report.html").read_text(encoding="utf-8")


def test_a_file_without_trials_is_said_beside_the_others(made: TwoSweeps, tmp_path: Path) -> None:
    empty = sweep_file(tmp_path, TREND, name="empty", train={"samples": 512})
    answer = analyzed(made, made.files[0], str(empty))

    assert answer.exit_code == 1
    assert "slope: supported" in answer.out
    assert "no finished trial of empty" in answer.err
    assert f"`gapctl sweep {empty} --runs {made.runs}`" in answer.err


def test_where_another_scale_has_results_it_is_named_with_its_command(tmp_path: Path) -> None:
    file, runs = sweep_file(tmp_path, CONTRAST), str(tmp_path / "runs")
    document = json.loads(file.read_text())
    scales = {"smoke": {"base.train.samples": 512}, "quick": {"seeds": 2}, "laptop": {}}
    file.write_text(json.dumps({**document, "scales": scales, "default_scale": "laptop"}))
    fill(Ledger(runs), load_plan(file, "smoke", None), falling(0.05))
    Ledger(runs).declare_plan(load_plan(file, "quick", None))
    said = wrong(gapctl("analyze", str(file), "--runs", runs))

    assert "no finished trial of made-up at scale laptop, so there is nothing to judge" in said
    assert said.rstrip().endswith(f"first; `gapctl analyze {file} --scale smoke --runs {runs}` judges scale smoke")
    assert gapctl("analyze", str(file), "--scale", "smoke", "--runs", runs).exit_code == 0


def test_two_sweeps_of_one_name_are_refused(made: TwoSweeps, tmp_path: Path) -> None:
    (tmp_path / "copy.yaml").write_text(Path(made.files[0]).read_text())
    said = wrong(analyzed(made, made.files[0], str(tmp_path / "copy.yaml")))

    assert f"its sweep is named levels, as that of {made.files[0]} is" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "found no sweep file; expected one or more, or --all"),
        (("--all", "a.yaml"), "--all: found a.yaml beside it; expected it alone"),
        (("--all", "--scale", "smoke"), "--all: found --scale beside it"),
        (("--all", "--export", "t.xlsx"), "--export t.xlsx: expected a name that ends in .parquet or .csv"),
        (("--all", "--export", "gone/t.csv"), "--export gone/t.csv: cannot be written: there is no folder gone"),
        (("--all", "--export-history", "gone/t.csv"), "--export-history gone/t.csv: cannot be written"),
        (("--all", "--out", "gone/r.md"), "--out gone/r.md: cannot be written: there is no folder gone"),
        (("--all", "--out", "r.html", "--format", "md"), "a name that ends in .html; expected .md, for --format md"),
        (("--all", "--out", "r.pdf"), "a name that ends in .pdf; expected .html, .md, .tex"),
        (("--all", "--out", "report"), "a name that ends in nothing; expected .html, .md, .tex"),
        (("missing.yaml",), "missing.yaml: no such file"),
    ],
)
def test_wrong_arguments_are_answered_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)

    assert said in wrong(gapctl("analyze", *arguments))


def test_all_on_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    said = wrong(gapctl("analyze", "--all", "--runs", str(tmp_path)))

    assert f"--all: {tmp_path} keeps no sweep; expected files that end in .sweep.json" in said


def test_a_file_that_is_no_sweep_is_refused(made: TwoSweeps) -> None:
    trial = Path(made.runs) / made.levels.trials[0].id / "trial.yaml"

    assert f"{trial}:1:1: name: missing" in wrong(analyzed(made, made.files[0], str(trial)))


def test_a_damaged_declaration_leaves_the_others_judged(own: Path) -> None:
    (own / "rates.sweep.json").write_text("{")
    answer = gapctl("analyze", "--all", "--runs", str(own))

    assert answer.exit_code == 1
    assert "slope: supported" in answer.out
    assert "rates.sweep.json: damaged" in answer.err


def test_an_override_of_the_store_is_not_kept(tmp_path: Path) -> None:
    file = sweep_file(tmp_path, TREND)
    plan = load_plan(file, None, ["seeds=2", "tracking.uri=postgresql://me:secret@db/x"])
    fill(Ledger(str(tmp_path / "runs")), plan, falling(0.05))
    kept = (tmp_path / "runs" / "made-up.sweep.json").read_text()

    assert "secret" not in kept
    assert json.loads(kept)["asked"]["base"]["overrides"] == ["seeds=2"]
