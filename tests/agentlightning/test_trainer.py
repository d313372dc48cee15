"""The real Trainer, runners and tracers on our stores, with every strategy that the contract names."""

import asyncio
from typing import Any

import agentlightning as al
import pytest

from lightning_store import InMemoryLightningStore, RedisLightningStore
from lightning_store.integrations.agentlightning import AgentLightningStore
from tests.agentlightning.conftest import backend
from tests.agentlightning.support.serving import free_port, our_server
from tests.agentlightning.support.training import Forked, in_a_process

PATH = "lightning_store.integrations.agentlightning.AgentLightningStore"
TASKS = 8

pytestmark = pytest.mark.timeout(300)


@al.rollout
async def agent(task: int, prompt_template: al.PromptTemplate) -> float:
    """An agent that traces, emits a reward of its own on the way, and fails for one task."""
    with al.operation(attributes={"task": task}):
        prompt_template.format(task=task)
    if task == TASKS - 1:
        raise ValueError("a task that no agent can do")
    al.emit_reward(0.0)
    return task / 10


class Recorder:
    """An algorithm that runs one batch and keeps what its store tells of it."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def algorithm(self) -> Any:
        @al.algo
        async def run(*, store: al.LightningStore) -> None:
            await self.run(store)

        return run

    async def run(self, store: al.LightningStore) -> None:
        await store.add_resources({"prompt": al.PromptTemplate(template="{task}", engine="f-string")})
        requests = [al.EnqueueRolloutRequest(input=task, mode="train") for task in range(TASKS)]
        queued = await store.enqueue_many_rollouts(requests)
        ids = [rollout.rollout_id for rollout in queued]
        while len(done := await store.wait_for_rollouts(rollout_ids=ids, timeout=0)) < TASKS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # upstream's algorithms poll
        spans = [list(await store.query_spans(id, "latest")) for id in ids]
        self.seen = {
            "name": (await store.statistics())["name"],
            "ids": ids,
            "statuses": [rollout.status for rollout in done],
            "rewards": [al.find_final_reward(each) for each in spans],
            "spans": [sorted(span.name for span in each) for each in spans],
            "numbers": [[span.sequence_id for span in each] for each in spans],
            "workers": sorted(worker.worker_id for worker in await store.query_workers()),
        }


def train(strategy: Any, store: Any, *, tracer: Any = None, after: Any = None, **runner: Any) -> dict[str, Any]:
    """What the algorithm saw; `after` is asked in the same process when the Trainer is done."""
    options = {"poll_interval": 0.1, "interval_jitter": 0.01, "heartbeat_interval": 0.2, **runner}
    tracer = tracer or al.OtelTracer()
    recorder = Recorder()
    al.Trainer(
        algorithm=recorder.algorithm(),
        store=store,
        tracer=tracer,
        runner=al.LitAgentRunner(tracer, **options),
        strategy=strategy,
    ).fit(agent)
    seen = recorder.seen
    return {**seen, "after": after(seen["ids"])} if after else seen


def check(seen: dict[str, Any], workers: int) -> None:
    assert seen["name"] == "AgentLightningStore"
    assert seen["statuses"] == ["succeeded"] * (TASKS - 1) + ["failed"]
    assert seen["rewards"][:-1] == [task / 10 for task in range(TASKS - 1)]
    assert seen["rewards"][-1] is None
    for names, numbers in zip(seen["spans"], seen["numbers"], strict=True):
        assert len(names) == len(set(numbers)), "each span has a number of its own"
        assert "agentlightning.operation" in names
    assert set(seen["workers"]) <= {f"Worker-{number}" for number in range(workers)}
    assert seen["workers"]


@pytest.fixture
def variables(monkeypatch, redis_url, namespace):
    monkeypatch.setenv("LIGHTNING_STORE_URL", redis_url)
    monkeypatch.setenv("LIGHTNING_STORE_NAMESPACE", namespace)


def client_server(*, managed: bool) -> Any:
    return al.ClientServerExecutionStrategy(n_runners=2, managed_store=managed, server_port=free_port())


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("managed", [True, False], ids=["managed", "forked"])
async def test_client_server_on_redis(managed, redis_url, namespace):
    seen = in_a_process(lambda: train(client_server(managed=managed), PATH))
    check(seen, workers=2)
    ours = RedisLightningStore(redis_url, namespace=namespace)
    rewards = await ours.rewards(seen["ids"])
    assert list(rewards.values()) == [*(task / 10 for task in range(TASKS - 1)), None]
    report = await ours.audit()
    assert report.findings == []
    await ours.close()


@pytest.mark.usefixtures("variables")
def test_client_server_unmanaged_by_the_environment(monkeypatch):
    monkeypatch.setenv("AGL_MANAGED_STORE", "0")
    strategy = al.ClientServerExecutionStrategy(n_runners=2)
    assert strategy.managed_store is False
    check(in_a_process(lambda: train(strategy, PATH)), workers=2)


@pytest.mark.usefixtures("variables")
def test_roles_in_programs_of_their_own():
    """As on two hosts: one program has the algorithm, another the runners, and only Redis between them."""

    def runners() -> dict[str, Any]:
        strategy = al.ClientServerExecutionStrategy(role="runner", n_runners=1, managed_store=False)
        return train(strategy, PATH, max_rollouts=TASKS)

    def algorithm() -> dict[str, Any]:
        return train(al.ClientServerExecutionStrategy(role="algorithm", managed_store=False), PATH)

    there, here = Forked(runners), Forked(algorithm)
    check(here.result(), workers=1)
    there.result()


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_runners_on_our_server(kind, namespace, request, monkeypatch):
    """Our server in place of upstream's: runners are its clients, and the tracer sends OTLP to it."""
    async with our_server(backend(kind, namespace, request)) as server:
        monkeypatch.setenv("LIGHTNING_STORE_URL", server.url)
        strategy = al.ClientServerExecutionStrategy(n_runners=2, managed_store=False)
        seen = in_a_process(lambda: train(strategy, PATH))
        check(seen, workers=2)
        spans = await server.query_many_spans(seen["ids"][:-1])
    operations = [span for each in spans.values() for span in each if span.name.endswith("operation")]
    assert [span.resource.attributes["agentlightning.rollout_id"] for span in operations] == seen["ids"][:-1]


def test_client_server_in_memory():
    """The algorithm and the server share the object, each on a loop of its own."""

    def work() -> dict[str, Any]:
        store = AgentLightningStore(InMemoryLightningStore())

        def rewards(ids: list[str]) -> list[float | None]:
            return list(asyncio.run(store.store.rewards(ids)).values())

        return train(client_server(managed=True), store, after=rewards)

    seen = in_a_process(work)
    check(seen, workers=2)
    assert seen["after"] == [*(task / 10 for task in range(TASKS - 1)), None]


@pytest.mark.parametrize("main_thread", ["algorithm", "runner"])
@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_shared_memory_unmanaged(kind, main_thread, redis_url, namespace):
    """Algorithm and runner on threads with a loop each, on the object itself."""

    def work() -> dict[str, Any]:
        backend = InMemoryLightningStore() if kind == "memory" else RedisLightningStore(redis_url, namespace=namespace)
        strategy = al.SharedMemoryExecutionStrategy(n_runners=1, managed_store=False, main_thread=main_thread)
        return train(strategy, AgentLightningStore(backend), max_rollouts=TASKS)

    check(in_a_process(work), workers=1)


@pytest.mark.usefixtures("variables")
def test_agentops_tracer():
    """The Trainer's default tracer; its own service is not needed."""
    seen = in_a_process(lambda: train(client_server(managed=False), PATH, tracer=al.AgentOpsTracer()))
    check(seen, workers=2)
