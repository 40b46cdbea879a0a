"""The Grafana board asks for metrics that the workers export."""

import json
import re
from pathlib import Path

from gapctl.sweep.gauges import TrialGauges

BOARD = Path(__file__).parents[2] / "dashboards" / "grafana.json"


def test_every_metric_of_ours_on_the_board_is_exported() -> None:
    expressions = [target["expr"] for panel in json.loads(BOARD.read_text())["panels"] for target in panel["targets"]]
    asked = set(re.findall(r"ray_(gapctl_\w+)", " ".join(expressions)))
    exported = {gauge.info["name"] for gauge in vars(TrialGauges()).values()}

    assert asked
    assert asked == exported
