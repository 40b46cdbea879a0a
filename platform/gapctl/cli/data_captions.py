"""`gapctl data captions`: every caption treatment, and what it makes of one's own samples."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from gapctl.data.captions import KeepRule
    from gapctl.data.pairs.samples import Sample

MOST_SHOWN = 1000


def captions_command(
    places: Annotated[
        list[str] | None,
        typer.Argument(help="Tar shards or a manifest; without them, only the table.", metavar="[SHARDS|MANIFEST]"),
    ] = None,
    show: Annotated[int, typer.Option("--show", min=1, max=MOST_SHOWN, help="How many samples.")] = 10,
    keep: Annotated[
        str | None, typer.Option("--keep", help="Only these treatments; by default all.", metavar="NAME,...")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", help="The share that words and length_matched keep.")] = 0.25,
    sentences: Annotated[int, typer.Option("--sentences", help="How many of them sentences keeps.")] = 1,
    field: Annotated[
        str | None, typer.Option("--field", help="The json key of a second caption, for enriched.", metavar="KEY")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="The trial's seed.")] = 0,
    epoch: Annotated[int, typer.Option("--epoch", min=0, max=2**31 - 1, help="The epoch, counted from 0.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """List the caption treatments, and show what a training of this seed would read in this epoch."""
    rules = _rules(keep, rate, sentences, field)
    samples = _first_samples(places, show) if places else []
    treated = [_treated(rules, number, sample, seed, epoch) for number, sample in samples]
    if as_json:
        typer.echo(json.dumps({"treatments": _table(rules), "samples": treated}, indent=1))
    else:
        _print(rules, treated)


def _rules(keep: str | None, rate: float, sentences: int, field: str | None) -> "list[KeepRule]":
    from gapctl.data.captions import TREATMENTS, KeepRule
    from gapctl.errors import InputError

    names = (
        [name.strip() for name in keep.split(",")] if keep else [name for name in TREATMENTS if _usable(name, field)]
    )
    try:
        return [KeepRule(name, rate, sentences, field or "") for name in names]
    except ValueError as error:
        raise InputError(f"{_option(str(error))}: {error}") from error


def _option(message: str) -> str:
    """The option that a rule complains of."""
    if message.endswith("second caption"):
        return "--field"
    return f"--{message.split(' ', 1)[0]}"


def _usable(name: str, field: str | None) -> bool:
    return name != "enriched" or field is not None


def _first_samples(places: list[str], show: int) -> "list[tuple[int, Sample]]":
    from itertools import islice

    from gapctl.data.pairs.read_samples import manifest_at, read_rows
    from gapctl.data.pairs.spread import Workers
    from gapctl.errors import InputError

    manifest = manifest_at(places, Workers(1))
    usable = manifest.samples.with_row_index("number").filter(manifest.samples["problem"].is_null())
    if not len(usable):
        raise InputError(f"{places[0]}: no sample that can be used; `gapctl data verify` says why")
    return [(row["number"], sample) for row, sample in islice(read_rows(usable.head(show)), show)]


def _treated(rules: "Sequence[KeepRule]", number: int, sample: "Sample", seed: int, epoch: int) -> dict[str, Any]:
    from gapctl.data.captions import treat

    caption = sample.caption or ""
    found = {rule.keep: treat(rule, caption, sample.about, seed, epoch, number) for rule in rules}
    texts = {name: None if treated is None else treated._asdict() for name, treated in found.items()}
    return {"sample": number, "key": sample.key, "caption": caption, "treated": texts}


def _table(rules: "Sequence[KeepRule]") -> list[dict[str, Any]]:
    from gapctl.data.captions import TREATMENTS

    lines = [(rule, TREATMENTS[rule.keep]) for rule in rules]
    return [
        {
            "keep": rule.keep,
            "removes": line.removes,
            "needs": line.needs or None,
            "random_per_access": line.per_access,
            "private_bits_of_12_words": None if line.private_bits is None else round(line.private_bits(12, rule), 2),
        }
        for rule, line in lines
    ]


def _print(rules: "Sequence[KeepRule]", samples: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from gapctl.cli.safe_console import SafeConsole
    from gapctl.cli.terminal import plain_console

    table = Table("keep", "removes", "anew each time", "bits of chance", "needs", box=None, pad_edge=False)
    for line in _table(rules):
        bits = line["private_bits_of_12_words"]
        shown = "by caption" if bits is None else f"{bits:g}"
        table.add_row(line["keep"], line["removes"], "yes" if line["random_per_access"] else "no", shown, line["needs"])
    SafeConsole().print(table)
    console = plain_console()
    console.print("bits of chance: what only the text has, by which words and in which order, for twelve words\n")
    for sample in samples:
        console.print(f"{sample['key']}: {sample['caption']}")
        for name, treated in sample["treated"].items():
            text = "(the sample lacks what it needs)" if treated is None else treated["text"] or "(nothing)"
            console.print(f"  {name:15s}{text}")
