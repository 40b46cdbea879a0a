"""`gapctl new`: copy a sweep to edit, with its comments, under a name of its own."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from gapctl.cli.completion import complete_sweeps
from gapctl.cli.console import make_plain_console
from gapctl.cli.output import build_write_error
from gapctl.config.hypotheses import SLUG
from gapctl.config.load import SUFFIX, find_sweep_file, load_sweep, load_sweep_text
from gapctl.config.yaml_file import YamlSource, parse_yaml_value, read_yaml
from gapctl.errors import InputError
from gapctl.io.atomic import stage_file_replacement

SCHEMA_LINE: Final = re.compile(r"^(# yaml-language-server: \$schema=)(?!\w+://|/)(\S+)$", re.MULTILINE)
"""The line by which editors check a sweep file as it is typed; its path is relative to the file."""


def new_command(
    file: Annotated[
        Path,
        typer.Argument(
            help="The file to write; the sweep is named after it.", show_default=False, metavar=f"FILE{SUFFIX}"
        ),
    ],
    original: Annotated[
        Path,
        typer.Option(
            "--from", help="The sweep to copy: a file, or a name.", metavar="FILE", autocompletion=complete_sweeps
        ),
    ] = Path("imbalance"),
) -> None:
    """A copy of a sweep to edit: its comments are kept, and its name is the file's."""
    target = file if file.suffix else file.with_suffix(SUFFIX)
    name = _name_sweep(target)
    if target.exists():
        raise InputError(f"{target}: exists already; expected a new file. Choose another name, or move it away")
    if not target.parent.is_dir():
        raise build_write_error("FILE", target, f"there is no folder {target.parent}")
    load_sweep(original)
    source = read_yaml(find_sweep_file(original))
    if name == source.document["name"]:
        raise InputError(
            f"{target}: its sweep would be named {name}, as that of {source.path} is; expected another name, since the "
            "ledger keeps what was declared by name"
        )
    text = _point_to_schema(_rename_sweep(source, name), source.path, target)
    load_sweep_text(text, target)
    try:
        with stage_file_replacement(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise build_write_error("FILE", target, error) from error
    console = make_plain_console()
    console.print(f"{target}: a copy of {original}, named {name}")
    console.print(f"Edit it, then: gapctl plan {shlex.quote(str(target))}")
    console.print("Trainings that both ask for are shared, by whatever name.")


def _name_sweep(target: Path) -> str:
    """Return the sweep's name: the file's, in lower case, with _ in place of what a name cannot hold."""
    name = re.sub(r"[^a-z0-9_-]+", "_", target.stem.lower()).strip("_-")
    if not re.fullmatch(SLUG, name) or len(name) > 80:
        raise InputError(f"{target}: no sweep can be named after it; expected letters or digits, at most 80")
    return name


def _rename_sweep(source: YamlSource, name: str) -> str:
    """Return the file's text with another name, and everything else as it is."""
    root, _ = parse_yaml_value(source.text)
    import yaml

    assert isinstance(root, yaml.MappingNode)
    (value,) = (value for key, value in root.value if key.value == "name")
    quoted = name if isinstance(parse_yaml_value(name)[1], str) else f"'{name}'"
    return source.text[: value.start_mark.index] + quoted + source.text[value.end_mark.index :]


def _point_to_schema(text: str, source: Path, target: Path) -> str:
    """Return the text with its schema's path as seen from the copy; a schema that is not there is left out."""
    if source.parent.resolve() == target.parent.resolve():
        return text

    def write_new_line(match: "re.Match[str]") -> str:
        schema = source.parent.resolve() / match[2]
        return f"{match[1]}{schema}" if schema.is_file() else "#"

    return SCHEMA_LINE.sub(write_new_line, text)
