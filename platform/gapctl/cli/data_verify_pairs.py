"""`gapctl data verify` for image-text shards: what is wrong, shard by shard."""

import json
import time
from typing import TYPE_CHECKING, Any

import typer

from gapctl.cli.data_index import bytes_bar, shared_keys, workers_of

if TYPE_CHECKING:
    from gapctl.data.pairs.spread import Workers
    from gapctl.data.pairs.verify import PairsVerified

NAMED = 3
"""Samples of one problem in one shard that a person is told of by key; `--json` names all."""


def verify_pairs(places: list[str], workers: int | None, address: str | None, as_json: bool) -> None:
    """Checks shards, or the shards of a manifest; leaves with 1 where anything is wrong."""
    began = time.perf_counter()
    verified = _verified(places, workers_of(workers, address))
    seconds = time.perf_counter() - began
    if as_json:
        typer.echo(json.dumps(_document(verified, seconds), indent=1))
    else:
        _print(verified, seconds)
    if not verified.sound:
        raise typer.Exit(1)


def _verified(places: list[str], workers: "Workers") -> "PairsVerified":
    from gapctl.data.pairs.manifest import read_manifest
    from gapctl.data.pairs.stored import stored_shards
    from gapctl.data.pairs.verify import verify_manifest, verify_shards
    from gapctl.folders import expand_home

    with bytes_bar("decoding") as show:
        if len(places) == 1 and places[0].endswith(".parquet"):
            return verify_manifest(read_manifest(expand_home(places[0])), workers, show)
        return verify_shards(stored_shards(places), workers, show)


def _document(verified: "PairsVerified", seconds: float) -> dict[str, Any]:
    from gapctl.data.pairs.tally import tally_of

    found = verified.found
    tally = tally_of(found)
    return {
        "ok": verified.sound,
        "shards": len(found.shards),
        "samples": tally.samples,
        "usable": tally.usable,
        "problems": dict(tally.problems),
        "unused_shards": dict(tally.unused),
        "wrong_shards": [wrong._asdict() for wrong in verified.wrong],
        "wrong_samples": verified.problems.to_dicts(),
        "repeated_images": verified.repeated,
        "shared_keys": shared_keys(found),
        "ignored": {shard.address: shard.ignored for shard in found.shards if shard.ignored},
        "seconds": round(seconds, 3),
    }


def _print(verified: "PairsVerified", seconds: float) -> None:
    from gapctl.cli.terminal import plain_console
    from gapctl.data.pairs.tally import NO_SAMPLES, tally_of

    found, console = verified.found, plain_console()
    for wrong in verified.wrong:
        console.print(f"{wrong.address}: {wrong.what}")
    for line in _wrong_samples(verified):
        console.print(line)
    tally = tally_of(found)
    for shard in found.shards:
        if tally.unused.get(shard.address) == NO_SAMPLES and not shard.damage:
            console.print(f"{shard.address}: {NO_SAMPLES}")
        if shard.ignored:
            kinds = ", ".join(f"{count:,} {ending}" for ending, count in shard.ignored.items())
            console.print(f"{shard.address}: members of other kinds, which are never read: {kinds}")
    console.print(
        f"{tally.usable:,} of {tally.samples:,} samples in {len(found.shards):,} shards can be used; "
        f"all images decoded in {seconds:.1f} s"
    )
    if tally.problems:
        console.print(f"left out: {tally.reasons}")
    if verified.repeated:
        console.print(f"{verified.repeated:,} images stand under another key as well; they are kept")
    if again := shared_keys(found):
        console.print(f"{again:,} keys stand in more than one shard; such samples are told apart by their shard")


def _wrong_samples(verified: "PairsVerified") -> list[str]:
    import polars as pl

    groups = verified.problems.group_by("shard", "problem", maintain_order=True).agg("key", pl.len())
    return [
        f"{shard}: {count:,} {problem}: {', '.join(keys[:NAMED])}{', ...' if count > NAMED else ''}"
        for shard, problem, keys, count in groups.iter_rows()
    ]
