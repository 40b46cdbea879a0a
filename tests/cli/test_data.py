"""`gapctl data`: MAD's images are made once and found again; the preview shows what its captions say."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapctl.cli.data import data_app
from idx_files import write_digits
from one_verb import run_verb

DIGITS = 3


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of IDX files with three real digits in each split, and an empty cache."""
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return str(write_digits(tmp_path / "digits", DIGITS, DIGITS))


def test_images_are_made_once_and_found_again(source: str) -> None:
    first, second = (run_verb(data_app, "mad", "--source", source, "--json") for _ in range(2))
    made, found = json.loads(first.out), json.loads(second.out)

    assert [split["made"] for split in made["splits"]] == [True, True]
    assert [split["made"] for split in found["splits"]] == [False, False]
    assert made["fingerprint"] == found["fingerprint"]
    for split in found["splits"]:
        assert (split["digits"], split["images"]) == (DIGITS, DIGITS * 24)
        assert np.load(split["file"]).shape == (DIGITS, 24, 28, 28)
        assert Path(split["file"]).stat().st_size == split["bytes"]
        assert made["fingerprint"] in split["file"]


def test_a_person_reads_where_the_images_are_how_many_and_how_long_it_took(source: str) -> None:
    ran = run_verb(data_app, "mad", "--source", source)

    assert (ran.exit_code, ran.err.strip()) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"MAD from {source}, fingerprint ")
    assert lines[1].startswith("in ")
    assert Path(lines[1].removeprefix("in ")).is_dir()
    assert any(line.split()[:4] == ["train", "3", "72", "train.npy"] and "made in" in line for line in lines)


def test_damaged_images_are_made_again(source: str) -> None:
    file = Path(json.loads(run_verb(data_app, "mad", "--source", source, "--json").out)["splits"][0]["file"])
    file.write_bytes(file.read_bytes()[:1000])

    again = json.loads(run_verb(data_app, "mad", "--source", source, "--json").out)
    assert [split["made"] for split in again["splits"]] == [True, False]


def test_a_cache_that_cannot_be_written_is_one_message(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("occupied").write_text("a file")
    monkeypatch.setenv("GAPCTL_CACHE", "occupied")
    ran = run_verb(data_app, "mad", "--source", source)

    assert ran.exit_code == 2
    assert "the cache of MAD images cannot be written (Not a directory). Set GAPCTL_CACHE" in ran.err


def test_the_preview_is_a_png_of_as_many_pictures_as_asked(source: str) -> None:
    ran = run_verb(data_app, "preview", "--source", source, "--columns", "3", "--rows", "2", "--out", "sheet.png")

    assert (ran.exit_code, ran.err) == (0, "")
    with Image.open("sheet.png") as sheet:
        assert sheet.format == "PNG"
        pixels = np.asarray(sheet)
    width, height = pixels.shape[1] // 3, pixels.shape[0] // 2
    cells = [
        pixels[row * height : (row + 1) * height, column * width :][:, :width] for row in (0, 1) for column in range(3)
    ]
    assert all((cell[12:152, 12:152].max(axis=2) > 50).mean() > 0.005 for cell in cells)
    assert ran.out.startswith("sheet.png: 6 training samples of seed 0 from ")
    assert f"{pixels.shape[1]} x {pixels.shape[0]} pixels" in " ".join(ran.out.split())


def test_the_preview_follows_every_option(source: str) -> None:
    variations = [
        ("--seed", "1"),
        ("--attributes", "0"),
        ("--order", "canonical"),
        ("--main-factor", "colour", "--attributes", "2"),
        ("--fixed", "swelling,fracture"),
        ("--synonyms", "3"),
        ("--synonyms", "3", "--synonym-draw", "once"),
        ("--columns", "3"),
        ("--rows", "1"),
    ]
    sheets = []
    for options in [(), *variations]:
        assert (
            run_verb(data_app, "preview", "--source", source, "--columns", "2", "--rows", "2", *options).exit_code == 0
        )
        sheets.append(Path("mad.png").read_bytes())

    assert len(set(sheets)) == len(sheets)


@pytest.mark.parametrize("asked", [("--keep", "fixed"), ("--keep", "full,synonyms"), ("bundled",)])
def test_the_verb_for_captions_of_pairs_points_to_the_one_for_captions_of_mad(asked: tuple[str, ...]) -> None:
    ran = run_verb(data_app, "captions", *asked)

    assert (ran.exit_code, ran.out) == (2, "")
    assert "MAD's captions are shown by `gapctl data preview`" in ran.err


WRONG = [
    (
        ("--main-factor", "digits"),
        "--main-factor digits: no such choice; did you mean digit? Expected one of",
    ),
    (("--main-factor", "color"), "did you mean colour?"),
    (("--order", "random"), "--order random: no such choice; expected one of shuffled, canonical"),
    (("--attributes", "6"), "--attributes"),
    (("--fixed", "color"), "--fixed: found 'color'; did you mean colour?"),
    (("--fixed", "digit"), "--fixed: found 'digit', the main factor"),
    (("--fixed", "colour", "--attributes", "2"), "--attributes: found 2; expected 1, as many as captions.fixed lists"),
    (("--synonyms", "9"), "--synonyms"),
    (("--synonym-draw", "once"), "--synonym-draw: found 'once' with synonyms 1"),
    (("--synonym-draw", "twice"), "--synonym-draw twice: no such choice; expected one of each_access, once"),
    (("--seed", "-1"), "--seed"),
    (("--columns", "0"), "--columns"),
    (("--columns", "21", "--rows", "20"), "--columns 21 --rows 20: 420 pictures; expected at most 400"),
    (("--out", "mad.jpg"), "--out mad.jpg: expected a name that ends in .png"),
    (("--out", "none/mad.png"), "--out none/mad.png: cannot be written (there is no folder none)"),
    (("--source", "none"), "none: the data source does not exist. Expected `bundled` or a folder"),
]


@pytest.mark.parametrize(
    ("options", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_wrong_option_of_the_preview_is_one_message(source: str, options: tuple[str, ...], message: str) -> None:
    ran = run_verb(data_app, "preview", *(("--source", source) if "--source" not in options else ()), *options)

    assert (ran.exit_code, ran.out) == (2, "")
    assert message in ran.err
    assert not list(Path().glob("*.png"))


def test_a_picture_that_cannot_be_written_is_one_message(source: str) -> None:
    Path("taken.png").mkdir()
    ran = run_verb(data_app, "preview", "--source", source, "--columns", "1", "--rows", "1", "--out", "taken.png")

    assert ran.exit_code == 2
    assert "--out taken.png: cannot be written (Is a directory)" in ran.err
