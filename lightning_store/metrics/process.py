"""Metrics that every process tells of itself: its version, and what the operating system knows of it."""

import platform
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Info, ProcessCollector

from lightning_store.metrics.families import FAMILIES


def tell_build(registry: CollectorRegistry) -> None:
    """Tell the version of the package and of Python."""
    family = FAMILIES["build_info"]
    try:
        ours = version("lightning-store")
    except PackageNotFoundError:
        ours = "unknown"
    info = Info(family.name.removesuffix("_info"), family.help, registry=registry)
    info.info(dict(zip(family.labels, (ours, platform.python_version()), strict=True)))


def tell_process(registry: CollectorRegistry) -> None:
    """Tell what `process_*` metrics are known for: processor time, memory, open files, start time."""
    ProcessCollector(registry=registry)
