"""Make small evaluation sets of the bundled pictograms, on which rehearsals of sweeps measure.

1. `find_bundled_set` answers a set's `source: bundled/NAME` with a folder of shards in the cache, made if missing.
2. `_choose_groups`, `_choose_kinds` and `_choose_pairs` say which pictograms a set has, and how they are labelled.

Trainings on `bundled` see most of these pictograms, so that accuracies on them say what a model remembers.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.config.base import format_choices
from gapctl.data.image_text.class_prompts import read_attribute_prompts
from gapctl.data.image_text.index import Sample, iterate_shard_samples
from gapctl.data.image_text.source import BUNDLED, BUNDLED_QUESTIONS, find_bundled_manifest, hash_bundle
from gapctl.data.image_text.storage import list_tar_files
from gapctl.data.image_text.tar_layouts import CLASS_KEY, CLASS_NAMES, CLASS_TEMPLATES
from gapctl.errors import InputError
from gapctl.folders import find_cache_root
from gapctl.io.scratch import ScratchFolder

BUNDLED_SET: Final = f"{BUNDLED}/"
"""Begins the sources of these sets."""
VERSION: Final = 1
"""Raise it whenever a set would have other pictograms or labels."""
PER_GROUP: Final = 20
PER_KIND: Final = 8
TEMPLATES: Final = ("{c}", "a picture of {c}")
PEOPLE: Final = ("man", "woman")
COLOURS: Final = ("blue", "brown", "green", "orange", "purple", "red", "white", "yellow")


class _LabelledPictogram(NamedTuple):
    """A pictogram, and what its json says in this set."""

    sample: Sample
    about: Mapping[str, object]


class _PictogramSet(NamedTuple):
    """The pictograms of a set, and the words of its classes, none for compositions."""

    pictograms: Sequence[_LabelledPictogram]
    classes: Sequence[str] = ()


def is_bundled_set(source: str) -> bool:
    """Return whether the source of an evaluation set names one of the sets made here."""
    return source.startswith(BUNDLED_SET)


def find_bundled_set(source: str) -> Path:
    """Return the folder with the shards of a set such as `bundled/groups`, and make it if it is missing.

    Raise InputError, with the nearest name, for one that is not made here, and where the cache cannot be written.
    """
    name = source.removeprefix(BUNDLED_SET)
    if name not in BUNDLED_SETS:
        raise InputError(f"{source}: no such set of bundled pictograms; {format_choices(name, list(BUNDLED_SETS))}")
    stamp = hashlib.sha256(f"{hash_bundle()} {VERSION}".encode()).hexdigest()[:16]
    folder = find_cache_root() / "sets" / f"pictograms-{stamp}" / name
    if not folder.exists():
        shards = list_tar_files(find_bundled_manifest().parent)
        chosen = BUNDLED_SETS[name]([sample for shard in shards for sample in iterate_shard_samples(shard)])
        try:
            _write_set(chosen, folder)
        except OSError as error:
            if not folder.exists():  # else a concurrent process was first
                raise InputError(
                    f"{folder}: the bundled set cannot be written there ({error}). Set GAPCTL_CACHE to a folder that "
                    "can be written to"
                ) from error
    return folder


def _write_set(chosen: _PictogramSet, folder: Path) -> None:
    """Write a set into a folder that appears whole."""
    import json

    from webdataset import TarWriter

    folder.parent.mkdir(parents=True, exist_ok=True)
    with ScratchFolder(folder.name, folder.parent) as scratch:
        with (
            (scratch / "00000.tar").open("wb") as file,
            TarWriter(file, encoder=False, mtime=0) as writer,
        ):
            for number, (sample, about) in enumerate(chosen.pictograms):
                text, labels = str(sample.caption).encode(), json.dumps(about).encode()
                writer.write({"__key__": f"{number:06d}", "jpg": sample.image, "txt": text, "json": labels})
        if chosen.classes:
            (scratch / CLASS_NAMES).write_text("\n".join(chosen.classes), encoding="utf-8")
            (scratch / CLASS_TEMPLATES).write_text("\n".join(TEMPLATES), encoding="utf-8")
        scratch.chmod(0o755)
        scratch.rename(folder)


def _choose_groups(samples: Sequence[Sample]) -> _PictogramSet:
    """Choose the first pictograms of each of OpenMoji's twelve groups, in the words of the bundled questions."""
    prompts = read_attribute_prompts(BUNDLED_QUESTIONS)["group"].prompts
    found = [[each for each in samples if each.about["group"] == group][:PER_GROUP] for group in prompts]
    return _label_classes(found, [texts[0] for texts in prompts.values()])


def _choose_kinds(samples: Sequence[Sample], first: int) -> _PictogramSet:
    """Choose every other of OpenMoji's subgroups that have enough pictograms, from the `first` on, by their names."""
    by_kind: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_kind[str(sample.about["subgroup"])].append(sample)
    kinds = sorted(kind for kind, found in by_kind.items() if len(found) >= PER_KIND)[first::2]
    return _label_classes([by_kind[kind][:PER_KIND] for kind in kinds], [kind.replace("-", " ") for kind in kinds])


def _label_classes(found: Sequence[Sequence[Sample]], words: Sequence[str]) -> _PictogramSet:
    labelled = [_LabelledPictogram(sample, {CLASS_KEY: number}) for number, each in enumerate(found) for sample in each]
    return _PictogramSet(labelled, words)


def _choose_pairs(samples: Sequence[Sample], attributes: Sequence[str]) -> _PictogramSet:
    """Choose the pictograms whose name is an attribute and an object, of the objects that have all attributes."""
    by_object: dict[str, dict[str, Sample]] = defaultdict(dict)
    for sample in samples:
        if named := re.fullmatch(rf"({'|'.join(attributes)}) (.+)", str(sample.about["name"])):
            by_object[named[2]].setdefault(named[1], sample)
    return _PictogramSet(list(_list_complete(by_object, attributes)))


def _list_complete(
    by_object: Mapping[str, Mapping[str, Sample]], attributes: Sequence[str]
) -> Iterator[_LabelledPictogram]:
    for name, found in sorted(by_object.items()):
        if len(found) == len(attributes):
            for attribute in attributes:
                yield _LabelledPictogram(found[attribute], {"object": name, "attribute": attribute})


BUNDLED_SETS: Final[Mapping[str, Callable[[Sequence[Sample]], _PictogramSet]]] = {
    "groups": _choose_groups,
    "kinds": partial(_choose_kinds, first=0),
    "more_kinds": partial(_choose_kinds, first=1),
    "people": partial(_choose_pairs, attributes=PEOPLE),
    "colours": partial(_choose_pairs, attributes=COLOURS),
}
"""The sets by name: classes of three kinds, then men and women by what they do, and shapes by their colour."""
