"""The dashboard, the alerts and the scrape configuration use metrics and labels that exist."""

import json
import re
from pathlib import Path

import pytest
import yaml

from lightning_store.metrics.families import FAMILIES
from tests.support.promql import asked_by

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "lightning-store.json").read_text())
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
PROMETHEUS = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())

PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
EXPRESSIONS = [
    *((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]),
    *((rule["alert"], rule["expr"]) for rule in RULES),
]
OF_THE_TARGET = {"job", "instance", "namespace"}
BY_OTHERS = {"up": set(), "process_resident_memory_bytes": set(), "process_cpu_seconds_total": set()}
LABELS = BY_OTHERS | {
    series: set(family.labels) | ({"le"} if series.endswith("_bucket") else set())
    for family in FAMILIES.values()
    for series in family.series
}


@pytest.mark.parametrize(("place", "expression"), EXPRESSIONS)
def test_metrics_and_labels_exist(place, expression):
    asked = asked_by(expression)
    assert asked.series, place
    for series, labels in asked.series.items():
        assert series in LABELS, place
        assert labels <= LABELS[series] | OF_THE_TARGET, place
    assert asked.grouped <= OF_THE_TARGET.union(*(LABELS[series] for series in asked.series)), place


@pytest.mark.parametrize(("place", "expression"), EXPRESSIONS)
def test_counters_are_asked_for_their_increase_and_gauges_are_not(place, expression):
    rated = re.findall(r"\b(?:rate|increase)\(([a-z_]+)", expression)
    for series in asked_by(expression).series:
        accumulates = series.endswith(("_total", "_bucket"))
        assert (series in rated) == accumulates, place


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legend_names_labels_that_are_left(panel):
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert named <= asked_by(target["expr"]).grouped


def test_dashboard_shows_every_metric():
    shown = {series for panel in PANELS for target in panel["targets"] for series in asked_by(target["expr"]).series}
    assert {family.name for family in FAMILIES.values() if not shown & set(family.series)} == set()


def test_dashboard_is_of_one_namespace_at_a_time():
    (variable,) = (each for each in DASHBOARD["templating"]["list"] if each["name"] == "namespace")
    assert asked_by(variable["query"]["query"].partition("(")[2].partition(",")[0]).series.keys() <= LABELS.keys()
    for panel in PANELS:
        for target in panel["targets"]:
            found = re.findall(r"((?:lightning_store|process)_\w+)(\{[^}]*)?", target["expr"])
            assert all('namespace=~"$namespace"' in matchers for _, matchers in found), panel["title"]


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [(place["x"] + x, place["y"] + y) for place in places for x in range(place["w"]) for y in range(place["h"])]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_say_what_is_wrong_and_how_bad_it_is(rule):
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    asked = asked_by(rule["expr"])
    assert named <= (asked.grouped or OF_THE_TARGET)


def test_rules_and_jobs_are_found():
    assert all((DEPLOY / "prometheus" / file).exists() for file in PROMETHEUS["rule_files"])
    jobs = {job["job_name"] for job in PROMETHEUS["scrape_configs"]}
    (pattern,) = {re.search(r'job=~"([^"]+)"', rule["expr"])[1] for rule in RULES if "job=~" in rule["expr"]}
    assert jobs
    assert all(re.fullmatch(pattern, job) for job in jobs)
    for job in PROMETHEUS["scrape_configs"]:
        assert [rule["target_label"] for rule in job["relabel_configs"]] == ["namespace"]


def test_expressions_are_read_as_they_are_meant():
    asked = asked_by(
        'sum by (le, a) (rate(b_total{c="{x,y}", d!~"e"}[5m])) / on (f) max(g>0) and time() - h offset 5m or vector(0)'
    )
    assert asked.series == {"b_total": {"c", "d"}, "g": set(), "h": set()}
    assert asked.grouped == {"le", "a", "f"}
    with pytest.raises(AssertionError):
        asked_by("sum(a")
