"""The colours of figures and page: told apart by colour-blind readers, on paper, on light screens and on dark ones."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple


class Shade(NamedTuple):
    """A colour on a light ground (paper, too) and on a dark one."""

    light: str
    dark: str


_INK: Final = {
    "ink": Shade("#1b1f24", "#e6e9ed"),
    "muted": Shade("#59636e", "#a2acb8"),
    "rule": Shade("#d5dae0", "#3a424c"),
    "surface": Shade("#ffffff", "#171b20"),
    "ground": Shade("#f5f6f8", "#0e1115"),
    "negligible": Shade("#e3e6ea", "#333b45"),
    "supported": Shade("#00684a", "#2fbf8f"),
    "refuted": Shade("#b04a00", "#f08a4b"),
    "inconclusive": Shade("#59636e", "#a2acb8"),
    "alert": Shade("#8a5a00", "#f2c14e"),
}
# Okabe and Ito 2008, without the yellow that white paper swallows.
_CATEGORIES: Final = (
    Shade("#0072b2", "#4fa6e0"),
    Shade("#d55e00", "#f08a4b"),
    Shade("#009e73", "#2fbf8f"),
    Shade("#b3578c", "#dd9cc4"),
    Shade("#c98500", "#f2c14e"),
    Shade("#56b4e9", "#a9d8f5"),
    Shade("#59636e", "#a2acb8"),
)
# Viridis, without the end that the ground swallows.
_STEPS_LIGHT: Final = (
    "#440154", "#481b6d", "#46337f", "#3f4889", "#365d8d", "#2d708e",
    "#26818e", "#20928c", "#20a386", "#31b57b", "#52c569", "#7ad151",
)  # fmt: skip
_STEPS_DARK: Final = (
    "#2a788e", "#25858e", "#21918c", "#1f9e89", "#27ad81", "#3dbc74",
    "#5ec962", "#84d44b", "#a8db34", "#c8e020", "#e5e419", "#fde725",
)  # fmt: skip

SHADES: Final[Mapping[str, Shade]] = MappingProxyType(
    _INK
    | {f"category-{index}": shade for index, shade in enumerate(_CATEGORIES)}
    | {f"step-{index}": Shade(*pair) for index, pair in enumerate(zip(_STEPS_LIGHT, _STEPS_DARK, strict=True))}
)


class Look(NamedTuple):
    """How charts are drawn: for files, `width` pixels wide on white, or for a page, as wide as their container."""

    width: int | Literal["container"]

    @property
    def in_page(self) -> bool:
        """Whether a page gives the chart its title, its width and its colours."""
        return self.width == "container"

    def colour(self, name: str) -> str:
        """A named colour: in a page a CSS variable, which follows the reader's light or dark mode, and print."""
        return f"var(--{name})" if self.in_page else SHADES[name].light

    def categories(self, count: int) -> list[str]:
        """Colours for levels without an order; they repeat beyond seven."""
        return [self.colour(f"category-{index % len(_CATEGORIES)}") for index in range(count)]

    def steps(self, count: int) -> list[str]:
        """Colours for ordered levels, dark to bright; neighbours share one beyond twelve."""
        last = len(_STEPS_LIGHT) - 1
        return [self.colour(f"step-{round(index * last / max(1, count - 1))}") for index in range(count)]

    def config(self) -> dict[str, Any]:
        """Vega-Lite's configuration: quiet axes, one ink."""
        ink, muted, rule = (self.colour(name) for name in ("ink", "muted", "rule"))
        text = {"labelColor": ink, "titleColor": ink, "labelFontSize": 12, "titleFontSize": 12}
        return {
            "background": "transparent" if self.in_page else self.colour("surface"),
            "font": ("system-ui, " if self.in_page else "") + "Liberation Sans, Arial, Helvetica, sans-serif",
            "padding": 2 if self.in_page else 12,
            "view": {"stroke": None},
            "axis": text
            | {"titleFontWeight": "normal", "domainColor": muted, "tickColor": muted, "gridColor": rule}
            | {"labelColor": muted, "gridOpacity": 0.8, "titlePadding": 8},
            "legend": text
            | {"orient": "top", "titleFontWeight": "normal", "symbolStrokeWidth": 2, "symbolOpacity": 1}
            | {"columns": 4, "columnPadding": 18, "labelLimit": 260},
            "title": {"color": ink, "subtitleColor": muted, "anchor": "start", "fontSize": 14, "subtitleFontSize": 12},
        }


FILE_LOOK: Final = Look(480)
PAGE_LOOK: Final = Look("container")


def css_variables(mode: Literal["light", "dark"]) -> str:
    """The declarations of all colours in one mode."""
    return " ".join(f"--{name}: {getattr(shade, mode)};" for name, shade in SHADES.items())
