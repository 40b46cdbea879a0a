"""A mistake is answered with its file, line and column, its key's whole path, and the nearest key that exists."""

from pathlib import Path

import pytest

from gapctl.config.base import MOST_LINES, Problem, SpecError
from gapctl.config.load import load_sweep
from sweep_texts import complaints, edited, loaded, written

MISSPELT = [
    (("question:", "qestion:"), "F:2:1: qestion: unknown key", "did you mean question?"),
    (("  train:", "  trian:"), "F:4:3: base.trian: unknown key", "did you mean train?"),
    (("samples: 512", "smaples: 512"), "F:4:11: base.train.smaples: unknown key", "did you mean samples?"),
    (("batch_size:", "batchsize:"), "F:4:25: base.train.batchsize: unknown key", "did you mean batch_size?"),
    (("id: gap", "id: gap\n    sorce: x"), "F:9:5: hypotheses[0].sorce: unknown key", "did you mean source?"),
    (("id: ends", "id: ends\n    beteen: x"), "F:16:5: hypotheses[1].beteen: unknown key", "did you mean between?"),
    (("scales:", "resources: {cpu: 1}\nscales:"), "F:23:13: resources.cpu: unknown key", "did you mean cpus?"),
    (("scales:", "tracking: {url: x}\nscales:"), "F:23:12: tracking.url: unknown key", "expected uri"),
    (("{seeds: 1}", "{seds: 1}"), "F:24:11: scales.quick.seds: no such setting", "did you mean seeds?"),
]


@pytest.mark.parametrize(("edit", "place", "suggestion"), MISSPELT)
def test_a_misspelt_key_is_answered_with_its_place_and_the_nearest_key(
    tmp_path: Path, edit: tuple[str, str], place: str, suggestion: str
) -> None:
    found = complaints(tmp_path, edited(edit))
    (line,) = [line for line in found if line.startswith(place)]

    assert suggestion in line


def test_all_mistakes_are_answered_at_once_a_line_each(tmp_path: Path) -> None:
    found = complaints(
        tmp_path, edited(("name: tiny", "name: T"), ("samples: 512", "samples: x"), ("gap\n", "gap\n    x: 1\n"))
    )

    assert [line.split(": ")[0] for line in found] == ["F:1:1", "F:4:11", "F:9:5"]


def test_very_many_mistakes_are_cut(tmp_path: Path) -> None:
    found = complaints(tmp_path, edited(("scales:", "\n".join(f"key{index}: 1" for index in range(90)) + "\nscales:")))

    assert len(found) == MOST_LINES + 1
    assert found[-1] == f"and {90 - MOST_LINES} more"


def test_a_value_that_is_not_in_the_file_is_placed_at_what_encloses_it(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, edited(("base:", "base: # all of it")))
    path = sweep.path

    assert sweep.locate_problem(Problem(("base", "data", "source"), "no")) == f"{path}:3:1: base.data.source: no"
    assert sweep.locate_problem(Problem(("base", "train", "samples"), "no")) == f"{path}:4:11: base.train.samples: no"


def test_a_value_that_a_scale_or_override_set_is_placed_there(tmp_path: Path) -> None:
    path = written(tmp_path, edited(("{seeds: 1}", "{base.data.source: there}")))
    problem = Problem(("base", "data", "source"), "no")

    scaled = load_sweep(path, "quick").locate_problem(problem)
    overridden = load_sweep(path, "quick", ["base.data.source=here"]).locate_problem(problem)
    assert scaled == f"{path}:24:11: scales.quick.base.data.source: no"
    assert overridden == "--set base.data.source=here: base.data.source: no"


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.yaml: no such file; expected a sweep file"):
        load_sweep(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="is a folder; expected a sweep file in it"):
        load_sweep(tmp_path)
    with pytest.raises(SpecError, match="cannot be read: Not a directory"):
        load_sweep(written(tmp_path, "") / "below")
    with pytest.raises(SpecError, match="cannot be read: File name too long"):
        load_sweep(tmp_path / ("x" * 300))
