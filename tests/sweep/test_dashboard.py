"""The Grafana board asks for metrics that a sweep or Ray exports, by the tags that these have."""

import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gapctl.sweep.gauges import SWEEP_GAUGES, TrialGauges

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
BOARD: Mapping[str, Any] = json.loads((DASHBOARDS / "grafana.json").read_text())
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
GIVEN_BY_RAY = {"ip", "GpuIndex"}


def exported_by_trials() -> dict[str, tuple[str, ...]]:
    found = [gauge.info for gauge in vars(TrialGauges()).values()]
    return {info["name"]: info["tag_keys"] for info in found}


def exported_by_ray() -> set[str]:
    """The names in the source of Ray's reporter, which only runs with ray[default]."""
    package = importlib.util.find_spec("ray")
    assert package is not None
    assert package.origin is not None
    source = Path(package.origin).parent / "dashboard" / "modules" / "reporter" / "reporter_agent.py"
    return set(re.findall(r'^    "(\w+)": Gauge\(', source.read_text(), re.MULTILINE))


def asked(queries: list[str]) -> set[str]:
    return set(re.findall(r"\bray_(\w+)", " ".join(queries)))


def test_every_metric_on_the_board_is_one_that_a_sweep_or_ray_exports() -> None:
    ours = {*exported_by_trials(), *SWEEP_GAUGES}

    assert asked(QUERIES) - ours <= exported_by_ray()
    assert {name for name in asked(QUERIES) if name.startswith("gapctl_")} == ours


def test_metrics_are_asked_for_by_tags_that_they_have() -> None:
    tags = {**exported_by_trials(), **{name: tags for name, (_, tags) in SWEEP_GAUGES.items()}}
    for query in QUERIES:
        known = {tag for name in asked([query]) for tag in tags.get(name, ())} | GIVEN_BY_RAY
        grouped = {tag.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for tag in group.split(",")}
        chosen = set(re.findall(r'[{,](\w+)=~?"', query))
        assert grouped | chosen <= known, query


def test_legends_name_tags_that_their_query_keeps() -> None:
    for panel in BOARD["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = {tag.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for tag in group.split(",")}
            assert named <= kept, target


def test_panels_have_their_own_places_and_the_chosen_data_source() -> None:
    panels = BOARD["panels"]
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["datasource"]["uid"] == "${datasource}" and panel["description"] for panel in panels)
    assert {variable["name"] for variable in BOARD["templating"]["list"]} == {"datasource", "sweep"}


def test_the_provisioning_file_shows_the_folder_that_it_is_told() -> None:
    provisioning = yaml.safe_load((DASHBOARDS / "provisioning" / "gapctl.yaml").read_text())

    (provider,) = provisioning["providers"]
    assert provisioning["apiVersion"] == 1
    assert (provider["type"], provider["options"]) == ("file", {"path": "$GAPCTL_DASHBOARDS"})
