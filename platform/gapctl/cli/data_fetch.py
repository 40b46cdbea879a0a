"""`gapctl data fetch cc12m`: say what it takes, bring the shards from the hub, and compare them with what is published.

1. `fetch_cc12m` plans the download; with `--plan` it prints bytes, hours and disk, and stops.
2. Otherwise it downloads, and prints the counts and where the manifest is.
"""

from typing import TYPE_CHECKING, Final

import typer

from gapctl.cli.console import SafeConsole, make_plain_console, make_table, show_progress
from gapctl.cli.output import print_json_or_text
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.data.published_shards import DownloadPlan, DownloadResult, PublishedSet

LINE_RATES: Final = {"100 Mbit/s": 0.1e9 / 8, "1 Gbit/s": 1e9 / 8, "10 Gbit/s": 10e9 / 8}
"""Bytes per second of the lines that a plan gives hours for."""
MAX_WRONG_SHARDS: Final = 5
"""Shards with other counts than published that are printed; `--json` has all."""


def fetch_cc12m(out: str | None, mirror: str | None, plan_only: bool, as_json: bool) -> None:
    """Download CC12M's shards from the hub to a path or an address, or only say what that takes."""
    from gapctl.data.published_shards import CC12M, download_shards, plan_download

    if out is None:
        raise InputError(
            "--out: none given; expected where CC12M goes, a folder or an object store such as s3://BUCKET/cc12m. With "
            "--plan it is only said how many bytes, how many hours and how much disk that takes"
        )
    plan = plan_download(CC12M, out, mirror)
    if plan_only:
        _print_plan(CC12M, plan, as_json)
        return
    with show_progress(in_bytes=True) as show:
        done = download_shards(plan, lambda come, total: show("cc12m", come, total))
    _print_result(CC12M, plan, done, as_json)
    if done.wrong:
        raise typer.Exit(1)


def _print_plan(published: "PublishedSet", plan: "DownloadPlan", as_json: bool) -> None:
    from gapctl.report.text import format_duration

    hours = {rate: plan.bytes_left / speed / 3600 for rate, speed in LINE_RATES.items()}
    document = {
        "source": plan.hub.page,
        "out": plan.out.address,
        "licence": published.licence,
        "shards": len(plan.shards),
        "samples": published.samples,
        "bytes": plan.bytes,
        "shards_left": len(plan.left),
        "bytes_left": plan.bytes_left,
        "hours": {rate: round(value, 2) for rate, value in hours.items()},
        "disk_needed": plan.disk_needed,
        "disk_free": plan.free,
    }

    def render() -> None:
        console = make_plain_console()
        console.print(f"{plan.hub.page}: {published.title}. Licence: {published.licence}")
        console.print(f"{len(plan.shards):,} shards of {published.samples:,} samples, {_format_gigabytes(plan.bytes)}")
        console.print(
            f"left to bring to {plan.out.address}: {len(plan.left):,} shards, {_format_gigabytes(plan.bytes_left)}"
        )
        console.print(
            f"disk of this machine: {_format_gigabytes(plan.disk_needed)} needed, {_format_gigabytes(plan.free)} free"
            + ("" if plan.disk_needed <= plan.free else ": TOO LITTLE")
        )
        table = make_table("line", "time", right=(1,))
        for rate, value in hours.items():
            table.add_row(rate, format_duration(3600 * value))
        SafeConsole().print(table)

    print_json_or_text(document, render, as_json)


def _print_result(published: "PublishedSet", plan: "DownloadPlan", done: "DownloadResult", as_json: bool) -> None:
    samples = done.manifest.sample_count
    document = {
        "source": plan.hub.page,
        "manifest": done.place,
        "fingerprint": done.manifest.fingerprint,
        "licence": published.licence,
        "shards": len(plan.shards),
        "fetched": done.fetched,
        "bytes": plan.bytes,
        "samples": samples,
        "published_samples": published.samples,
        "usable": done.manifest.usable_count,
        "wrong_shards": done.wrong,
    }

    def render() -> None:
        console = make_plain_console()
        for line in done.wrong[:MAX_WRONG_SHARDS]:
            console.print(line)
        if done.wrong:
            console.print(f"{len(done.wrong):,} shards have other counts than are published; their bytes are the hub's")
        console.print(
            f"{done.place}: {samples:,} of {published.samples:,} published samples in {len(plan.shards):,} shards, "
            f"{_format_gigabytes(plan.bytes)}, {done.manifest.usable_count:,} usable, fingerprint "
            f"{done.manifest.fingerprint}; {done.fetched:,} shards downloaded, each checked by its sha256"
        )
        console.print(f"In a sweep file: data: {{dataset: image_text, source: {done.place}}}")

    print_json_or_text(document, render, as_json)


def _format_gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
