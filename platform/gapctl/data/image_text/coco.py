"""Read COCO's json of captions: `images` with a file's name each, and `annotations` with a caption of one of them.

1. `find_coco_layout` parses and checks the json, finds the images, and returns a `Layout`.
2. An image has the captions of its annotations, in their order; images come in the order of the json.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gapctl.data.image_text.locations import Location
from gapctl.data.image_text.records import (
    NO_OPTIONS,
    Layout,
    LayoutOptions,
    Record,
    find_image_folder,
    list_image_stamps,
)
from gapctl.errors import InputError

ImageId = int | str
EXPECTED: Final = (
    "expected COCO's json of captions: `images` with id and file_name, `annotations` with image_id and caption"
)
MAX_NAMED: Final = 5
"""Keys that a message names."""


def find_coco_layout(annotations: Location, options: LayoutOptions = NO_OPTIONS) -> Layout:
    """Return the layout of COCO's json of captions, with `images` and `annotations`.

    The images lie in `options.images`, or in a folder beside the json. Raise InputError for other json, for an
    annotation of no image, for an empty caption, and for an image whose file is missing.
    """
    place = annotations.address
    content = annotations.read_whole()
    images, captions = _parse_coco(place, content)
    names = [str(image["file_name"]) for image in images.values()]
    folder = find_image_folder(annotations.parent, names[0], options.images, f"{place}: image {next(iter(images))!r}")
    wheres = [f"{place}: image {number!r}" for number in images]
    stamps = list_image_stamps(folder, names, wheres)

    def read() -> Iterator[Record]:
        for where, (number, image) in zip(wheres, images.items(), strict=True):
            file = folder.join(str(image["file_name"]))
            yield Record(str(image["file_name"]), file.read, captions.get(number, ()), image, where)

    digest = hashlib.sha256(content).hexdigest()
    return Layout(place, "COCO's json", [digest, *stamps], read, len(images), far=bool(folder.scheme), options=options)


def _parse_coco(place: str, content: bytes) -> tuple[dict[ImageId, dict[str, object]], dict[ImageId, list[str]]]:
    """Return the images by their id, and the captions of each."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: no json ({error}); {EXPECTED}") from error
    lists = [document.get(name) if isinstance(document, dict) else None for name in ("images", "annotations")]
    for name, found in zip(("images", "annotations"), lists, strict=True):
        if not isinstance(found, list) or not found or not all(isinstance(each, dict) for each in found):
            keys = ", ".join(list(document)[:MAX_NAMED]) if isinstance(document, dict) else type(document).__name__
            raise InputError(f"{place}: no list `{name}` of objects in it (it has {keys or 'nothing'}); {EXPECTED}")
    images: dict[ImageId, dict[str, object]] = {}
    for row, image in enumerate(lists[0] or ()):
        number = image.get("id")
        if not isinstance(number, int | str) or not isinstance(image.get("file_name"), str) or not image["file_name"]:
            raise InputError(f"{place}: images, row {row}: without `id` or `file_name`; {EXPECTED}")
        if number in images:
            raise InputError(f"{place}: images, row {row}: the id {number!r} given twice; expected each image once")
        images[number] = image
    return images, _collect_coco_captions(place, lists[1] or (), images)


def _collect_coco_captions(
    place: str, annotations: Sequence[dict[str, object]], images: Mapping[ImageId, object]
) -> dict[ImageId, list[str]]:
    captions: dict[ImageId, list[str]] = {}
    for row, annotation in enumerate(annotations):
        where, number = f"{place}: annotations, row {row}", annotation.get("image_id")
        if "caption" not in annotation:
            keys = ", ".join(sorted(annotation)[:MAX_NAMED])
            raise InputError(f"{where}: no `caption` (it has {keys}): of boxes or key points? {EXPECTED}")
        if not isinstance(number, int | str) or number not in images:
            raise InputError(f"{where}: image_id {number!r} is none of the {len(images):,} images; {EXPECTED}")
        if not isinstance(annotation["caption"], str) or not annotation["caption"].strip():
            raise InputError(f"{where}: the caption of image {number!r} is empty; expected words, or no such row")
        captions.setdefault(number, []).append(annotation["caption"])
    return captions
