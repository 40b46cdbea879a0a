"""Turning values into HTML: everything from a sweep file is escaped, here and nowhere else."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple


class Html(NamedTuple):
    """Text that is already HTML."""

    text: str


def fill(template: str, **values: str | Html) -> Html:
    """One of the templates in `assets/`, with each value put in: plain text is escaped, HTML is not."""
    return Html(Template(asset(f"{template}.html")).substitute({key: _safe(value) for key, value in values.items()}))


def element(tag: str, content: str | Html, **attributes: str) -> Html:
    """`<tag>content</tag>`; underscores in attribute names become hyphens, a trailing one is dropped."""
    named = "".join(f' {_attribute(name)}="{escape(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{named}>{_safe(content)}</{tag}>")


def joined(parts: Iterable[Html], between: str = "\n") -> Html:
    """Pieces of HTML, one after another."""
    return Html(between.join(part.text for part in parts))


def facts(values: Mapping[str, str | Html]) -> Html:
    """Terms and what is said of them, for a `dl`."""
    return joined(
        element("div", joined([element("dt", term), element("dd", said)], "")) for term, said in values.items()
    )


def json_in_script(value: Any) -> Html:
    """JSON that no text in it can end: a script element ends at the first `</`, whatever surrounds it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Html(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def javascript(code: str) -> Html:
    """Code of ours or of a library, with string literals that would end its script element kept from doing so."""
    return Html(code.replace("</script", "<\\/script").replace("<!--", "<\\!--"))


@cache
def asset(name: str) -> str:
    """A file of `report/assets/`."""
    return (files("gapctl.report") / "assets" / name).read_text(encoding="utf-8")


def _safe(value: str | Html) -> str:
    return value.text if isinstance(value, Html) else escape(value)


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")
