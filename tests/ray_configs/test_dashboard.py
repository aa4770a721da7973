"""The Grafana dashboard draws what the stages export, and nothing that they do not."""

from __future__ import annotations

import json
import re

from pipeline.cluster.monitoring import COUNTERS, GAUGES, PREFIX
from tests.support.workspace import ROOT

DASHBOARD = ROOT / "ray_configs" / "grafana-dashboard.json"
EXPORTED = {f"ray_{PREFIX}{name}_total" for name in COUNTERS} | {
    f"ray_{PREFIX}{name}" for name in GAUGES
}


def test_dashboard_draws_every_exported_number_and_no_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    drawn = {name for text in expressions for name in re.findall(rf"ray_{PREFIX}\w+", text)}
    assert drawn == EXPORTED


def test_dashboard_panels_have_distinct_ids_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_dashboard_names_no_host_and_takes_any_source() -> None:
    text = DASHBOARD.read_text()
    assert "://" not in text
    assert set(re.findall(r'"uid": "([^"]+)"', text)) == {"squeeze-span", "${source}"}
