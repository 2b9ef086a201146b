from __future__ import annotations

import json
import re
from pathlib import Path

from http_served import served
from small_site import SmallSite

DASHBOARD = Path(__file__).resolve().parents[4] / "deploy" / "grafana-dashboard.json"


def asked_for() -> set[str]:
    """Names of metrics in the dashboard's queries, without what histograms and counters add to theirs."""
    names = set(re.findall(r"\b(?:edgepose|process)_[a-z_]+", json.dumps(json.loads(DASHBOARD.read_text())["panels"])))
    return {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in names}


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["title"] and dashboard["__inputs"][0]["pluginId"] == "prometheus"
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in dashboard["panels"]]
    assert len(set(places)) == len(places) and len({panel["id"] for panel in dashboard["panels"]}) == len(places)
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))


def test_the_dashboard_asks_only_for_metrics_that_there_are(site: SmallSite) -> None:
    with served(site) as here:
        text = here.client.get("/metrics").text
    there = {name.removesuffix("_total") for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)}
    of_the_machine = {"edgepose_temperature_celsius", "edgepose_power_watts", "edgepose_clock_hertz"}
    assert asked_for() <= there and of_the_machine <= there and len(asked_for()) > 10
