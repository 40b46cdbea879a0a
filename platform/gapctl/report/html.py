"""HTML from values: everything that comes from a sweep file is escaped, here and nowhere else.

`build_element` and `fill_template` make `Html`, which is the only type that is not escaped again. Below are the packing
of chart data for a page, the rendering of figures as SVG and PNG, and the cached bundle of Vega.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Final, NamedTuple

from gapctl.errors import InputError
from gapctl.folders import find_cache_root
from gapctl.io.atomic import write_whole
from gapctl_charts.data import Rows
from gapctl_charts.figure import Figure


class Html(NamedTuple):
    """Text that is already HTML."""

    text: str


def fill_template(template: str, **values: str | Html) -> Html:
    """Fill one of the templates in `assets/`: escape plain text, insert HTML as it is."""
    return Html(
        Template(read_asset(f"{template}.html")).substitute({key: _escape_text(value) for key, value in values.items()})
    )


def build_element(tag: str, content: str | Html, **attributes: str) -> Html:
    """Build `<tag>content</tag>`; underscores in attribute names become hyphens, a trailing one is dropped."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    named = "".join(f' {names[name]}="{escape(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{named}>{_escape_text(content)}</{tag}>")


def join_html(parts: Iterable[Html], between: str = "\n") -> Html:
    """Join pieces of HTML."""
    return Html(between.join(part.text for part in parts))


def render_facts(values: Mapping[str, str | Html]) -> Html:
    """Render terms with their descriptions, for a `dl`."""
    return join_html(
        build_element("div", join_html([build_element("dt", term), build_element("dd", said)], ""))
        for term, said in values.items()
    )


def embed_json(value: Any) -> Html:
    """Write JSON that no text in it can end: a script element ends at the first `</`, whatever surrounds it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def embed_javascript(code: str) -> Html:
    """Escape string literals in code that would end its script element."""
    return Html(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


@cache
def read_asset(name: str) -> str:
    """Read a file of `report/assets/`."""
    return (files("gapctl.report") / "assets" / name).read_text(encoding="utf-8")


def _escape_text(value: str | Html) -> str:
    return value.text if isinstance(value, Html) else escape(value)


def pack_charts(figures: Sequence[Figure]) -> dict[str, Any]:
    """Pack specifications by name as `charts`, whose datasets name their columns by number in `columns`.

    A column is a list, or `{"all": value}` where all rows have the same value. The page's script unpacks them.
    """
    columns: dict[str, int] = {}
    charts = {}
    for figure in figures:
        datasets = {name: _pack_rows(rows, columns) for name, rows in figure.spec["datasets"].items()}
        charts[figure.name] = {**figure.spec, "datasets": datasets}
    return {"charts": charts, "columns": [json.loads(column) for column in columns]}


def _pack_rows(rows: Rows, columns: dict[str, int]) -> dict[str, Any]:
    names = list(rows[0]) if rows else []
    written = [json.dumps(_compress_column([row[name] for row in rows])) for name in names]
    numbers = [columns.setdefault(text, len(columns)) for text in written]
    return {"length": len(rows), "columns": dict(zip(names, numbers, strict=True))}


def _compress_column(values: Sequence[Any]) -> Any:
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


@cache
def load_vega_code() -> str:
    """Return the chart library's code, which a page needs once.

    Bundling it takes longer than the rest of a page, so the bundle is kept in the cache folder.
    """
    try:
        kept = _locate_cache_file()
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


def _locate_cache_file() -> Path:
    from importlib.metadata import version

    return find_cache_root() / "vega" / f"{version('vl-convert-python')}-{get_vega_lite_version()}.js"


def _store_in_cache(file: Path, code: str) -> None:
    """Write the bundle to the cache; ignore failures, which only cost a second at the next page."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, f"{_hash_code(code)}\n{code}".encode())


def _hash_code(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
