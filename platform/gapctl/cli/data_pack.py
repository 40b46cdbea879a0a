"""`gapctl data pack`, and the packing that other verbs do first when they are given no shards.

1. `pack_command` writes image-text data of any layout as shards into a folder.
2. `find_or_pack_data` does the same into the cache, and `format_packed_places` says so.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.console import make_plain_console, show_progress
from gapctl.cli.options import JsonOption
from gapctl.cli.output import check_output_place, print_json_or_text
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.data.image_text.pack import ResolvedPlace


def pack_command(
    place: Annotated[
        str,
        typer.Argument(
            help="A folder of images with captions, a csv, tsv or parquet, COCO's json, or tars; a path or an address.",
            metavar="PLACE",
            show_default=False,
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", help="A new folder: a path or an address.", metavar="FOLDER", show_default=False)
    ],
    images: Annotated[
        str | None,
        typer.Option("--images", help="Where the images are that a json or table names.", metavar="FOLDER"),
    ] = None,
    image_column: Annotated[
        str | None, typer.Option("--image-column", help="The table's column of paths, addresses or images.")
    ] = None,
    caption_column: Annotated[str | None, typer.Option("--caption-column", help="Its column of captions.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write image-text data of any layout as tar shards, with their manifest.

    * A folder of images: `x.jpg` beside `x.txt`, a caption per line, and perhaps `x.json` with labels.

    * A csv, tsv or parquet: a column of paths or addresses (`filepath`, `image`, `path`, `url`, ...) and one of
    captions (`title`, `caption`, `text`, ...). Rows of one image are its captions. Paths are relative to the table.

    * COCO's json of captions, its images in a folder beside it or in `--images`.

    * CLIP_benchmark's shards with class labels: a caption is the first prompt of the image's class.

    * Tars in which the members of one key stand apart.

    Each caption becomes a line of the sample's .txt. `measure`, `intervene`, `data index` and trainings take the same
    places as they are, and keep the shards in the cache. Stopped work goes on when the same command is run again.
    """
    from gapctl.data.image_text.pack import pack_place_into_shards
    from gapctl.data.image_text.records import LayoutOptions

    check_output_place("--out", out)
    with show_progress() as show:
        options = LayoutOptions(images, image_column, caption_column)
        packed = pack_place_into_shards(place, out, options, lambda done, total: show("packing", done, total or None))

    def render() -> None:
        console = make_plain_console()
        shards = f"{packed.shards:,} shard{'' if packed.shards == 1 else 's'}"
        console.print(
            f"{out}: {packed.layout}, {packed.usable:,} usable of {packed.samples:,} samples with {packed.captions:,} "
            f"captions, in {shards}"
        )
        if packed.unreachable:
            console.print(f"{packed.unreachable:,} images could not be fetched; their samples have no image")
        if packed.usable < packed.samples:
            console.print(f"`gapctl data verify {out}/manifest.parquet` names what is wrong with the others")

    print_json_or_text({"folder": out, **asdict(packed)}, render, as_json)
    if not packed.usable:
        raise InputError(f"{place}: none of its {packed.samples:,} samples can be used; expected images with captions")


def find_or_pack_data(places: Sequence[str], *, local: bool) -> "list[ResolvedPlace]":
    """Return the places of shards for data of any layout, packing into the cache with a progress bar.

    Raise InputError for wrong data, named as `--data` where it has to be `local`.
    """
    from gapctl.data.image_text.pack import find_or_pack_shards

    try:
        with show_progress() as show:
            return find_or_pack_shards(
                places, local=local, on_progress=lambda done, total: show("packing", done, total or None)
            )
    except InputError as error:
        raise InputError(f"--data {error}" if local else str(error)) from error


def list_shard_places(resolved: "Sequence[ResolvedPlace]") -> list[str]:
    """Return the places of the shards alone."""
    return [shards for place in resolved for shards in place.shards]


def format_packed_places(resolved: "Sequence[ResolvedPlace]") -> list[str]:
    """Return a line about each place that was packed."""
    lines = []
    for place in resolved:
        if place.packed is not None:
            lost = f"; {place.packed.unreachable:,} images could not be fetched" if place.packed.unreachable else ""
            lines.append(f"{place.place}: {place.packed.layout}, packed into {place.shards[0]}{lost}")
    return lines
