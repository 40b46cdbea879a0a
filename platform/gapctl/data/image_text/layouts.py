"""Recognise image-text data in the layouts that people have.

1. `recognise_layout` looks at a place: a folder of images, a table, COCO's json, or tars that need packing.
2. It returns a `Layout` by `find_image_folder_layout`, or by a reader of `tables`, `coco` or `tar_layouts`.
3. `pack.pack_shards` writes the records as tar shards, from which everything else reads.
"""

import posixpath
from collections.abc import Iterator, Sequence
from typing import Final

from gapctl.data.image_text.class_prompts import split_caption_lines
from gapctl.data.image_text.coco import find_coco_layout
from gapctl.data.image_text.locations import FileInfo, Location, resolve_location
from gapctl.data.image_text.records import (
    EXPECTED,
    NO_OPTIONS,
    OTHER_PICTURE_ENDINGS,
    PICTURE_ENDINGS,
    Layout,
    LayoutOptions,
    Record,
    list_file_stamps,
)
from gapctl.data.image_text.shard_index import parse_metadata
from gapctl.data.image_text.storage import expand_braces
from gapctl.data.image_text.tables import find_table_layout, group_table_pieces, is_manifest_file
from gapctl.data.image_text.tar_layouts import recognise_tar_layout
from gapctl.errors import InputError, MissingDataError

TAR_ENDINGS: Final = frozenset({".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst"})
TAR_MAGIC: Final = (257, b"ustar")
"""What stands in the header of a tar, and where."""
TABLE_ENDINGS: Final = frozenset({".csv", ".tsv", ".txt", ".parquet"})
MAX_SPLITS: Final = 32
"""Most folders within one that are looked into for shards; more are the folders of images."""
MAX_NAMED: Final = 5
"""Files that a message names."""


def recognise_layout(place: str, options: LayoutOptions = NO_OPTIONS) -> Layout | str:
    """Return the layout of a place that has to be packed, or else the place whose tar shards can be read as they are.

    The latter is the place itself, or the folder in it that holds the shards. A place that is none of the known kinds
    is returned as well if it may be a damaged or missing tar, which the reader of tars describes best. Raise InputError
    for anything else that is wrong.
    """
    location = resolve_location(place)
    if location.ending == ".parquet" and len(names := expand_braces(place)) > 1:
        return find_table_layout([_require_file(resolve_location(name)) for name in names], options)
    if location.ending in TABLE_ENDINGS:
        if location.ending == ".parquet" and is_manifest_file(place):
            return place
        return find_table_layout([_require_file(location)], options)
    if location.ending == ".json":
        return find_coco_layout(_require_file(location), options)
    if location.ending == ".tar" or not location.is_folder():
        _refuse_other_files(location)
        return recognise_tar_layout(place, options)
    return _recognise_folder(location, options)


def _require_file(location: Location) -> Location:
    if location.find_info() is None:
        raise MissingDataError(f"{location.address}: no such file or folder; {EXPECTED}", absent=True)
    return location


def _refuse_other_files(location: Location) -> None:
    """Raise InputError for no file, and for one of another kind, which the reader of tars would call a damaged tar."""
    if location.scheme or location.ending in TAR_ENDINGS or "{" in location.address:
        return
    _require_file(location)
    try:
        with location.files.open(location.path, "rb") as file:
            head = file.read(TAR_MAGIC[0] + len(TAR_MAGIC[1]))
    except OSError:
        return
    if head[TAR_MAGIC[0] :] != TAR_MAGIC[1]:
        raise InputError(f"{location.address}: a file of no kind that is known here; {EXPECTED}")


def _recognise_folder(folder: Location, options: LayoutOptions) -> Layout | str:
    names, folders = folder.list_names()
    tars = [name for name in names if name.endswith(".tar")]
    if not tars:
        looked = folders if len(folders) <= MAX_SPLITS else []
        splits = [each for each in looked if any(name.endswith(".tar") for name in folder.join(each).list_names()[0])]
        if len(splits) > 1:
            paths = " or ".join(folder.join(each).address for each in splits[:MAX_NAMED])
            raise InputError(f"{folder.address}: shards in several folders; expected one of them: {paths}")
        if splits:
            return recognise_tar_layout(folder.join(splits[0]).address, options)
    pairs = {posixpath.splitext(name)[0] for name in names if name.endswith(".txt")} & {
        posixpath.splitext(name)[0] for name in names if _is_picture(name)
    }
    if tars and pairs:
        raise _build_mixed_error(folder, [f"shards ({tars[0]})", f"images with captions beside them ({min(pairs)})"])
    return recognise_tar_layout(folder.address, options) if tars else _recognise_files(folder, options)


def _recognise_files(folder: Location, options: LayoutOptions) -> Layout:
    """Tell a folder of images with captions from one with a table or with COCO's json."""
    files = folder.list_files()
    pictures = {posixpath.splitext(info.name)[0] for info in files if _is_picture(info.name)}
    texts = {posixpath.splitext(info.name)[0] for info in files if info.name.endswith(".txt")}
    tables = group_table_pieces([info.name for info in files])
    jsons = [info.name for info in files if info.name.endswith(".json") and not _is_beside(info.name, pictures)]
    if pictures & texts:
        sheets = [name for group in tables for name in group if not name.endswith(".parquet")]
        if sheets:
            found = [f"captions beside images ({min(pictures & texts)})", f"a table ({sheets[0]})"]
            raise _build_mixed_error(folder, found)
        return find_image_folder_layout(folder, files)
    if len(tables) + len(jsons) > 1:
        several = sorted([*(group[0] for group in tables), *jsons])
        more = f" and {len(several) - MAX_NAMED} more" if len(several) > MAX_NAMED else ""
        raise InputError(
            f"{folder.address}: several files that may hold the captions: {', '.join(several[:MAX_NAMED])}{more}; "
            f"expected one. Name the file itself, as {folder.join(several[0]).address}"
        )
    if tables:
        return find_table_layout([folder.join(name) for name in tables[0]], options)
    if jsons:
        return find_coco_layout(folder.join(jsons[0]), options)
    if pictures:
        raise InputError(
            f"{folder.address}: {len(pictures):,} images and no captions; {EXPECTED}. A caption lies beside its image "
            f"as {min(pictures)}.txt, one line for each"
        )
    raise InputError(f"{folder.address}: no .tar file in this folder, and no images, table or json; {EXPECTED}")


def _is_beside(name: str, pictures: set[str]) -> bool:
    """Return whether a json belongs to an image, or is one of img2dataset's statistics."""
    return posixpath.splitext(name)[0] in pictures or name.endswith("_stats.json")


def _is_picture(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in PICTURE_ENDINGS | OTHER_PICTURE_ENDINGS


def _build_mixed_error(folder: Location, found: Sequence[str]) -> InputError:
    return InputError(
        f"{folder.address}: {' and '.join(found)} in one folder, which are different layouts; expected one of them. "
        "Name the file that is meant, or put them into folders of their own"
    )


def find_image_folder_layout(folder: Location, files: Sequence[FileInfo]) -> Layout:
    """Return the layout of images with captions beside them: `x.jpg`, `x.txt` (a caption per line), perhaps `x.json`.

    A file without its partner gives a record without an image or without captions, which is counted where it is read.
    """
    parts: dict[str, dict[str, str]] = {}
    for info in files:
        key, ending = posixpath.splitext(info.name)
        kind = "image" if _is_picture(info.name) else ending.lower().removeprefix(".")
        if kind not in ("image", "txt", "json") or info.name.endswith("_stats.json"):
            continue
        if kind in (found := parts.setdefault(key, {})):
            raise InputError(
                f"{folder.address}: {found[kind]} and {info.name} have one caption, {key}.txt; expected one image of "
                "each name. Take one of them away"
            )
        found[kind] = info.name
    samples = {key: found for key, found in sorted(parts.items()) if {"image", "txt"} & found.keys()}

    def read() -> Iterator[Record]:
        for key, found in samples.items():
            content = {kind: folder.join(name) for kind, name in found.items()}
            text = _read_text(content["txt"]) if "txt" in content else ""
            about = parse_metadata(content["json"].read_whole()) if "json" in content else {}
            where = folder.join(found.get("image", found.get("txt", key))).address
            image = content["image"].read if "image" in content else None
            yield Record(key, image, split_caption_lines(text), about, where)

    used = {name for found in samples.values() for name in found.values()}
    stamps = list_file_stamps([info for info in files if info.name in used])
    return Layout(folder.address, "a folder of images", stamps, read, len(samples), far=bool(folder.scheme))


def _read_text(location: Location) -> str:
    """Return a text; bytes that are not UTF-8 come back when it is written, so that the sample is counted for them."""
    return location.read_whole().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
