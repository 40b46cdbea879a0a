"""Read tables of images and captions: csv and tsv of any separator, and parquet, whose images may be in its cells.

1. `group_table_pieces` groups the tables in a folder: the pieces of one parquet table belong together.
2. `find_table_layout` finds the columns, collects the rows of each image, and returns a `Layout`.

A row that names the image of an earlier row gives it another caption. Rows are counted from 1, below the heading.
"""

import csv
import io
import posixpath
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from gapctl.config.base import format_word_suggestion
from gapctl.data.image_text.locations import Location, resolve_location
from gapctl.data.image_text.manifest import METADATA_KEY
from gapctl.data.image_text.records import (
    EXPECTED,
    NO_OPTIONS,
    Layout,
    LayoutOptions,
    Record,
    find_image_folder,
    list_file_stamps,
    list_image_stamps,
)
from gapctl.data.image_text.storage import expand_braces
from gapctl.errors import InputError, first_line_of_error
from gapctl.folders import expand_home

IMAGE_COLUMNS: Final = (
    "filepath",
    "file_path",
    "image_path",
    "img_path",
    "path",
    "file_name",
    "filename",
    "image_name",
    "image_file",
    "image",
    "img",
    "file",
    "url",
    "image_url",
    "image_link",
    "link",
)
"""Names of the column of images, in the order of preference; spaces and case do not matter."""
CAPTION_COLUMNS: Final = (
    "title",
    "caption",
    "captions",
    "text",
    "sentence",
    "sentences",
    "comment",
    "raw",
    "description",
)
SEPARATORS: Final = ("\t", ",", ";", "|")
LINK_SCHEMES: Final = frozenset({"http", "https", "s3", "gs", "gcs", "hf", "az", "abfs"})
"""Schemes that a cell may name; others could make fsspec run programs or read what nobody meant."""
PARQUET_MARK: Final = b"PAR1"
PARQUET_END: Final = struct.Struct("<I4s")
"""The length of a parquet file's metadata, and its mark: the file's last bytes."""
IMAGE_SECONDS: Final = 5.0
"""Time during which requests for one image of the web are retried."""
MAX_CELL_CHARACTERS: Final = 1 << 20
ROWS_AT_ONCE: Final = 1_000
PICTURES_AT_ONCE: Final = 64
_PIECE: Final = re.compile(r"[-_.]?\d+(-of-\d+)?$")


def group_table_pieces(names: Sequence[str]) -> list[list[str]]:
    """Group the tables among these files; files such as `test-00000-of-00002.parquet` are pieces of one."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        stem, ending = posixpath.splitext(name)
        if ending.lower() in (".csv", ".tsv"):
            groups[name] = [name]
        elif ending.lower() == ".parquet":
            groups.setdefault(_PIECE.sub("", stem) + ending, []).append(name)
    return list(groups.values())


def is_table(place: str) -> bool:
    """Return whether a place that ends in .parquet is a sound table, and no manifest of shards."""
    return len(expand_braces(place)) > 1 or _has_manifest_metadata(place) is False


def is_manifest_file(place: str) -> bool:
    """Return whether a file, at a path or an address, is a manifest of shards."""
    return _has_manifest_metadata(place) is True


def _has_manifest_metadata(place: str) -> bool | None:
    """Return whether a parquet file has a manifest's metadata, or None if it cannot be read."""
    import polars as pl

    if "://" in place:
        return _has_remote_manifest_metadata(place)
    try:
        return METADATA_KEY in pl.read_parquet_metadata(expand_home(place))
    except (pl.exceptions.PolarsError, OSError):
        return None


def _has_remote_manifest_metadata(address: str) -> bool | None:
    """Look into the end of a file, where parquet keeps its metadata with their length and a mark after them."""
    location = resolve_location(address)
    info = location.find_info()
    if info is None or info.bytes < PARQUET_END.size:
        return None
    try:
        with location.files.open(location.path, "rb") as file:
            file.seek(info.bytes - PARQUET_END.size)
            length, mark = PARQUET_END.unpack(file.read(PARQUET_END.size))
            if mark != PARQUET_MARK:
                return None
            file.seek(max(0, info.bytes - PARQUET_END.size - length))
            return METADATA_KEY.encode() in file.read(length)
    except (OSError, ValueError, struct.error):
        return None


@dataclass
class _Image:
    """The rows of one image: where the first one is, its labels, and the captions of all."""

    where: str
    about: Mapping[str, object]
    captions: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    """A row's cells as text, but for captions, which may be several, and pictures, which may be bytes."""

    where: str
    image: Any
    captions: Sequence[Any]
    about: Mapping[str, object]


def find_table_layout(tables: Sequence[Location], options: LayoutOptions = NO_OPTIONS) -> Layout:
    """Return the layout of a table, or of the pieces of one.

    Raise InputError with row and column for a cell that is missing, and for an image on this machine that is.
    """
    first = tables[0]
    place = first.address if len(tables) == 1 else f"{first.address} and {len(tables) - 1} more"
    infos = [(table, table.find_info()) for table in tables]
    stamps = list_file_stamps([info._replace(name=table.name) for table, info in infos if info is not None])
    if first.ending == ".parquet":
        sources = [_ParquetTable(table, options) for table in tables]
        if sources[0].holds_pictures:
            reading = partial(_read_pictures, sources)
            rows = sum(source.rows for source in sources)
            return Layout(place, "a parquet table with its images", stamps, reading, rows, options=options)
        images = _collect_images(row for source in sources for row in source.read())
    else:
        images = _collect_images(_read_csv(first, options))
    if not images:
        raise InputError(f"{place}: no rows below the heading; expected an image and a caption in each")
    return _build_table_layout(place, first, images, stamps, options)


def _build_table_layout(
    place: str, table: Location, images: Mapping[str, _Image], stamps: Sequence[str], options: LayoutOptions
) -> Layout:
    links = [name for name in images if "://" in name]
    paths = [name for name in images if "://" not in name]
    for name in links:
        if (scheme := name.partition("://")[0].lower()) not in LINK_SCHEMES:
            raise InputError(
                f"{images[name].where}: {name}: an address by {scheme}://; expected https://, s3:// or gs://"
            )
    folder = table.parent
    if paths:
        if table.scheme and any(posixpath.isabs(name) for name in paths):
            name = next(name for name in paths if posixpath.isabs(name))
            raise InputError(
                f"{images[name].where}: {name}: a path of some machine in a table from afar; expected an address"
            )
        folder = find_image_folder(table.parent, paths[0], options.images, images[paths[0]].where)
        stamps = [*stamps, *list_image_stamps(folder, paths, [images[name].where for name in paths])]

    def read() -> Iterator[Record]:
        for number, (name, image) in enumerate(images.items()):
            link = "://" in name
            file = resolve_location(name) if link else folder.join(name)
            image_of = partial(file.read, IMAGE_SECONDS) if link else file.read
            key = f"{number:08d}" if link else name
            yield Record(key, image_of, image.captions, image.about, image.where, required=not link)

    kind = "a table of addresses" if links else "a table"
    far = bool(links or folder.scheme)
    return Layout(place, kind, stamps, read, len(images), far=far, options=options)


def _collect_images(rows: Iterator[_Row]) -> dict[str, _Image]:
    """Return the images in the order of their first rows."""
    images: dict[str, _Image] = {}
    for row in rows:
        image = images.get(row.image)
        if image is None:
            image = images[row.image] = _Image(row.where, row.about)
        image.captions += row.captions
    return images


def choose_columns(place: str, present: Sequence[str], options: LayoutOptions) -> tuple[str, str]:
    """Return the names of the columns of images and of captions. Raise InputError if a column is not there."""
    return (
        _choose_column(place, "--image-column", options.image_column, present, IMAGE_COLUMNS, "images"),
        _choose_column(place, "--caption-column", options.caption_column, present, CAPTION_COLUMNS, "captions"),
    )


def _choose_column(
    place: str, option: str, given: str | None, present: Sequence[str], known: Sequence[str], what: str
) -> str:
    listed = ", ".join(repr(name) for name in present[:12])
    if given is not None:
        if given not in present:
            close = format_word_suggestion(given, present)
            raise InputError(f"{place}: no column {given!r}, which {option} names; it has {listed}{close}")
        return given
    plain = {name.strip().casefold(): name for name in reversed(present)}
    for name in known:
        if name in plain:
            return plain[name]
    raise InputError(
        f"{place}: no column of {what}; its heading has {listed or 'nothing'}, expected one such as "
        f"{', '.join(known[:6])}. `gapctl data pack PLACE {option} NAME --out SHARDS` takes another"
    )


def _read_csv(table: Location, options: LayoutOptions) -> Iterator[_Row]:
    """Yield the rows of a csv, whatever separates its cells. Raise InputError with row, line and column."""
    place, content = table.address, table.read_whole()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:4096]:
        raise InputError(f"{place}: no csv: text in UTF-16, or no text at all; expected UTF-8 with a heading line")
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", errors="surrogateescape", newline="")
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    rows = None
    try:
        separator = _choose_separator(text.readline(), options)
        text.seek(0)
        rows = csv.reader(text, delimiter=separator, skipinitialspace=True, strict=separator == ",")
        heading = [name.strip() for name in next(rows, [])]
        if len(heading) < 2 or any(not name for name in heading):
            found = f"its first line is {','.join(heading)[:60]!r}"
            raise InputError(f"{place}: no csv with a heading line: {found}; {EXPECTED}")
        if "://" in "".join(heading) or any(name.lower().endswith((".jpg", ".jpeg", ".png")) for name in heading):
            raise InputError(
                f"{place}: no heading line: its first line is data ({heading[0][:60]!r}); expected the names of the "
                "columns there, such as filepath and title"
            )
        image_column, caption_column = choose_columns(place, heading, options)
        number = 0
        for cells in rows:
            if not any(cell.strip() for cell in cells):
                continue
            number += 1
            where = f"{place}: row {number} (line {rows.line_num})"
            if len(cells) != len(heading):
                raise InputError(
                    f"{where}: {len(cells)} cells; expected {len(heading)}, as the heading has ({', '.join(heading)}). "
                    "A separator within a cell needs quotes around the cell"
                )
            if separator != "," and any("\n" in cell or "\r" in cell for cell in cells):
                raise InputError(
                    f"{where}: a quote opens a cell that goes on over several lines; expected one line a row. Double "
                    "the quotes within cells, or take them out"
                )
            yield _build_row(
                where, dict(zip(heading, map(str.strip, cells), strict=True)), image_column, caption_column
            )
    except csv.Error as error:
        line = 1 if rows is None else rows.line_num
        raise InputError(f"{place}: line {line}: no csv ({error}); expected cells in matching quotes") from error


def _choose_separator(heading: str, options: LayoutOptions) -> str:
    """Return the separator by which the heading has the columns that are looked for, else the most columns."""
    cells = {each: [name.strip() for name in next(csv.reader([heading], delimiter=each), [])] for each in SEPARATORS}
    for separator, names in cells.items():
        try:
            choose_columns("", names, options)
        except InputError:
            continue
        return separator
    return max(SEPARATORS, key=lambda separator: len(cells[separator]))


def _build_row(where: str, cells: dict[str, object], image_column: str, caption_column: str) -> _Row:
    """Return a row whose image and captions are there. Raise InputError with the column of what is not."""
    image, captions = cells[image_column], cells.pop(caption_column)
    listed = list(captions) if isinstance(captions, list | tuple) else [captions]
    if image is None or image == "":
        raise InputError(f"{where}, column {image_column!r}: empty; expected the path or address of an image")
    if not listed or any(not isinstance(each, str) or not each.strip() for each in listed):
        found = "empty" if all(each is None or isinstance(each, str) for each in listed) else "no text"
        raise InputError(
            f"{where}, column {caption_column!r}: {found}; expected a caption. Fill it in, or take the row out"
        )
    for column, value in ((image_column, image), *((caption_column, each) for each in listed)):
        if isinstance(value, str) and not _is_unicode(value):
            raise InputError(f"{where}, column {column!r}: not UTF-8; expected text in UTF-8")
    plain = {
        name: value for name, value in cells.items() if value is None or isinstance(value, str | int | float | bool)
    }
    return _Row(where, image, listed, {name: value for name, value in plain.items() if value not in (None, "")})


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _ParquetTable:
    """A parquet file, or a copy of one from afar, read a few rows at a time."""

    def __init__(self, table: Location, options: LayoutOptions) -> None:
        import polars as pl

        self.place = table.address
        self._source = io.BytesIO(table.read_whole()) if table.scheme else table.path
        try:
            schema = pl.read_parquet_schema(self._source)
            self.image_column, self.caption_column = choose_columns(self.place, list(schema), options)
            self.rows = int(pl.scan_parquet(self._source, glob=False).select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._build_error(error) from error
        kind = schema[self.image_column]
        self.holds_pictures = isinstance(kind, pl.Binary | pl.Struct) or kind in (pl.Binary, pl.Struct)
        if not self.holds_pictures and kind != pl.String:
            raise InputError(
                f"{self.place}: column {self.image_column!r} holds {kind}; expected paths, addresses or images"
            )
        # What is nested in other columns is no label, and may be large.
        self._columns = [
            name
            for name, each in schema.items()
            if name in (self.image_column, self.caption_column) or each in (pl.String, pl.Boolean) or each.is_numeric()
        ]

    def read(self) -> Iterator[_Row]:
        """Yield the rows. Raise InputError for a missing cell, with its row and column, and for a damaged table."""
        import polars as pl

        step = PICTURES_AT_ONCE if self.holds_pictures else ROWS_AT_ONCE
        for start in range(0, self.rows, step):
            try:
                part = pl.scan_parquet(self._source, glob=False).select(self._columns).slice(start, step).collect()
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
                raise self._build_error(error) from error
            for number, cells in enumerate(part.iter_rows(named=True), start + 1):
                yield _build_row(f"{self.place}: row {number}", cells, self.image_column, self.caption_column)

    def _build_error(self, error: BaseException) -> InputError:
        reason = first_line_of_error(error)
        return InputError(f"{self.place}: not a parquet table, or a damaged one ({reason}); write it again")


def _read_pictures(sources: Sequence[_ParquetTable]) -> Iterator[Record]:
    """Yield a record per row of tables whose cells are images: bytes, or bytes and a path."""
    number = 0
    for source in sources:
        for row in source.read():
            content = row.image.get("bytes") if isinstance(row.image, dict) else row.image
            if not isinstance(content, bytes) or not content:
                raise InputError(f"{row.where}, column {source.image_column!r}: no image in it; expected its bytes")
            yield Record(f"{number:08d}", partial(bytes, content), row.captions, row.about, row.where)
            number += 1
