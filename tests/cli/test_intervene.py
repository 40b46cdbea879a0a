"""`gapctl intervene` answers in its first line whether closing the gap helps, and says what is wrong with its input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import Answer, assert_refused, gapctl
from gap_galleries import gallery

GOLDEN = Path(__file__).parents[1] / "golden"


def saved(folder: Path, *, count: int = 160, gap: float = 2.0, **arrays: Any) -> Path:
    path = folder / "embeddings.npz"
    found = gallery(count, gap=gap)
    np.savez(path, image=found.image_ND, text=found.text_MD, **arrays)
    return path


def intervened(path: Path, *more: str) -> Answer:
    return gapctl("intervene", "--embeddings", str(path), *more)


def document(path: Path, *more: str) -> dict[str, Any]:
    ran = intervened(path, "--json", *more)
    assert (ran.exit_code, ran.err) == (0, "")
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_the_command_answers_first_then_shows_every_intervention(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = intervened(saved(tmp_path), "--lambdas", "0,1")

    assert (ran.exit_code, ran.err) == (0, "")
    assert capfd.readouterr() == ("", ""), "nothing else is written"
    lines = ran.out.splitlines()
    assert lines[0].startswith("Does closing the gap help here? Yes, with ")
    assert "fitted on 80 images, judged on 80 others" in lines[1]
    first_words = [line[:12].strip() for line in lines[2:]]
    names = ("nothing", "shift 0", "shift 1", "centre", "standardise", "orthogonal", "remove 1", "remove 3")
    assert [word for word in first_words if word in names] == list(names)
    assert "\x1b" not in ran.out


def test_the_table_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    lines = intervened(Path("pairs_wide_gap.npz")).out.splitlines()
    table = lines[lines.index("") + 1 : lines.index("", lines.index("") + 1)]

    assert len(table) > 15
    assert max(map(len, table)) <= 80


def test_the_document_holds_what_each_verdict_rests_on(tmp_path: Path) -> None:
    found = document(saved(tmp_path), "--lambdas", "0,1", "--calibration", "0.25", "--seed", "3")

    assert (found["split"]["calibration_images"], found["split"]["held_out_images"], found["split"]["seed"]) == (
        40,
        120,
        3,
    )
    by_name = {each["name"]: each for each in found["interventions"]}
    assert (by_name["shift 1"]["family"], by_name["shift 1"]["amount"]) == ("shift", 1)
    assert set(by_name["shift 1"]["changes"]) == set(found["before"]) == set(found["smallest_effects"])
    closed = by_name["shift 1"]["changes"]["gap/l2m"]
    assert closed["value"] - found["before"]["gap/l2m"] == pytest.approx(closed["change"])
    assert closed["low"] <= closed["change"] <= closed["high"] < 0
    assert closed["verdict"] == "helps"
    assert {change["change"] for change in by_name["shift 0"]["changes"].values()} == {0}
    assert found["answer"]["closing"][0] == "shift 1"
    assert found["inputs"]["pairing"] == "rows"


def test_class_prompts_are_judged_by_zero_shot_accuracy() -> None:
    found = document(GOLDEN / "classes.npz")

    assert set(found["before"]) == {"gap/l2m", "gap/rmg", "quality/object_accuracy", "quality/flip_rate"}


def test_the_same_seed_gives_the_same_document(tmp_path: Path) -> None:
    path = saved(tmp_path, count=40)

    def judged_with(seed: str) -> dict[str, Any]:
        return document(path, "--seed", seed, "--lambdas", "1", "--remove", "1")

    assert judged_with("5") == judged_with("5") != judged_with("6")


def test_an_intervention_that_cannot_be_applied_is_named_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "alike.npz"
    found = gallery(60)
    np.savez(path, image=found.image_ND, text=np.tile(found.text_MD[:1], (60, 1)))

    assert "centre: not applied: text row 0 has no length left (30 of 30 such rows)" in intervened(path).out
    impossible = {each["name"] for each in document(path)["interventions"] if each["impossible"]}
    assert impossible == {"centre", "standardise"}


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "a lambda in words": (("--lambdas", "0,half"), "--lambdas 0,half: expected numbers such as 0,0.5,1, with commas"),
    "an empty lambda": (("--lambdas", "0,,1"), "--lambdas 0,,1: expected numbers"),
    "an infinite lambda": (("--lambdas", "0,inf"), "lambda inf: expected a finite number"),
    "a lambda beyond all use": (("--lambdas", "1e308"), "lambda 1e+308: expected a finite number, at most 100"),
    "a lambda that is no number": (("--lambdas", "nan"), "lambda nan: expected a finite number"),
    "half a dimension": (("--remove", "1.5"), "--remove 1.5: expected whole numbers such as 1,3,10"),
    "all dimensions": (("--remove", "3,12"), "12 dimensions to remove of 12; expected 1 to 11"),
    "no dimension": (("--remove", "0"), "0 dimensions to remove of 12; expected 1 to 11"),
    "all for calibration": (("--calibration", "1"), "calibration share 1: expected a number between 0 and 1"),
    "nothing for calibration": (("--calibration", "0"), "calibration share 0: expected a number between 0 and 1"),
    "a negative share": (("--calibration", "-0.5"), "calibration share -0.5: expected a number between 0 and 1"),
    "a share that is no number": (("--calibration", "nan"), "calibration share nan: expected a number between 0 and 1"),
    "a share that leaves too few": (("--calibration", "0.99"), "160 images, split into 158 for calibration and 2 held"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_options_get_one_message(tmp_path: Path, wrong: str) -> None:
    options, message = WRONG[wrong]

    assert_refused(intervened(saved(tmp_path), "--json", *options), message)


def test_too_few_images_to_split_are_refused(tmp_path: Path) -> None:
    assert_refused(intervened(saved(tmp_path, count=10)), "10 images, split into 5 for calibration and 5 held out")


def test_a_file_that_measure_refuses_is_refused_here_with_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "wrong.npz"
    np.savez(path, image=gallery(20).image_ND, text=gallery(19).text_MD)

    refused = intervened(path)
    assert_refused(refused, "19 rows for 20 images")
    assert refused.err == gapctl("measure", "--embeddings", str(path)).err


def test_nothing_to_work_on_is_refused() -> None:
    assert_refused(gapctl("intervene"), "nothing to measure was named")


def test_the_report_is_written_where_asked_and_the_answer_is_in_it(tmp_path: Path) -> None:
    out = tmp_path / "closing.html"
    ran = intervened(saved(tmp_path), "--report", str(out), "--lambdas", "1")

    assert f"report: {out}" in ran.out
    answer = ran.out.splitlines()[0].removeprefix("Does closing the gap help here? ")
    assert answer in out.read_text(encoding="utf-8")


def test_a_report_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "none" / "closing.html"

    assert_refused(
        intervened(saved(tmp_path), "--report", str(out)), f"--report {out}: cannot be written: No such file"
    )
