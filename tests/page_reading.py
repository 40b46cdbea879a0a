"""Reads a report the way a browser does: elements with attributes, the text people see, and the scripts."""

import json
from html.parser import HTMLParser
from typing import Any

_VOID = {"meta", "link", "br", "wbr", "img", "input"}


class PageReader(HTMLParser):
    """What a page holds: `elements` as (tag, attributes), visible `words`, `scripts` and `styles` as text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()

    @property
    def words(self) -> str:
        """The visible text, single-spaced."""
        return " ".join("".join(self._texts).split())

    @property
    def unclosed(self) -> list[str]:
        """Elements that were never closed, or closed in the wrong order."""
        return self._open

    def attributes(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element with that tag."""
        return [attributes for name, attributes in self.elements if name == tag]

    def charts(self) -> dict[str, Any]:
        """The Vega-Lite specifications by name."""
        packed = json.loads(self.scripts[0])
        charts = {}
        for name, spec in packed["charts"].items():
            datasets = {shows: _rows(table, packed["columns"]) for shows, table in spec["datasets"].items()}
            charts[name] = {**spec, "datasets": datasets}
        return charts

    def facts(self) -> dict[str, Any]:
        """What the page's script knows beside the charts."""
        return dict(json.loads(self.scripts[1]))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()
        # An element that ends side by side with the next must not run into it.
        if tag in {"p", "dt", "dd", "th", "td", "h1", "h2", "h3", "summary"}:
            self._texts.append("\n")

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        target = {"script": self.scripts, "style": self.styles}.get(inside, self._texts)
        target.append(data)


def _rows(table: dict[str, Any], columns: list[Any]) -> list[dict[str, Any]]:
    """A table as the page's script unpacks it."""
    named = {name: columns[number] for name, number in table["columns"].items()}
    return [
        {name: values[index] if isinstance(values, list) else values["all"] for name, values in named.items()}
        for index in range(table["length"])
    ]
