"""The figure of a question: its first hypothesis' response by the treatment, or what all hypotheses measured."""

from typing import NamedTuple

from gapctl.analysis.judged import Judged
from gapctl.report.drawing import svg_of
from gapctl.report.figures import responses
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
    wanted = f"{_file_name_of(first.response)}-by-"
    groups = [group for group in responses(judged.analysis, FILE_LOOK) if group.factor.path == first.factor]
    figures = [figure for group in groups for figure in group.figures]
    return next((figure for figure in figures if figure.name.startswith(wanted)), None)


def _file_name_of(metric: str) -> str:
    return metric.partition("/")[2]
