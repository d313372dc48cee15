"""The table of metrics: names by the conventions of Prometheus, and the same table in the documents."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from lightning_store.metrics.families import FAMILIES, UNITS, render_markdown, render_stores_markdown
from lightning_store.metrics.labels import MOST, OTHER, Bounded

CHECKOUT = Path(__file__).parents[2]
WRONG_UNITS = ("ms", "milliseconds", "minutes", "hours", "kb", "mb", "kilobytes", "megabytes", "percent", "ratio")

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@every_family
def test_name_follows_the_conventions(family):
    assert re.fullmatch(r"lightning_store(_[a-z]+)+", family.name)
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert not family.name.endswith(("_count", "_sum", "_bucket", "_created"))
    words = family.name.split("_")
    assert not set(words) & set(WRONG_UNITS), "base units"
    for unit in UNITS:
        assert unit not in words or family.unit == unit, "the unit stands at the end"


@every_family
def test_times_are_named_so(family):
    assert (family.kind == "gauge" and family.help.startswith("When ")) == family.name.endswith("_timestamp_seconds")


@every_family
def test_help_is_one_sentence(family):
    assert re.fullmatch(r"[A-Z].*[^.]\.", family.help)


@every_family
def test_labels_are_few_and_name_no_single_rollout_or_worker(family):
    assert set(family.labels) <= {
        "version", "python", "operation", "outcome", "queue", "status", "cause", "reason", "kind", "state",
    }  # fmt: skip
    assert len(family.labels) <= 2


@every_family
def test_histograms_alone_have_buckets_that_rise(family):
    assert bool(family.buckets) == (family.kind == "histogram")
    assert list(family.buckets) == sorted(set(family.buckets))
    assert not family.buckets or family.unit == "seconds"


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.kind != "info"])
def test_metric_that_is_made_is_the_one_of_the_table(name):
    family, registry = FAMILIES[name], CollectorRegistry()
    metric = getattr(family, family.kind)(registry)
    if family.labels:
        metric.labels(*family.labels)
    (found,) = (
        each
        for each in text_string_to_metric_families(generate_latest(registry).decode())
        if not each.name.endswith("_created")
    )
    assert (found.documentation, found.type) == (family.help, family.kind)
    assert set(family.series) <= {sample.name for sample in found.samples}


def test_documents_have_the_table():
    text = (CHECKOUT / "docs" / "metrics.md").read_text()
    assert render_markdown() in text, "render_markdown() has the new one"
    assert render_stores_markdown() in text, "render_stores_markdown() has the new one"


def test_names_of_users_make_a_bounded_number_of_labels():
    bounded = Bounded()
    names = [f"queue-{number}" for number in range(3 * MOST)]
    assert {bounded.label(name) for name in names} == {*names[:MOST], OTHER}
    assert bounded.label(names[0]) == names[0]
    assert bounded.label(names[-1]) == OTHER
