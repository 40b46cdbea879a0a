"""`gapctl measure` gives the official values on the golden files, and one clear message for each wrong file."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import Answer, gapctl, gapctl_process
from gapctl.config.metrics import find_metric

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
PLAIN_NAMES = {
    "l2m": "gap/l2m",
    "l2i": "gap/l2i",
    "rmg_off_diagonal": "gap/rmg",
    "rmg_with_diagonal": "gap/rmg_with_diagonal",
    "entropy_i2t_nats_scale_1": "entropy/i2t_nats_scale_1",
    "entropy_i2t_nats_scale_14.2857": "entropy/i2t_nats_scale_14.2857",
    "entropy_i2t_nats_scale_100": "entropy/i2t_nats_scale_100",
    "accuracy_percent": "quality/object_accuracy",
    "kendall_tau_distance_mean": "geometry/neighborhood_kendall",
}
MOAD_NAMES = {
    "moad": "bias/moad_image",
    "same_object": "bias/object_same_image",
    "different_object": "bias/object_different_image",
    "same_attribute": "bias/attribute_same_image",
    "different_attribute": "bias/attribute_different_image",
}
GROUPS = ("gap", "entropy", "bias", "geometry", "quality")
NOT_A_VALUE = {"seed", "kind"}
NOT_OURS = {"moad_reference_estimator"}


def measured(path: Path, *arguments: str) -> dict[str, Any]:
    ran = gapctl("measure", "--embeddings", str(path), "--json", *arguments)
    assert (ran.exit_code, ran.err) == (0, "")
    document: dict[str, Any] = json.loads(ran.out)
    return document


def by_our_names(expected: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for key, value in expected.items():
        if key in NOT_A_VALUE | NOT_OURS:
            continue
        if key in ("i2t_recall", "t2i_recall"):
            found |= {f"quality/{key}_{depth}": share for depth, share in value.items()}
        elif key == "moad_all_pairs":
            found |= {MOAD_NAMES[part]: number for part, number in value.items()}
        else:
            found[PLAIN_NAMES[key]] = value
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_every_official_value_is_met(name: str) -> None:
    expected = by_our_names(EXPECTED[name])
    metrics = measured(GOLDEN / f"{name}.npz")["metrics"]

    assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("written", "suffix"), [("1", "1"), ("1/0.07", "14.2857"), ("100", "100")])
def test_one_scale_gives_the_official_entropy_by_its_plain_name(written: str, suffix: str) -> None:
    for name in ("pairs_small", "pairs_wide_gap"):
        metrics = measured(GOLDEN / f"{name}.npz", "--scale", written)["metrics"]

        expected = EXPECTED[name][f"entropy_i2t_nats_scale_{suffix}"]
        assert metrics["entropy/i2t_nats"] == pytest.approx(expected, rel=1e-6)
        assert not any("_scale_" in key for key in metrics)


def test_measures_of_a_part_of_the_rows_say_of_how_many(tmp_path: Path) -> None:
    rows = np.random.Generator(np.random.Philox(3)).normal(size=(2, 8_300, 4)).astype(np.float32)
    np.savez(tmp_path / "many.npz", image=rows[0], text=rows[1])
    ran = gapctl("measure", "--embeddings", str(tmp_path / "many.npz"), "--json", "--scale", "1")
    samples = json.loads(ran.out)["inputs"]["samples"]

    assert samples["geometry/uniformity_image"]["population"] == 8_300
    assert samples["entropy/i2t_nats_at_100"]["galleries"] == 83, "every pair is dealt into one of them"
    for key, each in samples.items():
        assert each["sample"] < each["population"] or each["galleries"] > 1, key


def test_the_command_itself_prints_one_json_document_and_nothing_else(tmp_path: Path) -> None:
    ran = gapctl_process("measure", "--embeddings", str(GOLDEN / "classes.npz"), "--json", folder=tmp_path)

    document = json.loads(ran.out)
    assert (ran.exit_code, ran.err) == (0, "")
    assert list(document) == ["metrics", "inputs"]
    assert document["metrics"]["geometry/neighborhood_kendall"] == pytest.approx(0.24888888888888888, rel=1e-6)


def test_the_inputs_say_what_was_measured() -> None:
    inputs = measured(GOLDEN / "classes.npz", "--scale", "2", "--scale", "50")["inputs"]

    assert inputs["file"].endswith("classes.npz")
    assert len(inputs["sha256"]) == 64
    assert inputs["arrays"]["image_with_attributes"] == {"shape": [400, 24], "dtype": "float64"}
    assert (inputs["pairing"], inputs["bias_of"]) == ("labels", "image_with_attributes")
    assert inputs["logit_scales"] == [2, 50]


def test_scales_that_agree_in_six_digits_keep_apart_names() -> None:
    metrics = measured(GOLDEN / "pairs_small.npz", "--scale", "14.2857", "--scale", "1/0.07")["metrics"]

    assert "entropy/i2t_nats_scale_14.2857" in metrics
    assert "entropy/i2t_nats_scale_14.285714285714285" in metrics


def test_every_measure_has_a_line_of_meaning() -> None:
    for name in EXPECTED:
        assert all(find_metric(key) for key in measured(GOLDEN / f"{name}.npz")["metrics"])


def test_the_table_names_each_measure_and_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    ran = gapctl("measure", "--embeddings", "classes.npz")

    assert ran.exit_code == 0
    assert max(map(len, ran.out.splitlines()[1:])) <= 80
    assert "\x1b" not in ran.out
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert "l2m 0.5760 distance between the mean image and the mean text" in lines
    assert [line for line in lines if line in GROUPS] == list(GROUPS)


def rows(count: int = 6, width: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).normal(size=(count, width))


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "embeddings.npz"
    np.savez(path, **arrays)
    return path


def test_paired_labels_and_attributes_give_the_bias_of_both_sides(tmp_path: Path) -> None:
    label_N, attribute_NF = np.arange(6) % 2, np.arange(12).reshape(6, 2) % 3
    path = saved(tmp_path, image=rows(), text=rows(seed=1), labels=label_N, attributes=attribute_NF)

    assert {"bias/moad_image", "bias/moad_text"} <= set(measured(path)["metrics"])


def test_what_is_not_defined_is_null(tmp_path: Path) -> None:
    alike = np.zeros(6, dtype=int)
    path = saved(tmp_path, image=rows(), text=rows(seed=1), labels=alike, attributes=np.arange(6) % 2)

    metrics = measured(path)["metrics"]
    assert metrics["bias/object_different_image"] is None
    assert metrics["bias/moad_image"] is None
    assert "undefined" in gapctl("measure", "--embeddings", str(path)).out


def test_arrays_that_tell_nothing_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path, image=rows(), text=rows(seed=1), labels=np.arange(6) % 2, names=np.array(["a"]))

    assert measured(path)["inputs"]["unused_arrays"] == ["names"]
    assert "not used: names" in gapctl("measure", "--embeddings", str(path)).out


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8"])
def test_the_number_format_of_the_file_does_not_matter(tmp_path: Path, dtype: str) -> None:
    image, text = rows(64, 8), rows(64, 8, seed=1)
    exact = measured(saved(tmp_path, image=image, text=text))["metrics"]

    rounded = measured(saved(tmp_path, image=image.astype(dtype), text=text.astype(dtype)))["metrics"]
    assert rounded["gap/rmg"] == pytest.approx(exact["gap/rmg"], rel=2e-3)


def test_an_object_array_that_is_not_asked_for_is_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, image=rows(), text=rows(seed=1), notes=np.array([Bomb()], dtype=object))

    assert measured(path)["inputs"]["unused_arrays"] == ["notes"]
    assert not Path("unpickled").exists()


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (Path("unpickled"),)  # type: ignore[return-value]


def with_row(row: int, value: float) -> np.ndarray:
    spoilt = rows()
    spoilt[row, 1] = value
    return spoilt


def with_zeros(*zero_rows: int) -> np.ndarray:
    spoilt = rows()
    spoilt[list(zero_rows)] = 0
    return spoilt


WRONG_ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "no image": ({"text": rows(), "img": rows()}, "no array `image`; the archive has img, text"),
    "no text": ({"image": rows()}, "no array `text`; the archive has image"),
    "no array at all": ({}, "no array `image`; the archive is empty"),
    "other width": ({"image": rows(), "text": rows(6, 5)}, "`text`: 5 wide; expected 4, the width of `image`"),
    "other number of rows": (
        {"image": rows(), "text": rows(4)},
        "`text`: 4 rows for 6 images; expected as many, row i matching row i. Add `text_to_image`",
    ),
    "NaN": ({"image": rows(), "text": with_row(3, np.nan)}, "`text`: row 3 holds NaN; expected finite numbers"),
    "infinity": ({"image": with_row(2, -np.inf), "text": rows()}, "`image`: row 2 holds infinite or far too large"),
    "too large": ({"image": with_row(2, 1e200), "text": rows()}, "`image`: row 2 holds infinite or far too large"),
    "too small": ({"image": rows() * 1e-200, "text": rows()}, "`image`: row 0 holds numbers far too small"),
    "zeros": (
        {"image": with_zeros(1, 4), "text": rows()},
        "`image`: row 1 is all zeros (the first of 2 such rows); expected finite numbers that are not all zero",
    ),
    "an object array": (
        {"image": rows(), "text": np.array([[1.0], [2.0]], dtype=object)},
        "`text`: an object array, which could only be unpickled, and that is never done",
    ),
    "whole numbers": (
        {"image": np.ones((6, 4), dtype=int), "text": rows()},
        "`image`: of type int64; expected floating-point embeddings. Store them as float32",
    ),
    "complex numbers": ({"image": rows() + 0j, "text": rows()}, "`image`: of type complex128; expected floating"),
    "text as words": ({"image": rows(), "text": np.array(["a"] * 6)}, "`text`: of type <U1; expected floating"),
    "a flat array": ({"image": rows().ravel(), "text": rows()}, "`image`: of shape (24,); expected (rows, width)"),
    "no rows": ({"image": rows(0), "text": rows(0)}, "`image`: of shape (0, 4); expected (rows, width), neither"),
    "a single row": ({"image": rows(1), "text": rows(1)}, "`image`: a single row; expected at least 2"),
    "a single prompt": (
        {"image": rows(), "text": rows(1), "labels": np.zeros(6, int)},
        "`text`: a single row; expected at least 2",
    ),
    "labels out of range": (
        {"image": rows(), "text": rows(3), "labels": np.array([0, 1, 2, 3, 0, 1])},
        "`labels`: 3 in row 3; expected 0 to 2, the row of a text, which is a class prompt",
    ),
    "negative label": (
        {"image": rows(), "text": rows(3), "labels": np.array([0, -1, 2, 2, 0, 1])},
        "`labels`: -1 in row 1; expected 0 to 2",
    ),
    "too few labels": (
        {"image": rows(), "text": rows(3), "labels": np.array([0, 1, 2])},
        "`labels`: of shape (3,); expected (6,): one entry for each image",
    ),
    "labels as fractions": (
        {"image": rows(), "text": rows(3), "labels": np.zeros(6)},
        "`labels`: of type float64; expected whole numbers. Store them as int64",
    ),
    "attributes of another length": (
        {"image": rows(), "text": rows(), "labels": np.zeros(6, int), "attributes": np.zeros((5, 2), int)},
        "`attributes`: of shape (5, 2); expected (6,), or (6, factors): one entry for each image",
    ),
    "attributes without labels": (
        {"image": rows(), "text": rows(), "attributes": np.zeros(6, int)},
        "`attributes`: without `labels`; expected both, which object bias is measured by",
    ),
    "images with attributes and no labels": (
        {"image": rows(), "text": rows(), "image_with_attributes": rows()},
        "`image_with_attributes`: without `labels` and `attributes`; expected both",
    ),
    "too few images with attributes": (
        {
            "image": rows(),
            "text": rows(),
            "image_with_attributes": rows(5),
            "labels": np.zeros(6, int),
            "attributes": np.zeros(6, int),
        },
        "`image_with_attributes`: 5 rows; expected 6, as many as `image` has",
    ),
    "text_to_image out of range": (
        {"image": rows(2), "text": rows(4), "text_to_image": np.array([0, 0, 1, 2])},
        "`text_to_image`: 2 in row 3; expected 0 to 1, the row of an image",
    ),
    "text_to_image of another length": (
        {"image": rows(2), "text": rows(4), "text_to_image": np.array([0, 0, 1])},
        "`text_to_image`: of shape (3,); expected (4,): one entry for each text",
    ),
    "an image without text": (
        {"image": rows(3), "text": rows(4), "text_to_image": np.array([0, 0, 2, 2])},
        "`text_to_image`: no text for image 1 (1 such images); expected at least one text for each image",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_ARRAYS)
def test_wrong_arrays_get_one_message_that_names_file_and_array(tmp_path: Path, wrong: str) -> None:
    arrays, message = WRONG_ARRAYS[wrong]
    path = saved(tmp_path, **arrays)

    assert_refused(gapctl("measure", "--embeddings", str(path), "--json"), path, message)


def assert_refused(ran: Answer, path: Path, message: str) -> None:
    assert ran.exit_code == 2
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert ran.err.startswith(f"gapctl: {path}: ")
    assert message in ran.err


def truncated(folder: Path) -> Path:
    path = saved(folder, image=rows(200, 32), text=rows(200, 32))
    path.write_bytes(path.read_bytes()[:-100])
    return path


def flipped(folder: Path) -> Path:
    path = saved(folder, image=rows(200, 32), text=rows(200, 32))
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    path.write_bytes(content)
    return path


def single_array(folder: Path) -> Path:
    path = folder / "image.npy"
    np.save(path, rows())
    return path


def words(folder: Path) -> Path:
    path = folder / "notes.npz"
    path.write_text("not an archive", encoding="utf-8")
    return path


def other_zip(folder: Path) -> Path:
    path = folder / "other.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("image", "not an array")
        archive.writestr("text", "not an array")
    return path


def promise(folder: Path) -> Path:
    """An archive whose array claims a million times more rows than it holds."""
    path = folder / "promise.npz"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 4), }"
    padded = header + b" " * (118 - len(header) - 1) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("image.npy", "text.npy"):
            archive.writestr(name, b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(64))
    return path


WRONG_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "none.npz", "no such file; expected an .npz archive"),
    "a folder": (lambda folder: folder, "a folder; expected an .npz archive"),
    "a single array": (single_array, "not an .npz archive; expected what numpy.savez"),
    "words": (words, "not an .npz archive; expected what numpy.savez"),
    "another zip": (other_zip, "`image`: not an array; expected what numpy.savez writes"),
    "cut short": (truncated, "not an .npz archive; expected what numpy.savez"),
    "damaged inside": (flipped, "`image`: damaged, or larger than memory"),
    "larger than memory": (promise, "`image`: damaged, or larger than memory"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_wrong_files_get_one_message(tmp_path: Path, wrong: str) -> None:
    make, message = WRONG_FILES[wrong]
    path = make(tmp_path)

    assert_refused(gapctl("measure", "--embeddings", str(path)), path, message)


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "1/0", "1/", "ten", "1e7", "1/-0.07"])
def test_an_impossible_scale_is_refused_before_the_file_is_read(scale: str) -> None:
    ran = gapctl("measure", "--embeddings", "none.npz", "--scale", scale)

    assert ran.exit_code == 2
    assert ran.err.startswith(f"gapctl: --scale {scale}: expected a number above 0 and at most 1,000,000")


def test_without_a_file_the_option_is_named() -> None:
    ran = gapctl("measure")

    assert ran.exit_code == 2
    assert "--embeddings" in ran.err
