"""One fixture `store` over every store; a test that passes here holds for all of them."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lightning_store.backends.sqlite import SQLiteLightningStore
from lightning_store.contract import LightningStore
from tests.support.clock import SettableClock
from tests.support.stores import IN_PROCESS, STORE_KINDS, make_backend, source_of, store_params

MakeStore = Callable[..., LightningStore]


@pytest.fixture(params=store_params(*STORE_KINDS))
def store_kind(request: pytest.FixtureRequest) -> str:
    """Which store; override it with `only_stores(...)`."""
    return str(request.param)


@pytest.fixture
def clock() -> SettableClock:
    """The time of `store`; it stands still until it is moved."""
    return SettableClock()


@pytest.fixture
def source(store_kind: str, request: pytest.FixtureRequest) -> Any:
    """Where the stores of this test keep their data; None in memory."""
    return source_of(store_kind, request)


@pytest.fixture
async def make_store(store_kind: str, source: Any, namespace: str, clock: SettableClock) -> AsyncIterator[MakeStore]:
    """Makes stores with options of their own, each with data of its own; `clock=None` = real time."""
    made: list[Any] = []

    def make(**options: Any) -> LightningStore:
        options = {"clock": clock} | options
        name = options.pop("namespace", f"{namespace}-{len(made)}")
        made.append(make_backend(store_kind, source, name, **options))
        return made[-1]

    yield make
    for store in reversed(made):
        await store.close()


@pytest.fixture
def store(make_store: MakeStore) -> LightningStore:
    """A new, empty store whose time is `clock`."""
    return make_store()


@pytest.fixture
def live_store(make_store: MakeStore) -> LightningStore:
    """A new, empty store in real time, for tests that wait."""
    return make_store(clock=None)


@pytest.fixture
def open_again(store_kind: str, make_store: MakeStore) -> Callable[[Any], Any]:
    """Makes another object for the data of a live store, as another process would; in memory it is the same object."""

    def another(store: Any) -> Any:
        if store_kind in IN_PROCESS:
            return store
        inner = getattr(store, "store", store)
        name = inner.path.stem if isinstance(inner, SQLiteLightningStore) else inner.namespace
        return make_store(clock=None, namespace=name)

    return another
