"""Contract, sections 3.1 and 5: what the store says of itself, and how it is made."""

import inspect

import agentlightning as al
import pytest
from agentlightning.store.base import LightningStore as TheirStore
from agentlightning.store.threading import LightningStoreThreaded as TheirThreaded

from lightning_store import (
    ForwardingStore,
    InMemoryLightningStore,
    InvalidRequestError,
    LightningStoreThreaded,
    RedisLightningStore,
)
from lightning_store.integrations.agentlightning import AgentLightningStore
from tests.agentlightning.support.making import only, ours_only

PATH = "lightning_store.integrations.agentlightning.AgentLightningStore"
METHODS = [name for name, member in vars(TheirStore).items() if inspect.iscoroutinefunction(member)]


def test_methods_were_found():
    assert len(METHODS) == 28


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_signature_of_upstream(name):
    method, declared = getattr(AgentLightningStore, name), getattr(TheirStore, name)
    assert method is not declared
    assert inspect.iscoroutinefunction(method)
    ours = [(each.name, each.kind, each.default) for each in inspect.signature(method).parameters.values()]
    assert ours == [(each.name, each.kind, each.default) for each in inspect.signature(declared).parameters.values()]


async def test_arguments_that_do_not_fit_are_refused(store):
    with pytest.raises(TypeError):
        await store.dequeue_many_rollouts(3)
    with pytest.raises(TypeError):
        await store.query_rollouts(nonsense=1)


async def test_statistics(store):
    await store.add_resources({})
    started = await store.start_rollout(1, worker_id="worker")
    await store.enqueue_rollout(1)
    first, second = await store.statistics(), await store.statistics()
    assert first["name"] == type(store).__name__
    assert {name: first[f"total_{name}"] for name in ("rollouts", "attempts", "spans", "resources", "workers")} == {
        "rollouts": 2, "attempts": 1, "spans": 0, "resources": 1, "workers": 1
    }  # fmt: skip
    assert 0 <= first["uptime"] < second["uptime"]
    assert started.status == "preparing"


async def test_objects_take_attributes(store):
    store.of_a_test = 1
    assert store.of_a_test == 1
    assert isinstance(store, al.LightningStore)


@only("memory")
async def test_capabilities_in_memory(store):
    """What lies in one process is shared by its threads, not by its children."""
    assert store.capabilities == {"thread_safe": True, "async_safe": True, "zero_copy": False, "otlp_traces": False}


@only("redis", "sqlite")
async def test_capabilities_outside_of_the_process(store):
    """Every process sees the same data."""
    assert store.capabilities == {"thread_safe": True, "async_safe": True, "zero_copy": True, "otlp_traces": False}


@ours_only
async def test_no_endpoint_for_traces(store):
    """Stores without a server have none, and say so in upstream's way."""
    with pytest.raises(NotImplementedError):
        store.otlp_traces_endpoint()


class WithEndpoint(ForwardingStore):
    """A store that has an endpoint and nothing else."""

    @property
    def capabilities(self):
        return {"thread_safe": True, "async_safe": True, "otlp_traces": True}

    def otlp_traces_endpoint(self):
        return "http://localhost:1/v1/traces"


def test_endpoint_of_the_store_behind():
    store = AgentLightningStore(WithEndpoint())
    assert store.capabilities["otlp_traces"] is True
    assert store.otlp_traces_endpoint() == "http://localhost:1/v1/traces"


@ours_only
async def test_extensions_are_reached_through_the_store_behind(store):
    """Fields that upstream's records lack do not show in them."""
    await store.store.enqueue_rollout(1, queue="eval", group_id="g")
    (waiting,) = await store.query_rollouts()
    assert type(waiting) is al.Rollout
    assert "queue" not in waiting.model_dump()
    claimed = await store.store.dequeue_rollout(queues=["eval"], lease_seconds=60)
    assert type(await store.get_rollout_by_id(claimed.rollout_id)) is al.AttemptedRollout


# -- how it is made --------------------------------------------------------------------------------------------------


@pytest.fixture
def variables(monkeypatch, redis_url, namespace):
    monkeypatch.setenv("LIGHTNING_STORE_URL", redis_url)
    monkeypatch.setenv("LIGHTNING_STORE_NAMESPACE", namespace)


async def test_made_of_the_environment(variables, redis_url, namespace):
    store = AgentLightningStore()
    assert isinstance(store.store, RedisLightningStore)
    assert store.store.namespace == namespace
    rollout = await store.enqueue_rollout(1)
    another = AgentLightningStore(url=redis_url, namespace=namespace, scan_debounce_seconds=0)
    assert (await another.get_rollout_by_id(rollout.rollout_id)).input == 1
    await store.close()
    await another.close()


def test_namespace_is_default_when_none_is_named(monkeypatch, redis_url):
    monkeypatch.delenv("LIGHTNING_STORE_NAMESPACE", raising=False)
    assert AgentLightningStore(url=redis_url).store.namespace == "default"


def test_no_url(monkeypatch):
    monkeypatch.delenv("LIGHTNING_STORE_URL", raising=False)
    with pytest.raises(InvalidRequestError, match=r"url: .*LIGHTNING_STORE_URL"):
        AgentLightningStore()
    with pytest.raises(InvalidRequestError, match="URL"):
        AgentLightningStore(url="nonsense")


def test_both_a_store_and_a_url(redis_url):
    with pytest.raises(InvalidRequestError, match="got both"):
        AgentLightningStore(InMemoryLightningStore(), url=redis_url)
    with pytest.raises(InvalidRequestError, match="got both"):
        AgentLightningStore(InMemoryLightningStore(), max_queued=3)


def test_what_is_no_store():
    with pytest.raises(TypeError, match=r"expected a lightning_store\.LightningStore, got InMemoryLightningStore"):
        AgentLightningStore(al.InMemoryLightningStore())
    for seconds in (-1, float("nan"), "10"):
        with pytest.raises(InvalidRequestError, match="scan_debounce_seconds"):
            AgentLightningStore(InMemoryLightningStore(), scan_debounce_seconds=seconds)


def test_threads_are_seen_to_only_where_the_store_does_not():
    threaded = LightningStoreThreaded(InMemoryLightningStore())
    assert AgentLightningStore(threaded).store is threaded
    wrapped = AgentLightningStore(InMemoryLightningStore()).store
    assert isinstance(wrapped, LightningStoreThreaded)


@pytest.mark.parametrize(
    "spec",
    [
        PATH,
        {"type": PATH, "scan_debounce_seconds": 0, "max_queued": 3},
        AgentLightningStore,
        lambda: AgentLightningStore(),  # noqa: PLW0108 - a function is one of the ways
    ],
    ids=["path", "dict", "class", "function"],
)
def test_trainer_makes_it(variables, namespace, spec):
    trainer = al.Trainer(store=spec, tracer=al.OtelTracer())
    assert type(trainer.store) is AgentLightningStore
    assert trainer.store.store.namespace == namespace


def test_trainer_takes_a_url(monkeypatch, redis_url):
    monkeypatch.delenv("LIGHTNING_STORE_URL", raising=False)
    spec = {"type": PATH, "url": redis_url, "namespace": "of-the-dict"}
    assert al.Trainer(store=spec, tracer=al.OtelTracer()).store.store.namespace == "of-the-dict"


async def test_in_the_wrappers_of_upstream(make_store):
    """One call at a time, as their lock demands."""
    wrapped = TheirThreaded(make_store())
    rollout = await wrapped.enqueue_rollout(1)
    assert (await wrapped.dequeue_rollout("worker")).rollout_id == rollout.rollout_id
    assert wrapped.capabilities["thread_safe"] is True
