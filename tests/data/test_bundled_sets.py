"""The bundled pictograms make small evaluation sets, the same for everyone, on which rehearsals are measured."""

from collections import Counter
from pathlib import Path

import pytest

from gapctl.config.evaluation_sets import EvaluationSet, NamedSet, SetKind
from gapctl.data.image_text.bundled_sets import BUNDLED_SETS, COLOURS, PER_GROUP, PER_KIND
from gapctl.data.image_text.evaluation_sets import OpenedEvaluationSet, open_set
from gapctl.errors import InputError
from gapctl.io.atomic import hash_file


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for all of these tests."""
    folder = tmp_path_factory.getbasetemp() / "pictograms"
    monkeypatch.setenv("GAPCTL_CACHE", str(folder))
    return folder


def opened(name: str, kind: SetKind) -> OpenedEvaluationSet:
    return open_set(NamedSet("some", EvaluationSet(kind=kind, source=f"bundled/{name}")))


@pytest.mark.parametrize(("name", "classes", "most"), [("groups", 12, PER_GROUP), ("kinds", 43, PER_KIND)])
def test_classes_are_groups_or_kinds_with_a_few_pictograms_each(name: str, classes: int, most: int) -> None:
    found = opened(name, "classification")
    counts = Counter(found.questions["class"].class_N.tolist())

    assert len(counts) == classes
    assert max(counts.values()) == most
    assert all("a picture of" in texts[1] for texts in found.questions["class"].prompts.prompts.values())


def test_kinds_and_more_kinds_have_no_class_in_common() -> None:
    one, other = (
        {texts[0] for texts in opened(name, "classification").questions["class"].prompts.prompts.values()}
        for name in ("kinds", "more_kinds")
    )

    assert len(one) == len(other) == 43
    assert not one & other


@pytest.mark.parametrize(("name", "objects", "attributes"), [("people", 74, 2), ("colours", 3, len(COLOURS))])
def test_compositions_have_every_object_with_every_attribute_once(name: str, objects: int, attributes: int) -> None:
    found = opened(name, "composition")

    assert found.images == objects * attributes == len(found.combinations)
    assert Counter(found.questions["pair"].class_N.tolist()) == dict.fromkeys(range(found.images), 1)


def test_they_are_made_once_and_always_the_same(cache: Path) -> None:
    def find_shards() -> dict[Path, str]:
        return {path: hash_file(path) for path in sorted((cache / "sets").glob("*/*/*.tar"))}

    fingerprints = {name: opened(name, "composition").fingerprint for name in ("people", "colours")}
    before = find_shards()
    for path in before:
        path.unlink()
        path.parent.rename(path.parent.with_name(f"gone-{path.parent.name}"))

    again = {name: opened(name, "composition").fingerprint for name in ("people", "colours")}

    assert again == fingerprints
    assert all(before[path] == digest for path, digest in find_shards().items())


def test_an_unknown_one_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"bundled/group: no such set of bundled pictograms; did you mean groups\?"):
        opened("group", "classification")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened("colours", "composition")  # the pictograms themselves are unpacked then
    (tmp_path / "pairs").symlink_to(cache / "pairs")
    (tmp_path / "sets").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path))

    with pytest.raises(InputError, match=r"the bundled set cannot be written there .*Set GAPCTL_CACHE"):
        opened("colours", "composition")


def test_there_are_five() -> None:
    assert list(BUNDLED_SETS) == ["groups", "kinds", "more_kinds", "people", "colours"]
