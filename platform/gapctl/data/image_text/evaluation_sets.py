"""Open evaluation sets: find their images, check that they are whole, and read what each image is compared with.

1. `locate_source` finds the images: where the definition says, or where `gapctl data fetch` left them.
2. `open_set` packs other layouts, indexes the shards and decodes every image once (`_load_manifest`).
3. It reads captions, classes, or objects and attributes, and refuses a set that lacks any, or has other counts.
4. `OpenedEvaluationSet` has all that decides the numbers on it, with a fingerprint; `decode_set_images` decodes a
  batch.

Index letters: N images, M captions.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.config.base import format_word_suggestion, hash_value
from gapctl.config.evaluation_sets import EvaluationSet, NamedSet, load_shipped_sets
from gapctl.config.yaml_file import read_text_file
from gapctl.data.hub import explain_missing_shards
from gapctl.data.image_text.bundled_sets import find_bundled_set, is_bundled_set
from gapctl.data.image_text.class_prompts import PLACEHOLDER, PromptSet, split_caption_lines
from gapctl.data.image_text.image import decode_rgb_image
from gapctl.data.image_text.index import build_damage_error, build_manifest
from gapctl.data.image_text.locations import resolve_location
from gapctl.data.image_text.manifest import (
    READING_VERSION,
    Manifest,
    read_manifest,
    tally_manifest,
    write_manifest,
)
from gapctl.data.image_text.pack import find_or_pack_shards
from gapctl.data.image_text.records import CLASS_PLACEHOLDER, ClassFiles
from gapctl.data.image_text.shard_index import SampleRow, parse_metadata
from gapctl.data.image_text.storage import ShardInfo, ShardReader, list_shards
from gapctl.data.image_text.tar import SampleProblem, ShardBytes
from gapctl.data.image_text.tar_layouts import CLASS_NAMES, CLASS_TEMPLATES, find_class_files
from gapctl.data.parallel_shards import OnProgress, Workers, count_available_cores, ignore_progress
from gapctl.errors import InputError, MissingDataError, WorkError
from gapctl.folders import expand_home, find_cache_root
from gapctl.text import format_first_names

if TYPE_CHECKING:
    from PIL import Image

SET_VERSION: Final = 1
"""Raise it whenever the same set would give other numbers than before."""
BYTES_PER_PROCESS: Final = 64 << 20
"""Bytes of images that a process decodes in the time that another takes to start."""
MAX_NAMED: Final = 5
"""Names that a message lists."""
NumberUse = Literal["first", "second", "never"]
"""Whether a label that is a number is the place of a class rather than its name: first, if no name is it, or never."""
CLASS: Final = "class"
OBJECT: Final = "object"
ATTRIBUTE: Final = "attribute"
PAIR: Final = "pair"


class SetQuestion(NamedTuple):
    """A zero-shot question about every image: the prompts of each class, and each image's class (N,)."""

    prompts: PromptSet
    class_N: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OpenedEvaluationSet:
    """A set that is whole: its images, by their rows in a manifest, and what they are compared with.

    `captions` are those of each image, for retrieval alone; `questions` are by `class`, or by `object`, `attribute` and
    `pair`. `checksum` is of the shards' content, `fingerprint` of all that decides the numbers on the set.
    `combinations` are the prompts of every object with every attribute, object by object, those that no image has too.
    """

    name: str
    definition: EvaluationSet
    manifest: Manifest
    row_N: NDArray[np.int64]
    captions: Sequence[Sequence[str]]
    questions: Mapping[str, SetQuestion]
    fingerprint: str
    about: Mapping[str, Any] = field(default_factory=dict)
    combinations: Sequence[str] = ()

    @property
    def images(self) -> int:
        """How many images it has."""
        return len(self.row_N)

    @property
    def checksum(self) -> str:
        """The digest of the shards' content."""
        return self.manifest.fingerprint


def locate_source(named: NamedSet) -> str:
    """Return the place of a set's images; raise MissingDataError for one that is not on this machine."""
    if is_bundled_set(named.definition.source):
        return str(find_bundled_set(named.definition.source))
    if named.definition.source:
        return named.definition.source
    folder = locate_downloaded_set(named.name)
    if folder.is_dir():
        return str(folder)
    shipped = load_shipped_sets().get(named.name)
    elsewhere = f"name its place: `evaluation_sets: {{{named.name}: {{source: PLACE}}}}` in a sweep file"
    if shipped is None:
        raise InputError(f"{named.name}: its definition has no source; expected the place of its images")
    if shipped.fetch:
        raise MissingDataError(
            f"{named.name}: not on this machine; `gapctl data fetch {named.name}` downloads it "
            f"(licence: {shipped.licence}). Or {elsewhere}",
            absent=True,
        )
    raise MissingDataError(
        f"{named.name}: not on this machine, and not downloaded, as its licence is yours to agree to: "
        f"`gapctl data fetch {named.name}` says how to get it. Then {elsewhere}",
        absent=True,
    )


def locate_downloaded_set(name: str) -> Path:
    """Return the folder of the cache that a shipped set is downloaded to."""
    return find_cache_root() / "sets" / name


def open_set(named: NamedSet, on_progress: OnProgress = ignore_progress) -> OpenedEvaluationSet:
    """Open a set and check it; its images are decoded once, and the result is kept in the cache.

    `on_progress` gets the finished bytes and all bytes. Raise InputError, with the set's name and the place, for images
    that are missing or cannot be decoded, for wrong labels, for a class without an image, and for other counts than
    expected; MissingDataError where nothing is there.
    """
    name, definition = named.name, named.definition
    place = locate_source(named)
    where = f"evaluation set {name}"
    _require_all_shards(where, name, place)
    try:
        (resolved,) = find_or_pack_shards([place], local=True)
        shards = list_shards(resolved.shards)
        manifest = _load_manifest(shards, on_progress)
    except InputError as error:
        absent = isinstance(error, MissingDataError) and error.absent
        raise MissingDataError(f"{where}: {error}", absent=absent) from error
    row_N = _require_whole(where, place, manifest, definition)
    questions: dict[str, SetQuestion] = {}
    captions: list[list[str]] = []
    combinations: list[str] = []
    if definition.kind == "retrieval":
        captions = [split_caption_lines(text) for text in _read_texts(manifest, row_N)]
    else:
        samples = _read_metadata(manifest, row_N)
        if definition.kind == "classification":
            questions = _read_classification(where, definition, samples, Path(resolved.shards[0]))
        else:
            questions, combinations = _read_composition(where, definition, samples)
    counts = {
        "images": len(row_N),
        "captions": sum(map(len, captions)),
        **{name: len(questions[key].prompts.prompts) for key, name in _COUNTED.items() if key in questions},
    }
    _require_expected(where, place, definition, counts, manifest.fingerprint)
    identity = {
        "version": SET_VERSION,
        "kind": definition.kind,
        "data": manifest.fingerprint,
        "questions": {
            key: {
                "prompts": list(map(list, each.prompts.prompts.values())),
                "answers": hashlib.sha256(each.class_N.astype("<i8").tobytes()).hexdigest(),
            }
            for key, each in questions.items()
        },
    }
    about = {
        "source": place,
        **{noun: count for noun, count in counts.items() if count},
        "checksum": manifest.fingerprint,
    }
    fingerprint = hash_value(identity)[:16]
    return OpenedEvaluationSet(name, definition, manifest, row_N, captions, questions, fingerprint, about, combinations)


def _require_all_shards(where: str, name: str, place: str) -> None:
    """Raise InputError for a folder of this machine in CLIP_benchmark's layout that lacks shards."""
    folder = expand_home(place)
    if "://" in place or not folder.is_dir():
        return
    for each in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if why := explain_missing_shards(each):
            again = f"; `gapctl data fetch {name}` goes on with it" if folder == locate_downloaded_set(name) else ""
            raise InputError(f"{where}: {why}; expected them all{again}")


_COUNTED: Final = {CLASS: "classes", OBJECT: "objects", ATTRIBUTE: "attributes"}
"""What `expect` calls the number of classes of each question."""


def _load_manifest(shards: Sequence[ShardInfo], on_progress: OnProgress) -> Manifest:
    """Return the manifest of these shards with every image decoded once, from the cache where they have not changed."""
    listed = "\n".join([f"set-v{SET_VERSION}.{READING_VERSION}", *map(repr, shards)])
    path = find_cache_root() / "set-index" / f"{hashlib.sha256(listed.encode()).hexdigest()[:32]}.parquet"
    if path.is_file():
        with suppress(InputError):  # a damaged file is written again
            return read_manifest(path)
    total = sum(shard.bytes for shard in shards)
    workers = Workers(min(count_available_cores(), len(shards), 1 + total // BYTES_PER_PROCESS))
    manifest = build_manifest(shards, workers, _check_image, on_progress)
    with suppress(OSError):  # a cache that cannot be written costs time, and nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(path, manifest)
    return manifest


def _check_image(content: ShardBytes, sample: SampleRow) -> SampleRow:
    """Return a sample's row with its problem if its image cannot be decoded; a missing caption is left to the kind."""
    if sample.problem in (None, SampleProblem.NO_CAPTION.value):
        try:
            decode_rgb_image(content[sample.image_offset : sample.image_offset + sample.image_bytes])
        except ValueError:
            return sample._replace(problem=SampleProblem.UNREADABLE.value)
    return sample


def _require_whole(where: str, place: str, manifest: Manifest, definition: EvaluationSet) -> NDArray[np.int64]:
    """Return the rows of all images; raise InputError for an empty set, a damaged shard, and for unusable samples."""
    for shard in manifest.shards:
        if shard.damage is not None:
            raise InputError(f"{where}: {build_damage_error(shard.address, shard.samples, shard.damage)}")
    if not len(manifest.samples):
        raise InputError(f"{where}: {place}: holds no sample; expected images, and what its kind needs beside them")
    harmless = () if definition.kind == "retrieval" else (SampleProblem.NO_CAPTION.value,)
    problems = manifest.samples["problem"].to_list()
    wrong = [row for row, problem in enumerate(problems) if problem is not None and problem not in harmless]
    if wrong:
        first = manifest.samples.row(wrong[0], named=True)
        expected = f" ({definition.expect.images:,} images are expected)" if definition.expect.images else ""
        raise InputError(
            f"{where}: {first['shard']}: sample {first['key']}: {first['problem']}; {len(wrong):,} of "
            f"{len(problems):,} samples cannot be used{expected}: {tally_manifest(manifest).reasons}. Expected a whole "
            "set, as numbers on parts of it compare with nobody's"
        )
    if len(problems) < 2:
        raise InputError(f"{where}: {place}: a single image; expected at least 2")
    return np.arange(len(problems))


def _read_parts(manifest: Manifest, row_N: NDArray[np.int64], part: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield shard, key and the bytes of a part of each sample: `caption` or `json`."""
    columns = manifest.samples[row_N].select("shard", "key", f"{part}_offset", f"{part}_bytes").iter_rows()
    with ShardReader() as opened:
        for shard, key, start, size in columns:
            try:
                yield shard, key, opened.read(shard, start, size)
            except OSError as error:
                raise WorkError(
                    f"{shard}: cannot be read ({error.strerror or error}); put it back as it was"
                ) from error


def _read_texts(manifest: Manifest, row_N: NDArray[np.int64]) -> Iterator[str]:
    for _, _, content in _read_parts(manifest, row_N, "caption"):
        yield content.decode("utf-8-sig", errors="replace")


class _SetSample(NamedTuple):
    """Where a sample lies, and its json."""

    where: str
    about: Mapping[str, object]


def _read_metadata(manifest: Manifest, row_N: NDArray[np.int64]) -> list[_SetSample]:
    return [
        _SetSample(f"{shard}: sample {key}", parse_metadata(content))
        for shard, key, content in _read_parts(manifest, row_N, "json")
    ]


def _read_classification(
    where: str, definition: EvaluationSet, samples: Sequence[_SetSample], folder: Path
) -> dict[str, SetQuestion]:
    beside = _find_class_files(where, folder)
    names = _read_lines(where, "classes", definition.classes) or (list(beside.names) if beside else [])
    templates = _read_lines(where, "templates", definition.templates) or (list(beside.templates) if beside else [])
    if not names:
        raise InputError(
            f"{where}: no names of classes; expected {CLASS_NAMES} beside the shards or in the folder above, or "
            "classes: a file with a class a line, or a list"
        )
    words = _split_words(where, "classes", names, plain=not definition.classes)
    for template in templates:
        if CLASS_PLACEHOLDER not in template and PLACEHOLDER not in template:
            raise InputError(
                f"{where}: templates: {template!r} without {CLASS_PLACEHOLDER}; expected that where the class stands"
            )
    filled = [
        tuple(_fill_template(template, text) for template in templates or [CLASS_PLACEHOLDER]) for _, text in words
    ]
    numbers: NumberUse = "second" if definition.classes else "first"
    class_N = _number_labels(where, samples, definition.label, [name for name, _ in words], numbers)
    _require_images(where, "classes", class_N, [name for name, _ in words])
    return {CLASS: SetQuestion(PromptSet({str(number): each for number, each in enumerate(filled)}), class_N)}


def _fill_template(template: str, words: str) -> str:
    return template.replace(CLASS_PLACEHOLDER, words).replace(PLACEHOLDER, words)


def _find_class_files(where: str, folder: Path) -> ClassFiles | None:
    try:
        return find_class_files(resolve_location(str(folder if folder.is_dir() else folder.parent)))
    except InputError as error:
        raise InputError(f"{where}: {error}; {CLASS_TEMPLATES} belongs beside {CLASS_NAMES}") from error


def _read_composition(
    where: str, definition: EvaluationSet, samples: Sequence[_SetSample]
) -> tuple[dict[str, SetQuestion], list[str]]:
    """Return the questions of a composition set, and the prompts of every object with every attribute."""
    listed: dict[str, list[tuple[str, str]]] = {}
    numbers: dict[str, NDArray[np.int64]] = {}
    for key, given, noun in (
        (definition.object, definition.objects, "objects"),
        (definition.attribute, definition.attributes, "attributes"),
    ):
        lines = _read_lines(where, noun, given)
        if lines:
            listed[noun] = _split_words(where, noun, lines, plain=False)
        else:
            found = sorted({_read_label(where, sample, key) for sample in samples})
            listed[noun] = [(name, name.lower().replace(".", " ")) for name in found]
        names = [name for name, _ in listed[noun]]
        if len(names) < 2:
            raise InputError(
                f"{where}: {noun}: {format_first_names(names, 1)} alone; expected at least 2 to tell apart"
            )
        numbers[noun] = _number_labels(where, samples, key, names, "never")
        _require_images(where, noun, numbers[noun], names)
    prompts = definition.prompts
    combinations = [
        prompts.pair.replace("{attribute}", attribute).replace("{object}", thing)
        for _, thing in listed["objects"]
        for _, attribute in listed["attributes"]
    ]
    pairs, pair_N = np.unique(
        np.stack([numbers["objects"], numbers["attributes"]], axis=1), axis=0, return_inverse=True
    )
    asked = {
        OBJECT: ([prompts.object.replace("{object}", words) for _, words in listed["objects"]], numbers["objects"]),
        ATTRIBUTE: (
            [prompts.attribute.replace("{attribute}", words) for _, words in listed["attributes"]],
            numbers["attributes"],
        ),
        PAIR: (
            [combinations[first * len(listed["attributes"]) + second] for first, second in pairs.tolist()],
            pair_N.reshape(-1).astype(np.int64),
        ),
    }
    questions = {
        key: SetQuestion(PromptSet({str(number): (text,) for number, text in enumerate(texts)}), class_N)
        for key, (texts, class_N) in asked.items()
    }
    return questions, combinations


def _read_lines(where: str, key: str, given: str | Sequence[str]) -> list[str]:
    """Return the lines of a file, or those given; none for an empty text."""
    if not isinstance(given, str):
        return [line.strip() for line in given]
    if not given:
        return []
    text = read_text_file(expand_home(given), f"{where}: {key} {given}", "a text file, an entry a line")
    lines = [line.strip() for line in text.rstrip().split("\n")]
    if "" in lines:
        raise InputError(
            f"{where}: {key} {given}:{lines.index('') + 1}: an empty line; expected an entry in every line"
        )
    return lines


def _split_words(where: str, key: str, lines: Sequence[str], *, plain: bool) -> list[tuple[str, str]]:
    """Return each line's name and its words in prompts: `name = words`, or both alike."""
    split = [(line, line) if plain or " = " not in line else tuple(line.split(" = ", 1)) for line in lines]
    pairs = [(str(name).strip(), str(words).strip()) for name, words in split]
    again = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if again and not plain:  # ImageNet's published names have two cranes, told apart by their numbers
        raise InputError(f"{where}: {key}: {again[0]} given twice; expected each once")
    if len(pairs) < 2:
        raise InputError(f"{where}: {key}: {len(pairs)} given; expected at least 2 to tell apart")
    return pairs


def _read_label(where: str, sample: _SetSample, key: str) -> str:
    if key not in sample.about:
        present = sorted(sample.about)
        listed = f"it has {', '.join(present[:MAX_NAMED])}" if present else "it has no json, or an empty one"
        raise InputError(
            f"{where}: {sample.where} has no `{key}` in its json; {listed}{format_word_suggestion(key, present)}"
        )
    value = sample.about[key]
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise InputError(f"{where}: {sample.where}: `{key}` is {value!r}; expected a name or a whole number")
    return str(value)


def _number_labels(
    where: str, samples: Sequence[_SetSample], key: str, names: Sequence[str], numbers: NumberUse
) -> NDArray[np.int64]:
    """Return the place of each sample's label among the names (N,)."""
    by_name = {name: place for place, name in enumerate(names)}
    by_number = {str(place): place for place in range(len(names))}
    places = {"first": {**by_name, **by_number}, "second": {**by_number, **by_name}, "never": by_name}[numbers]
    place_N = np.empty(len(samples), np.int64)
    for row, sample in enumerate(samples):
        label = _read_label(where, sample, key)
        if label not in places:
            expected = f"one of the {len(names)} classes" + (f", or 0 to {len(names) - 1}" * (numbers != "never"))
            raise InputError(
                f"{where}: {sample.where}: {key} is {label!r}; expected {expected}"
                f"{format_word_suggestion(label, names)}"
            )
        place_N[row] = places[label]
    return place_N


def _require_images(where: str, noun: str, class_N: NDArray[np.int64], names: Sequence[str]) -> None:
    """Raise InputError for classes that no image has."""
    empty = [name for name, count in zip(names, np.bincount(class_N, minlength=len(names)), strict=True) if not count]
    if empty:
        raise InputError(
            f"{where}: no image has {format_first_names(empty, MAX_NAMED)} ({len(empty):,} of {len(names):,} {noun}); "
            "expected images of each. Leave out what the set does not have, or add the missing shards"
        )


def _require_expected(
    where: str, place: str, definition: EvaluationSet, counts: Mapping[str, int], checksum: str
) -> None:
    expect = definition.expect
    wrong = []
    for noun in ("images", "captions", "classes", "objects", "attributes"):
        expected = getattr(expect, noun)
        if expected is not None and counts.get(noun, 0) != expected:
            wrong.append(f"{counts.get(noun, 0):,} {noun}, not {expected:,}")
    if expect.checksum is not None and checksum != expect.checksum:
        wrong.append(f"checksum {checksum}, not {expect.checksum}")
    if wrong:
        raise InputError(
            f"{where}: {place}: found {'; '.join(wrong)}; expected what `expect` says. Add what is missing, or correct "
            "expect if this is another edition of the set"
        )


def decode_set_images(opened: OpenedEvaluationSet, row_B: NDArray[np.int64]) -> "Iterator[Image.Image]":
    """Yield the decoded images of some of a set's rows; raise WorkError for one that is no longer there."""
    columns = opened.manifest.samples[row_B].select("shard", "key", "image_offset", "image_bytes").iter_rows()
    with ShardReader() as reader:
        for shard, key, start, size in columns:
            try:
                yield decode_rgb_image(reader.read(shard, start, size))
            except (OSError, ValueError) as error:
                raise WorkError(
                    f"evaluation set {opened.name}: {shard}: sample {key}: its image cannot be read any more "
                    f"({error}); put the shard back as it was"
                ) from error
