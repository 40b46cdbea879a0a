"""An evaluation set is whole and as its publishers count it, or it is refused with the place of what is wrong."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gapctl.config.evaluation_sets import EvaluationSet, NamedSet, find_set
from gapctl.data.image_text.evaluation_sets import (
    ATTRIBUTE,
    CLASS,
    OBJECT,
    PAIR,
    OpenedEvaluationSet,
    decode_set_images,
    open_set,
)
from gapctl.errors import InputError
from pair_shards import COLOURS, SHAPES, jpeg, pair, write_shard
from small_sets import IMAGES, write_classification, write_composition, write_retrieval


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(source: Path | str, kind: str, **more: Any) -> OpenedEvaluationSet:
    definition = EvaluationSet.model_validate({"kind": kind, "source": str(source), **more})
    return open_set(NamedSet("mine", definition))


def refused(source: Path | str, kind: str, **more: Any) -> str:
    with pytest.raises(InputError) as error:
        opened(source, kind, **more)
    message = str(error.value)
    assert message.startswith("evaluation set mine: ")
    return message


def prompts(found: OpenedEvaluationSet, key: str) -> list[tuple[str, ...]]:
    return list(found.questions[key].prompts.prompts.values())


def test_each_line_of_a_text_is_a_caption_of_its_image(tmp_path: Path) -> None:
    found = opened(write_retrieval(tmp_path / "words"), "retrieval", expect={"images": IMAGES, "captions": 3 * IMAGES})

    assert found.images == IMAGES
    assert found.captions[1] == ["picture 1 of a green bar", "a bar, 1", "the green thing 1"]
    assert found.questions == {}


def test_images_come_in_the_order_of_the_shards(tmp_path: Path) -> None:
    found = opened(write_retrieval(tmp_path / "words"), "retrieval")
    expected = Image.open(io.BytesIO(jpeg("blue", "square", 20)))

    (image,) = decode_set_images(found, np.array([20]))

    assert image.tobytes() == expected.convert("RGB").tobytes()


def test_classes_and_templates_lie_beside_the_shards_as_clip_benchmark_has_them(tmp_path: Path) -> None:
    found = opened(write_classification(tmp_path / "colours"), "classification")

    assert prompts(found, CLASS)[1] == ("a photo of a green.", "a green on noise")
    assert found.questions[CLASS].class_N.tolist() == [number % 3 for number in range(IMAGES)]


def test_a_number_beside_clip_benchmarks_classes_is_a_line_even_where_names_are_numbers(tmp_path: Path) -> None:
    folder = write_classification(tmp_path / "digits", names=("2", "0", "1"))

    assert opened(folder, "classification").questions[CLASS].class_N.tolist()[:3] == [0, 1, 2]


def test_classes_and_templates_may_stand_in_the_definition(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [(f"{number:02d}", pair(number)) for number in range(6)])
    found = opened(
        tmp_path / "0.tar",
        "classification",
        label="shape",
        classes=["bar = long bar", "square"],
        templates=["a {c}!", "see {}"],
    )

    assert prompts(found, CLASS) == [("a long bar!", "see long bar"), ("a square!", "see square")]
    assert found.questions[CLASS].class_N.tolist() == [1, 0, 1, 0, 1, 0]


def test_compositions_ask_for_the_object_the_attribute_and_both(tmp_path: Path) -> None:
    found = opened(write_composition(tmp_path / "shapes"), "composition")

    assert prompts(found, OBJECT) == [("an image of a bar",), ("an image of a square",)]
    assert prompts(found, ATTRIBUTE)[0] == ("an image of a blue object",)
    assert len(prompts(found, PAIR)) == 6
    first = int(found.questions[PAIR].class_N[0])
    assert prompts(found, PAIR)[first] == ("an image of a red square",)


def test_a_csv_of_images_objects_and_attributes_is_a_composition(tmp_path: Path) -> None:
    rows = ["filepath,caption,object,attribute"]
    for number in range(12):
        colour, shape = list(COLOURS)[number % 3], SHAPES[number // 3 % 2]
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(colour, shape, number))
        rows.append(f"{number}.jpg,some words,{shape}.Thing,{colour}")
    (tmp_path / "list.csv").write_text("\n".join(rows), encoding="utf-8")

    found = opened(tmp_path / "list.csv", "composition", expect={"objects": 2, "attributes": 3, "images": 12})

    assert prompts(found, OBJECT)[0] == ("an image of a bar thing",)


def test_the_fingerprint_is_of_what_decides_the_numbers_and_not_of_the_place(tmp_path: Path) -> None:
    here, there = (opened(write_classification(tmp_path / name), "classification") for name in ("here", "there"))
    other = opened(tmp_path / "here", "classification", templates=["a {c}"])
    fewer = opened(write_classification(tmp_path / "fewer", images=30), "classification")
    moved = write_classification(tmp_path / "moved", labels=[1, 0, *(number % 3 for number in range(2, IMAGES))])

    assert here.fingerprint == there.fingerprint
    assert len({here.fingerprint, other.fingerprint, fewer.fingerprint}) == 3
    assert opened(moved, "classification").fingerprint != here.fingerprint


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_retrieval(tmp_path / "words")
    first = opened(folder, "retrieval")
    monkeypatch.setattr("gapctl.data.image_text.evaluation_sets.build_manifest", None)

    assert opened(folder, "retrieval").fingerprint == first.fingerprint


def spoil(place: str) -> Callable[[Path], Path]:
    """A set of captions with one member of one sample changed or left out."""

    def write(folder: Path) -> Path:
        changed: dict[str, dict[str, bytes]] = {f"{number:02d}": pair(number) for number in range(4)}
        if place == "no image":
            del changed["02"]["jpg"]
        elif place == "undecodable image":
            changed["02"]["jpg"] = changed["02"]["jpg"][:500]
        else:
            del changed["02"]["txt"]
        return write_shard(folder / "0.tar", changed.items())

    return write


@pytest.mark.parametrize("problem", ["no image", "undecodable image", "no caption"])
def test_a_set_with_a_missing_part_is_refused_with_shard_and_key(tmp_path: Path, problem: str) -> None:
    message = refused(spoil(problem)(tmp_path), "retrieval", expect={"images": 4})

    assert f"0.tar: sample 02: {problem}; 1 of 4 samples cannot be used (4 images are expected)" in message


def test_compositions_need_no_captions(tmp_path: Path) -> None:
    found = opened(spoil("no caption")(tmp_path), "composition", object="shape", attribute="colour")

    assert found.images == 4


def test_other_counts_than_expected_are_refused(tmp_path: Path) -> None:
    folder = write_retrieval(tmp_path / "words")

    message = refused(folder, "retrieval", expect={"images": 41, "captions": 120, "checksum": "0" * 16})

    assert "found 40 images, not 41; checksum " in message
    assert "captions, not" not in message


def test_the_checksum_that_was_shown_is_accepted(tmp_path: Path) -> None:
    folder = write_retrieval(tmp_path / "words")
    shown = opened(folder, "retrieval").checksum

    assert opened(folder, "retrieval", expect={"checksum": shown}).checksum == shown


def test_a_class_that_no_image_has_is_refused(tmp_path: Path) -> None:
    folder = write_classification(tmp_path / "colours", names=(*COLOURS, "violet", "white"))

    assert "no image has violet, white (2 of 5 classes)" in refused(folder, "classification")


def test_a_label_beyond_the_classes_is_refused_with_its_sample(tmp_path: Path) -> None:
    folder = write_classification(tmp_path / "colours", labels=[0, 1, 7])

    message = refused(folder, "classification")

    assert "sample s0000002: its class is '7'; expected a number from 0 to 2" in message


def test_a_label_that_is_no_class_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [("a", pair(0)), ("b", pair(1)), ("c", pair(2, shape="sqare"))])

    message = refused(tmp_path / "0.tar", "classification", label="shape", classes=["bar", "square"])

    assert "0.tar: sample c: shape is 'sqare'; expected one of the 2 classes" in message
    assert "did you mean square?" in message


def test_a_sample_without_the_key_of_its_object_is_refused_with_the_keys_that_it_has(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [("a", pair(0)), ("b", pair(1))])

    message = refused(tmp_path / "0.tar", "composition", object="shap", attribute="colour")

    assert "sample a has no `shap` in its json; it has colour, number, shape; did you mean shape?" in message


def test_shards_that_are_counted_and_missing_are_named(tmp_path: Path) -> None:
    folder = write_retrieval(tmp_path / "words")
    (folder / "test" / "1.tar").unlink()

    assert "counts 2 shards, and 1.tar is missing (1 such)" in refused(folder, "retrieval")


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [])

    assert "0.tar: holds no sample" in refused(tmp_path / "0.tar", "retrieval")


def test_a_template_without_a_place_for_the_class_is_refused(tmp_path: Path) -> None:
    folder = write_classification(tmp_path / "colours")

    assert "templates: 'a photo' without {c}" in refused(folder, "classification", templates=["a photo"])


def test_shards_without_names_of_classes_are_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [("a", pair(0)), ("b", pair(1))])

    message = refused(tmp_path / "0.tar", "classification", label="shape")

    assert "no names of classes; expected classnames.txt" in message


def test_a_missing_place_is_refused(tmp_path: Path) -> None:
    assert "nowhere: no such file or folder" in refused(tmp_path / "nowhere", "retrieval")


def test_a_damaged_shard_is_refused(tmp_path: Path) -> None:
    whole = write_shard(tmp_path / "0.tar", [(f"{number:02d}", pair(number)) for number in range(8)])
    whole.write_bytes(whole.read_bytes()[:9000])

    assert "0.tar: a damaged tar" in refused(whole, "retrieval")


def test_shipped_sets_that_are_not_here_say_how_to_get_them() -> None:
    for name, advice in (("coco", "`gapctl data fetch coco` downloads it"), ("imagenet", "says how to get it")):
        definition = find_set(name)
        assert definition is not None
        with pytest.raises(InputError, match=advice):
            open_set(NamedSet(name, definition))


def test_metadata_that_is_no_object_has_no_labels(tmp_path: Path) -> None:
    spoilt = {**pair(1), "json": json.dumps([1]).encode()}
    write_shard(tmp_path / "0.tar", [("a", pair(0)), ("b", spoilt)])

    message = refused(tmp_path / "0.tar", "classification", label="shape", classes=["bar", "square"])

    assert "sample b has no `shape` in its json; it has no json, or an empty one" in message
