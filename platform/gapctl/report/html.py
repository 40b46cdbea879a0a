"""Pages from the templates in `templates/`, which escape every text; charts as data of a page, as SVG and as PNG.

`render_page` makes every HTML page. Below it are the packing of chart data for a page, the rendering of figures as
files, and the cached bundle of Vega.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue

from gapctl.errors import InputError
from gapctl.folders import find_cache_root
from gapctl.io.atomic import write_file_atomically
from gapctl.report.text import format_fact, format_number
from gapctl_charts.data import Rows
from gapctl_charts.figure import Figure
from gapctl_charts.look import SHADES, css_variables


class RunPages(NamedTuple):
    """The address at which MLflow shows the trainings, and each trial's page below it.

    `started_by` is the command that must be running for the address to answer; None where a server always does.
    """

    address: str
    started_by: str | None
    pages: Mapping[str, str]


CODE: Final = Markup("<code>{}</code>")
HASH: Final = Markup('<span class="hash">{}</span>')
"""For `format`, which escapes what it is given."""


def render_page(
    template: str, title: str, figures: Sequence[Figure], run_pages: RunPages | None = None, **values: object
) -> str:
    """Return a complete HTML page by a template: its content, its charts' specifications, and the code that draws them.

    The template also sees `title`, `figures` and `run_pages`. Texts are escaped. Equal arguments give equal text.
    """
    page = load_templates().get_template(f"{template}.html")
    return page.render(
        title=title,
        light_colours=css_variables("light"),
        dark_colours=css_variables("dark"),
        style=Markup(read_asset("page.css")),
        charts=embed_json(pack_charts(figures)),
        script_facts=embed_json(_collect_script_facts(run_pages)),
        vega=embed_javascript(load_vega_code()),
        script=embed_javascript("\n".join(read_asset(name) for name in ("charts.js", "runs.js", "page.js"))),
        figures=figures,
        run_pages=run_pages,
        **values,
    )


@cache
def load_templates() -> Environment:
    """Return the templates; a name that a page does not pass is an error."""
    folder = FileSystemLoader(Path(__file__).with_name("templates"))
    templates = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    templates.filters["number"] = format_number
    templates.filters["fact"] = format_fact
    templates.filters["sort_value"] = _format_sort_value
    return templates


Delimiters = tuple[str, str, str, str, str, str]
"""What begins and ends a block, a variable and a comment of a template."""


@cache
def load_text_templates(
    escape: Callable[[str], Markup], delimiters: Delimiters = ("{%", "%}", "{{", "}}", "{#", "#}")
) -> Environment:
    """Return the templates with another language's escapes for all that is not `Markup`."""
    return Environment(
        *delimiters,
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else escape(str(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _format_sort_value(value: float | None) -> str:
    """Write a number exactly, for the script that sorts a table."""
    return repr(value) if value is not None and math.isfinite(value) else "NaN"


def _collect_script_facts(run_pages: RunPages | None) -> JsonValue:
    """Collect what the page's script needs beside the charts: colours for files, and MLflow's page of each trial."""
    return {
        "paper": {name: shade.light for name, shade in SHADES.items()},
        "mlflow": None if run_pages is None else run_pages.address,
        "pages": {} if run_pages is None else dict(run_pages.pages),
    }


def embed_json(value: object) -> Markup:
    """Write JSON that no text in it can end: a script element ends at the first `</`, whatever surrounds it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def embed_javascript(code: str) -> Markup:
    """Escape string literals in code that would end its script element."""
    return Markup(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


@cache
def read_asset(name: str) -> str:
    """Read a file of `report/assets/`."""
    return (files("gapctl.report") / "assets" / name).read_text(encoding="utf-8")


def pack_charts(figures: Sequence[Figure]) -> dict[str, object]:
    """Pack specifications by name as `charts`, whose datasets name their columns by number in `columns`.

    A column is a list, or `{"all": value}` where all rows have the same value. The page's script unpacks them.
    """
    columns: dict[str, int] = {}
    charts = {}
    for figure in figures:
        datasets = {name: _pack_rows(rows, columns) for name, rows in figure.spec["datasets"].items()}
        charts[figure.name] = {**figure.spec, "datasets": datasets}
    return {"charts": charts, "columns": [json.loads(column) for column in columns]}


def _pack_rows(rows: Rows, columns: dict[str, int]) -> dict[str, object]:
    names = list(rows[0]) if rows else []
    written = [json.dumps(_compress_column([row[name] for row in rows])) for name in names]
    numbers = [columns.setdefault(text, len(columns)) for text in written]
    return {"length": len(rows), "columns": dict(zip(names, numbers, strict=True))}


def _compress_column(values: Sequence[object]) -> object:
    first = values[0]
    return {"all": first} if all(type(value) is type(first) and value == first for value in values) else values


PIXELS_PER_POINT: Final = 2.0
BUNDLE_ENTRY: Final = "window.vegaEmbed = vegaEmbed;"


def render_svg(figure: Figure) -> str:
    """Render a figure as SVG, without a network; equal figures give equal text."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(json.dumps(figure.spec), vl_version=get_vega_lite_version(), allowed_base_urls=[])
    return str(svg)


def render_png(svg: str) -> bytes:
    """Render an SVG as PNG, at twice its nominal size."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=PIXELS_PER_POINT))


def render_png_and_svg_files(figures: Iterable[Figure]) -> dict[str, bytes]:
    """Return each figure as PNG, at twice its nominal size, and as SVG, by file name; draw without a network.

    Equal figures give equal bytes.
    """
    files: dict[str, bytes] = {}
    for drawn in figures:
        svg, name = render_svg(drawn), make_file_name(drawn)
        files |= {f"{name}.png": render_png(svg), f"{name}.svg": svg.encode()}
    return files


def make_file_name(figure: Figure) -> str:
    """Return the name of a figure's file, without its suffix."""
    return re.sub(r"[^a-z0-9]+", "-", figure.name.lower()).strip("-")


@cache
def load_vega_code() -> str:
    """Return the chart library's code, which a page needs once.

    Bundling it takes longer than the rest of a page, so the bundle is kept in the cache folder.
    """
    from importlib.metadata import version

    try:
        kept = find_cache_root() / "vega" / f"{version('vl-convert-python')}-{get_vega_lite_version()}.js"
    except InputError:  # no cache folder is known
        return _build_vega_bundle()
    with suppress(OSError, ValueError):
        digest, _, code = kept.read_text(encoding="utf-8").partition("\n")
        if digest == _hash_code(code):
            return code
    code = _build_vega_bundle()
    _store_in_cache(kept, code)
    return code


def get_vega_lite_version() -> str:
    """Return the version of Vega-Lite that the charts are written in, as vl_convert names it."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _build_vega_bundle() -> str:
    import vl_convert

    return str(vl_convert.javascript_bundle(BUNDLE_ENTRY, vl_version=get_vega_lite_version()))


def _store_in_cache(file: Path, code: str) -> None:
    """Write the bundle to the cache; ignore failures, which only cost a second at the next page."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file_atomically(file, f"{_hash_code(code)}\n{code}".encode())


def _hash_code(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
