"""Reading metrics as Prometheus does."""

import asyncio
import urllib.request
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


class Scrape:
    """The samples of one page.

    Attributes:
        families: By name.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = {family.name: family for family in families}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of one series, by its name without our prefix; None when it is absent."""
        prefix = "" if name.startswith(("process_", "up")) and name != "up" else "lightning_store_"
        return self._samples.get((prefix + name, frozenset(labels.items())))

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        """All series of a name, by the values of their labels in alphabetical order of the labels; zeros left out."""
        return {
            tuple(value for _, value in sorted(labels)): value
            for (series, labels), value in self._samples.items()
            if series == "lightning_store_" + name and value
        }

    @property
    def series(self) -> set[str]:
        """Names of all series."""
        return {name for name, _ in self._samples}

    def labels(self, name: str) -> set[str]:
        """Names of the labels of a series."""
        return {label for series, labels in self._samples for label, _ in labels if series == name}


def scrape_registry(registry: CollectorRegistry) -> Scrape:
    """What a registry tells, in the OpenMetrics format."""
    encode, _ = choose_encoder(OPENMETRICS)
    return Scrape(_parsed(encode(registry).decode()))


def _parsed(text: str) -> Iterable[Metric]:
    families: Iterable[Metric] = parse_openmetrics(text)  # type: ignore[no-untyped-call]  # the library has no types there
    return families


async def scrape(port: int, path: str = "/metrics", headers: Mapping[str, str] | None = None) -> Scrape:
    """What a process tells, in the OpenMetrics format."""
    content_type, text = await page_of(port, path, {"Accept": OPENMETRICS, **(headers or {})})
    assert content_type.startswith("application/openmetrics-text")
    return Scrape(_parsed(text))


async def scrape_text(port: int, path: str = "/metrics") -> Scrape:
    """The same in the older text format."""
    content_type, text = await page_of(port, path, {})
    assert content_type.startswith("text/plain")
    return Scrape(parse_text(text))


async def page_of(port: int, path: str, headers: Mapping[str, str]) -> tuple[str, str]:
    """Content type and text of a page."""

    def get() -> tuple[str, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=dict(headers))
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.headers["Content-Type"], answer.read().decode()

    return await asyncio.to_thread(get)
