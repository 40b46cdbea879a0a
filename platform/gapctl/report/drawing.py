"""Vega, in which charts are written: a figure as SVG and PNG, and the library's code for a page."""

import hashlib
import json
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from gapctl.errors import InputError
from gapctl.folders import cache_root
from gapctl_charts.figure import Figure

PIXELS_PER_POINT: Final = 2.0
EXPORTED: Final = "window.vegaEmbed = vegaEmbed;"


def svg_of(figure: Figure) -> str:
    """The figure as SVG, drawn without a network; equal figures give equal text."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(json.dumps(figure.spec), vl_version=vega_lite_version(), allowed_base_urls=[])
    return str(svg)


def png_of(svg: str) -> bytes:
    """An SVG as PNG, twice its nominal size."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=PIXELS_PER_POINT))


@cache
def vega_code() -> str:
    """The chart library's code, which a page needs once.

    Bundling it takes longer than everything else that a page needs, so the bundle is kept in the cache folder.
    """
    try:
        kept = _cache_file()
    except InputError:  # no cache folder is known
        return _bundled()
    with suppress(OSError, ValueError):
        digest, _, code = kept.read_text(encoding="utf-8").partition("\n")
        if digest == _digest(code):
            return code
    code = _bundled()
    _keep(kept, code)
    return code


def vega_lite_version() -> str:
    """The Vega-Lite that the charts are written in, as vl_convert names it."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _bundled() -> str:
    import vl_convert

    return str(vl_convert.javascript_bundle(EXPORTED, vl_version=vega_lite_version()))


def _cache_file() -> Path:
    from importlib.metadata import version

    return cache_root() / "vega" / f"{version('vl-convert-python')}-{vega_lite_version()}.js"


def _keep(file: Path, code: str) -> None:
    """A cache that cannot be written costs a second at the next page, and is no reason to fail."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(f"{_digest(code)}\n{code}", encoding="utf-8")
        part.replace(file)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
