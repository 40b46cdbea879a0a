"""Read tars that are no shards yet: with class labels in place of captions, or with the members of a key apart.

1. `recognise_tar_layout` looks at the headers of the first tar; well-formed shards with captions stay as they are.
2. `read_tars` yields the samples of any tar by an index of its members.
3. `find_class_files` reads the names and templates of the classes that CLIP_benchmark keeps beside its shards.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from gapctl.data.image_text.class_prompts import split_caption_lines
from gapctl.data.image_text.index import build_damage_error
from gapctl.data.image_text.locations import Location, iterate_parents, resolve_location
from gapctl.data.image_text.records import CLASS_PLACEHOLDER, ClassFiles, Layout, LayoutOptions, Record
from gapctl.data.image_text.shard_index import READ_ENDINGS, parse_metadata
from gapctl.data.image_text.storage import list_shards, open_shard
from gapctl.data.image_text.tar import ShardBytes, scan_tar
from gapctl.errors import InputError
from gapctl.io.retry import is_hidden_or_system_file

CLASS_NAMES: Final = "classnames.txt"
CLASS_TEMPLATES: Final = "zeroshot_classification_templates.txt"
CLASS_KEY: Final = "cls"
"""The key under which the json of a packed sample has the number of its class."""
CLASS_KIND: Final = "shards with class labels"


class _TarForm(NamedTuple):
    """What a tar's headers say: whether captions or class labels are there, and whether it must be read by an index."""

    captions: bool
    classes: bool
    unsorted: bool


def recognise_tar_layout(place: str, options: LayoutOptions) -> Layout | str:
    """Return the layout of tars with class labels, or in another order; None for others. The first tar decides."""
    if "://" in place:
        return place  # `pack.find_or_pack_shards` brings them here first, where that is wanted
    try:
        shards = list_shards([place])
        with open_shard(shards[0].address) as content:
            form = _inspect_tar(content)
    except (InputError, OSError):
        return place
    if form.captions and not form.unsorted:
        return place
    classes = None
    if form.classes and not form.captions:
        classes = find_class_files(resolve_location(shards[0].address).parent)
        if classes is None:
            raise InputError(
                f"{place}: shards with class labels (.cls) and no captions (.txt), without {CLASS_NAMES}; expected "
                f"that file beside them or in the folder above, a class per line, and perhaps {CLASS_TEMPLATES}"
            )
    elif not form.unsorted:
        return place
    kind = CLASS_KIND if classes else "tars in another order"
    stamps = [f"{shard.address}\t{shard.bytes}\t{shard.modified}" for shard in shards]
    if classes:
        stamps += [*classes.names, *classes.templates]
    reading = partial(read_tars, [shard.address for shard in shards], classes)
    return Layout(place, kind, stamps, reading, 0, classes=classes, options=options)


def _inspect_tar(content: ShardBytes) -> _TarForm:
    members = [(key, ending) for key, ending, *_ in _iterate_members(content)]
    endings = {ending for _, ending in members}
    runs = Counter(key for place, (key, _) in enumerate(members) if not place or members[place - 1][0] != key)
    apart = sum(times > 1 for times in runs.values())
    return _TarForm("txt" in endings, CLASS_KEY in endings, apart > len(runs) / 2)


def _iterate_members(content: ShardBytes) -> Iterator[tuple[str, str, int, int]]:
    """Yield key, ending, offset and size of the members that samples are made of."""
    for name, _, start, size in scan_tar(content).members:
        slash = name.rfind(b"/") + 1
        dot = name.find(b".", slash)
        ending = name[dot + 1 :].lower()
        known = ending in READ_ENDINGS or ending == CLASS_KEY.encode()
        if dot > slash and known and not is_hidden_or_system_file(name.decode("utf-8", "replace")):
            yield name[:dot].decode("utf-8", "surrogateescape"), ending.decode(), start, size


def read_tars(addresses: Sequence[str], classes: ClassFiles | None) -> Iterator[Record]:
    """Yield the samples of tars in whatever order their members stand, by an index of each tar.

    The n-th member of a key and ending belongs to the n-th sample of that key. Raise InputError for a damaged tar, and
    for a class that is none.
    """
    for address in addresses:
        with open_shard(address) as content:
            damage = scan_tar(content).damage
            samples: dict[tuple[str, int], dict[str, tuple[int, int]]] = {}
            times = Counter[tuple[str, str]]()
            for key, ending, start, size in _iterate_members(content):
                samples.setdefault((key, times[key, ending]), {})[ending] = (start, size)
                times[key, ending] += 1
            if damage is not None:
                raise build_damage_error(address, len(samples), damage)
            for (key, _), parts in samples.items():
                yield _read_tar_sample(f"{address}: sample {key}", key, content, parts, classes)


def _read_tar_sample(
    where: str,
    key: str,
    content: ShardBytes,
    parts: Mapping[str, tuple[int, int]],
    classes: ClassFiles | None,
) -> Record:
    def read_member(ending: str) -> bytes:
        start, size = parts[ending]
        return content[start : start + size]

    picture = next((ending for ending in ("jpg", "jpeg", "png", "webp") if ending in parts), None)
    image = read_member(picture) if picture else None
    about = parse_metadata(read_member("json")) if "json" in parts else {}
    if classes is None:
        text = read_member("txt").decode("utf-8", "surrogateescape").removeprefix("\ufeff") if "txt" in parts else ""
        return Record(key, None if image is None else lambda: image, split_caption_lines(text), about, where)
    written = read_member(CLASS_KEY).strip() if CLASS_KEY in parts else b""
    number = int(written) if written.isdigit() and len(written) < 10 else -1
    if not 0 <= number < len(classes.names):
        raise InputError(
            f"{where}: its class is {written[:20].decode('utf-8', 'replace')!r}; expected a number from 0 to "
            f"{len(classes.names) - 1}, a line of {CLASS_NAMES}"
        )
    labels = {**about, CLASS_KEY: number, "class": classes.names[number]}
    return Record(key, None if image is None else lambda: image, classes.fill_templates(number)[:1], labels, where)


def find_class_files(folder: Location) -> ClassFiles | None:
    """Return the classes and templates that lie in a folder or in the one above it, or None without class names."""
    for place in iterate_parents(folder, 2):
        if place.join(CLASS_NAMES).find_info() is None:
            continue
        names = _read_lines(place.join(CLASS_NAMES))
        if len(names) < 2:
            raise InputError(
                f"{place.join(CLASS_NAMES).address}: {len(names)} classes; expected at least 2, one a line"
            )
        templates = [CLASS_PLACEHOLDER]
        if place.join(CLASS_TEMPLATES).find_info() is not None:
            templates = _read_lines(place.join(CLASS_TEMPLATES))
        wrong = next((row for row, line in enumerate(templates, 1) if CLASS_PLACEHOLDER not in line), None)
        if wrong is not None or not templates:
            line = f"line {wrong}" if wrong else "no line"
            raise InputError(
                f"{place.join(CLASS_TEMPLATES).address}: {line} with {CLASS_PLACEHOLDER}; expected in every line "
                f"{CLASS_PLACEHOLDER} where the name of a class stands"
            )
        return ClassFiles(names, templates)
    return None


def _read_lines(location: Location) -> list[str]:
    """Return the lines of a text, stripped. Raise InputError for an empty one: lines are counted."""
    content = location.read_whole()
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{location.address}: not UTF-8 (byte {error.start}); expected text") from error
    if "" in lines:
        raise InputError(f"{location.address}: line {lines.index('') + 1} is empty; expected something in every line")
    return lines
