"""The figure of a question: its first hypothesis' response by the treatment, or what all hypotheses measured."""

from typing import NamedTuple

from gapctl.analysis.judged import Judged
from gapctl.report.drawing import svg_of
from gapctl.report.figures import response_figure
from gapctl.report.strips import forest_figure
from gapctl_charts.figure import Figure, trusted
from gapctl_charts.look import FILE_LOOK


class Illustration(NamedTuple):
    """A figure as SVG, with the path that the page gives it, and its words."""

    path: str
    title: str
    caption: str
    content: bytes


def illustration(judged: Judged, folder: str) -> Illustration | None:
    """The figure of one sweep's question; None where nothing could be estimated."""
    with trusted():
        figure = _by_treatment(judged) or forest_figure(judged.analysis, FILE_LOOK)
    if figure is None:
        return None
    path = f"{folder}/{judged.file_name}.svg"
    return Illustration(path, figure.title, figure.caption, svg_of(figure).encode())


def _by_treatment(judged: Judged) -> Figure | None:
    first = judged.analysis.verdicts[0]
    return response_figure(judged.analysis, first.factor, first.response, FILE_LOOK)
