"""`gapctl.measure` and single metrics: one result for every kind of array, equal to that of the command line."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gapctl
from command_line import gapctl as run_gapctl

GOLDEN = Path(__file__).parents[1] / "golden"
OFFICIAL = json.loads((GOLDEN / "expected.json").read_text())


class Foreign:
    """An array of another library, known by `__array__` alone."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._array, dtype)


def make_pairs(rows: int = 60, width: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Images, and texts that are noisy copies of them at some distance."""
    rng = np.random.default_rng(3)
    images = rng.normal(size=(rows, width))
    return images, images + 0.7 * rng.normal(size=(rows, width)) + 0.5


@pytest.mark.parametrize("name", ["pairs_small", "pairs_wide_gap"])
def test_the_official_values_are_met(name: str) -> None:
    arrays, official = np.load(GOLDEN / f"{name}.npz"), OFFICIAL[name]
    found = gapctl.measure(arrays["image"], arrays["text"])
    assert found["gap/rmg"] == pytest.approx(official["rmg_off_diagonal"], rel=1e-6)
    assert found["gap/l2m"] == pytest.approx(official["l2m"], rel=1e-6)
    assert found["entropy/i2t_nats_scale_100"] == pytest.approx(official["entropy_i2t_nats_scale_100"], rel=1e-6)


@pytest.mark.parametrize("name", ["pairs_small", "captions5", "classes"])
def test_python_and_the_command_line_give_the_same_numbers(name: str) -> None:
    arrays = dict(np.load(GOLDEN / f"{name}.npz"))
    known = {key: arrays[key] for key in ("labels", "text_to_image") if key in arrays}
    answer = run_gapctl("measure", "--embeddings", str(GOLDEN / f"{name}.npz"), "--json")
    printed = json.loads(answer.out)["metrics"]
    measured = gapctl.measure(arrays["image"], arrays["text"], **known)
    found = {key: None if math.isnan(value) else value for key, value in measured.items()}
    assert found == {key: value for key, value in printed.items() if not key.startswith("bias/")}


def test_every_kind_of_array_gives_the_same_numbers() -> None:
    images, texts = make_pairs()
    expected = dict(gapctl.measure(images, texts))
    for wrap in (torch.from_numpy, Foreign, lambda array: array.tolist(), np.asfortranarray, lambda array: array[:, :]):
        assert dict(gapctl.measure(wrap(images), wrap(texts))) == expected
    trained = torch.from_numpy(images).requires_grad_()
    assert dict(gapctl.measure(trained * 1, texts)) == expected


def test_bfloat16_is_widened_without_loss() -> None:
    images, texts = (torch.from_numpy(rows).bfloat16() for rows in make_pairs())
    assert dict(gapctl.measure(images, texts)) == dict(gapctl.measure(images.float(), texts.float()))


def test_single_metrics_are_those_of_the_whole_table() -> None:
    images, texts = make_pairs()
    labels, attributes = np.arange(60) % 4, np.arange(60) // 20
    found = gapctl.measure(images, texts, labels, attributes, logit_scale=30)
    assert gapctl.rmg(images, texts) == pytest.approx(found["gap/rmg"], rel=1e-12)
    assert gapctl.l2m(images, texts) == pytest.approx(found["gap/l2m"], rel=1e-12)
    assert gapctl.l2i(images, texts) == pytest.approx(found["gap/l2i"], rel=1e-12)
    assert gapctl.moad(images, labels, attributes) == pytest.approx(found["bias/moad_image"], rel=1e-9)
    assert gapctl.moad(texts, labels, attributes) == pytest.approx(found["bias/moad_text"], rel=1e-9)
    assert gapctl.entropy(images, texts, 30) == pytest.approx(found["entropy/i2t_nats"], rel=1e-12)
    assert gapctl.entropy(images, texts, 30, "t2i") == pytest.approx(found["entropy/t2i_nats"], rel=1e-12)


def test_words_are_labels_too_and_factors_may_have_names() -> None:
    images, texts = make_pairs()
    numbers, colours = np.arange(60) % 3, np.arange(60) % 5
    by_number = gapctl.measure(images, texts, numbers, np.stack([colours, numbers], axis=1))
    words = np.array(["cat", "dog", "emu"])[numbers]
    names = np.array(["blue", "green", "pink", "red", "white"])[colours]
    by_word = gapctl.measure(images, texts, words, {"colour": names, "kind": numbers})
    assert by_word["bias/moad_image"] == by_number["bias/moad_image"]
    assert dict(
        gapctl.measure(images, texts, words.tolist(), [[name, str(n)] for name, n in zip(names, numbers, strict=True)])
    ) == dict(by_word)


def test_a_result_is_a_mapping_a_frame_and_a_table() -> None:
    images, texts = make_pairs()
    found = gapctl.measure(images, texts)
    frame = found.frame()
    assert dict(zip(frame["metric"], frame["value"], strict=True)).keys() == dict(found).keys()
    assert frame.filter(frame["metric"] == "gap/rmg")["meaning"][0].startswith("matched distance")
    assert "gap/rmg" in repr(found)
    assert found._repr_html_().count("<tr>") == len(found) + 1
    with pytest.raises(KeyError, match="did you mean gap/rmg"):
        found["gap/rgm"]


def test_importing_gapctl_loads_nothing_heavy() -> None:
    heavy = ("numpy", "torch", "ray", "mlflow", "polars")
    program = f"import sys, gapctl; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_exists_and_an_unknown_one_is_answered_with_the_list() -> None:
    for name in gapctl.__all__:
        assert getattr(gapctl, name) is not None
    with pytest.raises(AttributeError, match="it offers Analysis"):
        gapctl.measures  # noqa: B018


def run_with_wrong(changes: dict[str, Any]) -> None:
    """Measure good pairs with some arguments replaced."""
    images, texts = make_pairs(12, 4)
    gapctl.measure(**{"images": images, "texts": texts, **changes})


def spoil_row(value: float) -> np.ndarray:
    """Return rows of which row 7 is wrong."""
    rows = make_pairs(12, 4)[0]
    rows[7] = value
    return rows


TWELVE = np.arange(12)
GOOD = make_pairs(12, 4)[0]
WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"images": None}, "`images`: None"),
    "a path": ({"images": "embeddings.npz"}, "`images`: the text 'embeddings.npz'.*gapctl measure --embeddings"),
    "bytes": ({"texts": b"abc"}, "`texts`: the text"),
    "captions": ({"texts": ["a cat", "a dog"]}, "`texts`: of type <U5; expected floating-point embeddings"),
    "a mapping": ({"images": {"image": GOOD}}, "`images`: a dict; expected an array"),
    "a model": ({"images": torch.nn.Linear(2, 2)}, "`images`: a Linear; expected an array"),
    "a set": ({"texts": {1.0, 2.0}}, "`texts`: a set"),
    "an object": ({"images": object()}, "`images`: a object of Python objects"),
    "ragged rows": ({"images": [[1.0, 2.0], [1.0]]}, "`images`: a list"),
    "whole numbers": ({"images": np.ones((12, 4), int)}, "`images`: of type int64; expected floating-point"),
    "complex numbers": ({"images": np.ones((12, 4), complex)}, "`images`: of type complex128"),
    "a complex tensor": ({"images": torch.ones(12, 4, dtype=torch.complex64)}, "`images`: a complex tensor"),
    "a sparse tensor": (
        {"images": torch.ones(12, 4).to_sparse()},
        r"layout torch.sparse_coo; expected a dense one.*to_dense",
    ),
    "a tensor without numbers": ({"images": torch.ones(12, 4, device="meta")}, "the device `meta`"),
    "a masked array": ({"images": np.ma.masked_less(GOOD, 0)}, "`images`: a masked array"),
    "one dimension": ({"images": np.ones(12)}, r"`images`: of shape \(12,\); expected \(rows, width\)"),
    "three dimensions": ({"images": np.ones((3, 4, 5))}, r"`images`: of shape \(3, 4, 5\)"),
    "no rows": ({"images": np.ones((0, 4))}, r"`images`: of shape \(0, 4\)"),
    "no columns": ({"texts": np.ones((12, 0))}, r"`texts`: of shape \(12, 0\)"),
    "a single row": ({"images": GOOD[:1], "texts": GOOD[:1]}, "`images`: a single row; expected at least 2"),
    "another width": ({"texts": np.ones((12, 5))}, "`texts`: 5 wide; expected 4, the width of `images`"),
    "other counts": ({"texts": np.ones((7, 4))}, "`texts`: 7 rows for 12 images.*text_to_image"),
    "NaN": ({"images": spoil_row(np.nan)}, "`images`: row 7 holds NaN"),
    "infinity": ({"texts": spoil_row(np.inf)}, "`texts`: row 7 holds infinite"),
    "zeros": ({"images": spoil_row(0)}, "`images`: row 7 is all zeros"),
    "NaN in bfloat16": ({"images": torch.from_numpy(spoil_row(np.nan)).bfloat16()}, "`images`: row 7 holds NaN"),
    "too few labels": ({"labels": TWELVE[:5]}, r"`labels`: of shape \(5,\)"),
    "scores as labels": (
        {"labels": np.linspace(0, 1, 12)},
        "`labels`: of type float64; expected whole numbers or words",
    ),
    "labels of two dimensions": ({"labels": np.ones((12, 2), int)}, r"`labels`: of shape \(12, 2\)"),
    "mixed labels": ({"labels": [None] * 12}, "`labels`: a list of Python objects"),
    "attributes alone": ({"attributes": TWELVE % 2}, "`attributes`: without `labels`"),
    "attributes of another length": (
        {"labels": TWELVE % 3, "attributes": TWELVE[:3]},
        r"`attributes`: of shape \(3,\)",
    ),
    "uneven factors": ({"labels": TWELVE % 3, "attributes": {"a": TWELVE, "b": TWELVE[:3]}}, r"a: \(12,\), b: \(3,\)"),
    "no factors": ({"labels": TWELVE % 3, "attributes": {}}, "`attributes`: columns of shapes none"),
    "a text of no image": ({"text_to_image": TWELVE + 1}, "`text_to_image`: 12 in row 11; expected 0 to 11"),
    "a text before the first": ({"text_to_image": TWELVE - 1}, "`text_to_image`: -1 in row 0"),
    "an image without text": ({"text_to_image": np.zeros(12, int)}, "`text_to_image`: no text for image 1"),
    "words as places": ({"text_to_image": ["a"] * 12}, "`text_to_image`: of type <U1; expected whole numbers"),
    "fractions as places": ({"text_to_image": TWELVE / 2}, "`text_to_image`: of type float64"),
    "a place too large": ({"text_to_image": np.full(12, 2**63, np.uint64)}, "beyond int64"),
    "a scale of zero": ({"logit_scale": 0}, "`logit_scale`: found 0; expected a number above 0"),
    "a negative scale": ({"logit_scale": -1.0}, "`logit_scale`: found -1.0"),
    "a scale that is NaN": ({"logit_scale": float("nan")}, "`logit_scale`: found nan"),
    "a scale in words": ({"logit_scale": "1/0.07"}, "`logit_scale`: found '1/0.07'.*1 / 0.07"),
    "a truth value as scale": ({"logit_scale": True}, "`logit_scale`: found True"),
    "no scales": ({"logit_scale": []}, r"`logit_scale`: found \[\]"),
    "a class without prompt": ({"texts": GOOD[:3], "labels": TWELVE}, "`labels`: 3 in row 3; expected 0 to 2"),
}


@pytest.mark.parametrize("wrong", WRONG_ARGUMENTS)
def test_wrong_arguments_get_one_message_that_names_the_argument(wrong: str) -> None:
    changes, message = WRONG_ARGUMENTS[wrong]
    with pytest.raises(gapctl.InputError, match=message):
        run_with_wrong(changes)
