"""`gapctl data stats`: what image-text pairs are like."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.data_index import AddressOption, WorkersOption, workers_of
from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.data.pairs.stats import PairStats, Spread

MOST_BYTES_HERE = 256 << 20
"""Below it, reading captions takes less than starting processes."""
HEADINGS = ("", "mean", "least", "5 %", "25 %", "median", "75 %", "95 %", "most")


def stats_command(
    places: Annotated[
        list[str], typer.Argument(help="Tar shards, or their manifest.", metavar="SHARDS|MANIFEST", show_default=False)
    ],
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with charts there.", metavar="FILE.html")
    ] = None,
    workers: WorkersOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how long captions are, how large images, how much repeats, and how many words there are."""
    from gapctl.cli.page_file import check_page, write_page
    from gapctl.data.pairs.read_samples import manifest_at
    from gapctl.data.pairs.spread import Workers
    from gapctl.data.pairs.stats import stats_of
    from gapctl.errors import InputError

    check_page("--report", report)
    who = workers_of(workers, address)
    manifest = manifest_at(places, who)
    if not len(manifest.usable):
        raise InputError(f"{places[0]}: no sample that can be used; `gapctl data verify` says why")
    small = sum(shard.bytes for shard in manifest.shards) < MOST_BYTES_HERE and address is None
    stats = stats_of(manifest, Workers(1) if small else who)
    if report is not None:
        write_page("--report", report, _page(", ".join(places), manifest.fingerprint, stats))
    if as_json:
        typer.echo(json.dumps(asdict(stats) | {"fingerprint": manifest.fingerprint}, indent=1))
    else:
        _print(stats)


def _print(stats: "PairStats") -> None:
    from rich.table import Table

    from gapctl.cli.safe_console import SafeConsole
    from gapctl.cli.terminal import plain_console

    console = plain_console()
    left_out = ", ".join(f"{count:,} {problem}" for problem, count in stats.problems.items())
    console.print(
        f"{stats.usable:,} usable of {stats.samples:,} samples, {stats.bytes / 1e6:,.0f} MB"
        + (f"; left out: {left_out}" if left_out else "")
    )
    table = Table(*HEADINGS, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, spread, digits in _rows(stats):
        table.add_row(*_cells(name, spread, digits))
    SafeConsole().print(table)
    for line in _sentences(stats):
        console.print(line)


def _rows(stats: "PairStats") -> "list[tuple[str, Spread, int]]":
    return [
        ("words of a caption", stats.caption_words, 0),
        ("characters of a caption", stats.caption_characters, 0),
        ("shorter side of an image", stats.image_shorter_side, 0),
        ("longer side over shorter", stats.image_aspect, 2),
    ]


def _sentences(stats: "PairStats") -> list[str]:
    words, captions, images = stats.vocabulary, stats.repeated_captions, stats.repeated_images
    commonest = ", ".join(f"{word} {_share(count, words.occurrences)}" for word, count in words.commonest[:10])
    vocabulary = (
        f"vocabulary: {words.words:,} words in {words.occurrences:,} occurrences; {words.for_90_percent:,} of them "
        f"make 90 % of these, {words.once:,} occur once"
    )
    return [
        "images: " + ", ".join(f"{count:,} {form}" for form, count in stats.forms.items()),
        f"repeated captions: {captions.values:,}, {captions.beyond_first:,} samples beyond the first of each",
        f"repeated images: {images.values:,}, {images.beyond_first:,} samples beyond the first (length and both ends)",
        vocabulary,
        f"commonest: {commonest}",
    ]


def _cells(name: str, spread: "Spread", digits: int) -> list[str]:
    return [name, *(f"{value:,.{digits}f}" for value in (spread.mean, *spread.quantiles))]


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f} %"


def _page(places: str, fingerprint: str, stats: "PairStats") -> str:
    from gapctl.report.pairs_page import PairsPage, render_pairs

    lines = [line.partition(": ") for line in _sentences(stats)]
    page = PairsPage(
        title=f"{stats.usable:,} image-text pairs",
        headings=HEADINGS,
        rows=[_cells(*row) for row in _rows(stats)],
        facts={
            "shards": places,
            "fingerprint": fingerprint,
            "left out": ", ".join(f"{count:,} {problem}" for problem, count in stats.problems.items()) or "nothing",
            **{name: text for name, _, text in lines},
        },
        caption_words=stats.caption_words.counts,
        image_sides=stats.image_shorter_side.counts,
        commonest=stats.vocabulary.commonest,
    )
    return render_pairs(page)
