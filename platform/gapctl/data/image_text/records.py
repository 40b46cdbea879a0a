"""Define what every layout of image-text data is read as: a `Layout` and its `Record`s.

1. A reader of one kind (`layouts`, `tables`, `coco`, `tar_layouts`) returns a `Layout`.
2. `Layout.read` yields a `Record` per image; `Layout.fingerprint` says whether the place has changed.
3. `find_image_folder` and `list_image_stamps` find the images that a list names.
"""

import hashlib
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gapctl.data.image_text.class_prompts import PromptSet
from gapctl.data.image_text.locations import FileInfo, Location, iterate_parents, resolve_location
from gapctl.errors import InputError
from gapctl.folders import expand_home

LAYOUT_VERSION: Final = 1
"""Raise it when the same place would be packed otherwise; then nothing that is packed is reused."""
CLASS_PLACEHOLDER: Final = "{c}"
EXPECTED: Final = (
    "expected tar shards (img2dataset's or CLIP_benchmark's), a folder of images with captions beside them "
    "(x.jpg, x.txt), a csv, tsv or parquet with a column of images and one of captions, or COCO's json of captions"
)

PICTURE_ENDINGS: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
OTHER_PICTURE_ENDINGS: Final = frozenset({".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl"})
"""Pictures of these kinds are packed too, so that they are counted among what cannot be used."""


@dataclass(frozen=True)
class Record:
    """An image with its captions: `image` reads its bytes (None: there is no image), `about` are labels for its json.

    `where` names it in messages. An image that is not `required` may be unreachable, as a link of the web.
    """

    key: str
    image: Callable[[], bytes] | None
    captions: Sequence[str]
    about: Mapping[str, object]
    where: str
    required: bool = True


@dataclass(frozen=True)
class LayoutOptions:
    """What a place does not say itself: the folder of the images, and the columns of a table."""

    images: str | None = None
    image_column: str | None = None
    caption_column: str | None = None


NO_OPTIONS: Final = LayoutOptions()


@dataclass(frozen=True)
class ClassFiles:
    """The names of the classes and the templates of their prompts, as CLIP_benchmark has them beside its shards."""

    names: Sequence[str]
    templates: Sequence[str]

    def build_prompts(self) -> PromptSet:
        """Return each class's prompts by its number: two classes may share a name."""
        return PromptSet({str(number): self.fill_templates(number) for number in range(len(self.names))})

    def fill_templates(self, number: int) -> tuple[str, ...]:
        """Return the prompts of one class."""
        return tuple(template.replace(CLASS_PLACEHOLDER, self.names[number]) for template in self.templates)


@dataclass(frozen=True)
class Layout:
    """A place that was recognised: its kind in words, what its fingerprint covers, and its records.

    `far` says that images come over a network, so that many are asked for at once.
    """

    place: str
    kind: str
    stamps: Sequence[str]
    read: Callable[[], Iterator[Record]]
    images: int
    far: bool = False
    classes: ClassFiles | None = None
    options: LayoutOptions = NO_OPTIONS

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the place, the options, and the names, sizes and times of its files."""
        place = self.place if "://" in self.place else str(expand_home(self.place).absolute())
        facts = (f"layout-v{LAYOUT_VERSION}", place, self.kind, repr(self.options), *self.stamps)
        return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def list_file_stamps(files: Sequence[FileInfo]) -> list[str]:
    """Return what a fingerprint covers of each file."""
    return [f"{info.name}\t{info.bytes}\t{info.tag}" for info in files]


def _check_image_name(name: str, where: str) -> None:
    """Raise InputError for a name that leaves its folder and is no picture's, as of a password file.

    What a table names goes into shards, which people hand on.
    """
    outside = posixpath.isabs(name) or posixpath.normpath(name).startswith("..")
    if outside and posixpath.splitext(name)[1].lower() not in PICTURE_ENDINGS | OTHER_PICTURE_ENDINGS:
        raise InputError(f"{where}: {name}: outside the folder and not named as a picture; expected an image's path")


def find_image_folder(folder: Location, name: str, given: str | None, where: str) -> Location:
    """Return the folder below which the image of this name lies: the one given, or one beside the list of images.

    Raise InputError if it is in none of them.
    """
    if given is not None:
        return resolve_location(given)
    if not folder.scheme and posixpath.isabs(name):
        return folder
    candidates: list[Location] = []
    for base in iterate_parents(folder, 2):
        with suppress(InputError):  # what cannot be looked into is passed over
            candidates += [base, *(base.join(each) for each in base.list_names()[1])]
    for candidate in candidates:
        if candidate.join(name).find_info() is not None:
            return candidate
    raise InputError(
        f"{where}: {name} is neither in {folder.address} nor in a folder beside it; expected the images there. "
        "`gapctl data pack PLACE --images FOLDER --out SHARDS` takes them from elsewhere"
    )


def list_image_stamps(folder: Location, names: Sequence[str], wheres: Sequence[str]) -> list[str]:
    """Return name, size and time of each image, or from afar its name alone. Raise InputError for missing ones."""
    for name, where in zip(names, wheres, strict=True):
        _check_image_name(name, where)
    if folder.scheme:
        return list(names)
    infos = [folder.join(name).find_info() for name in names]
    missing = [place for place, info in enumerate(infos) if info is None]
    if missing:
        others = f" ({len(missing):,} of {len(names):,} images are missing)" if len(missing) > 1 else ""
        raise InputError(
            f"{wheres[missing[0]]}: {names[missing[0]]} is not in {folder.address}{others}; expected every image. Put "
            "it there, or take its row out"
        )
    return list_file_stamps(
        [info._replace(name=name) for info, name in zip(infos, names, strict=True) if info is not None]
    )
