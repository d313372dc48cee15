"""Fixtures of the tests with the real Agent Lightning; they are collected only where it is installed.

`store` runs every test of the contract over our stores and over upstream's own store in memory: a test that this store
does not pass says nothing about the contract.
"""

import importlib.util
import os
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it waits for a download
os.environ.setdefault("AGENTOPS_API_KEY", "")
os.environ.setdefault("AGENTOPS_LOGGING_TO_FILE", "false")  # its log would lie in the checkout

HAS_AGENT_LIGHTNING = importlib.util.find_spec("agentlightning") is not None

if HAS_AGENT_LIGHTNING:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import agentlightning

    from lightning_store import InMemoryLightningStore, RedisLightningStore
    from lightning_store.backends.sqlite import SQLiteLightningStore
    from lightning_store.integrations.agentlightning import AgentLightningStore
else:
    collect_ignore_glob = ["test_*.py"]

OURS = ("memory", "redis", "sqlite")
KINDS = ("upstream", *OURS)

MakeStore = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What the packages around Agent Lightning warn of is not for us to mend."""
    for item in items:
        if "agentlightning" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("default"))


def backend(kind: str, namespace: str, request: pytest.FixtureRequest, **options: Any) -> Any:
    """A store of ours to wrap."""
    if kind == "memory":
        return InMemoryLightningStore(**options)
    if kind == "sqlite":  # no test cuts the power
        folder = request.getfixturevalue("tmp_path")
        return SQLiteLightningStore(folder / f"{namespace}.db", **({"synchronous": "normal"} | options))
    return RedisLightningStore(request.getfixturevalue("redis_url"), namespace=namespace, **options)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which store; override it with `only(...)`."""
    return str(request.param)


@pytest.fixture
async def make_store(kind: str, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[MakeStore]:
    """Makes stores over the same data where they share any: `make_store(scan_debounce_seconds=0)`."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        if kind == "upstream":
            return agentlightning.InMemoryLightningStore(thread_safe=True, **options)
        made.append(AgentLightningStore(backend(kind, namespace, request), **options))
        return made[-1]

    yield make
    for store in made:
        await store.close()


@pytest.fixture
def store(make_store: MakeStore) -> Any:
    """An empty store that looks for late attempts in every call."""
    return make_store(scan_debounce_seconds=0)
