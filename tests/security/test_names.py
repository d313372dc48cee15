"""Names of every kind, hostile ones too: refused and nothing written, or kept inside of the namespace."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lightning_store import RedisLightningStore
from lightning_store.errors import InvalidRequestError, NotFoundError
from lightning_store.records import EnqueueRolloutRequest
from tests.support.factories import claim, make_span, some_resources, span_of

DATABASE = 15
META = re.compile(rb"\{ls:[\w.-]+\}:meta")
HOSTILE = (
    "", " ", "x" * 128, "x" * 129, "x" * 10_240, "ä" * 5_000, "\x00", "a\x00b", "a\nb", "a\r\nFLUSHALL\r\n", "\x7f",
    "\x85", "\u2028", "\u202eabc", "\ud800", "a\udcff", "\U0001f600", "{", "}", "{}", "}{", "{a}", ":", "a:b", "::",
    "{ls:other}:meta", "ls:other:spans:{a}", "}:queue:default", "..", "../a", "*", "[a-z]*", "-", "+", "$", "0", "-1",
    "nan", "inf", "None", "latest", "%s%n", "$(id)", "`id`", "'; return 1 --", "]] redis.call('FLUSHALL') --[[",
)  # fmt: skip

names = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(), max_size=40),  # lone surrogates among them
    st.text("{}:\x00\n\\\"'aä\ud800", max_size=12),
    st.text("abc._-", min_size=1, max_size=140),
)


class World:
    """A namespace with one rollout that is claimed and one that waits, alone in its database.

    Attributes:
        known: What is in the database.
    """

    def __init__(self, url: str, namespace: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.namespace = namespace
        self.url = f"{url.rpartition('/')[0]}/{DATABASE}"
        self.raw = redis.Redis.from_url(self.url, protocol=2)
        self.raw.flushdb()
        self.store = RedisLightningStore(self.url, namespace=namespace)
        self.claimed = self.loop.run_until_complete(self._fill())
        self.id, self.attempt_id = self.claimed.rollout_id, self.claimed.attempt.attempt_id
        self.known = self.content()

    async def _fill(self):
        await self.store.update_resources("policy", some_resources())
        await self.store.enqueue_rollout("task", group_id="group")
        claimed = await claim(self.store, "worker")
        await self.store.enqueue_rollout("next")
        await self.store.add_span(span_of(claimed))
        return claimed

    def close(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()
        self.raw.flushdb()
        self.raw.close()

    def content(self) -> dict[bytes, object]:
        """Every key of the database with its value; without what any call may write, the time of the last script."""
        keys = sorted(self.raw.scan_iter(count=1000))
        with self.raw.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key) if META.fullmatch(key) else pipe.dump(key)
            values: dict[bytes, Any] = dict(zip(keys, pipe.execute(), strict=True))
        for key in keys:
            if META.fullmatch(key):
                values[key].pop(b"now", None)
        return values

    def check(self, call, name: str, namespace: str | None = None) -> None:
        """Call with a name: it is refused and changes nothing, or changes nothing outside of the namespace."""
        namespace = namespace or self.namespace
        before = self.known
        try:
            self.loop.run_until_complete(call(self, name))
        except (InvalidRequestError, NotFoundError):
            assert self.content() == before
            return
        self.known = self.content()
        inside = (f"{{ls:{namespace}}}:".encode(), f"ls:{namespace}:".encode())
        assert outside(self.known, inside) == outside(before, inside)


def outside(content: dict[bytes, object], inside: tuple[bytes, ...]) -> dict[bytes, object]:
    """What does not begin with what a namespace's keys begin with."""
    return {key: value for key, value in content.items() if not key.startswith(inside)}


CALLS = {
    "enqueue: rollout_id": lambda w, name: w.store.enqueue_rollout(1, rollout_id=name),
    "enqueue: queue": lambda w, name: w.store.enqueue_rollout(1, queue=name),
    "enqueue: group_id": lambda w, name: w.store.enqueue_rollout(1, group_id=name),
    "enqueue: resources_id": lambda w, name: w.store.enqueue_rollout(1, resources_id=name),
    "enqueue: input": lambda w, name: w.store.enqueue_rollout({name: name}),
    "enqueue: metadata": lambda w, name: w.store.enqueue_rollout(1, metadata={name: name}),
    "enqueue many: all": lambda w, name: w.store.enqueue_many_rollouts(
        [EnqueueRolloutRequest(input=1), EnqueueRolloutRequest(input=1, rollout_id=name, queue=name, group_id=name)]
    ),
    "start: worker_id": lambda w, name: w.store.start_rollout(1, worker_id=name),
    "start: rollout_id": lambda w, name: w.store.start_rollout(1, rollout_id=name),
    "start: queue": lambda w, name: w.store.start_rollout(1, queue=name),
    "start: group_id": lambda w, name: w.store.start_rollout(1, group_id=name),
    "dequeue: worker_id": lambda w, name: w.store.dequeue_rollout(name),
    "dequeue: queues": lambda w, name: w.store.dequeue_rollout("worker", queues=["default", name]),
    "dequeue many: worker_id": lambda w, name: w.store.dequeue_many_rollouts(limit=2, worker_id=name),
    "start attempt: rollout_id": lambda w, name: w.store.start_attempt(name),
    "start attempt: worker_id": lambda w, name: w.store.start_attempt(w.id, name),
    "get rollout: rollout_id": lambda w, name: w.store.get_rollout_by_id(name),
    "query rollouts: rollout_id_in": lambda w, name: w.store.query_rollouts(rollout_id_in=[name]),
    "query rollouts: rollout_id_contains": lambda w, name: w.store.query_rollouts(rollout_id_contains=name),
    "query rollouts: group_id": lambda w, name: w.store.query_rollouts(group_id=name),
    "query rollouts: status_in": lambda w, name: w.store.query_rollouts(status_in=[name]),
    "query rollouts: sort_by": lambda w, name: w.store.query_rollouts(sort_by=name),
    "update rollout: rollout_id": lambda w, name: w.store.update_rollout(name, metadata={}),
    "update rollout: resources_id": lambda w, name: w.store.update_rollout(w.id, resources_id=name),
    "update rollout: metadata": lambda w, name: w.store.update_rollout(w.id, metadata={name: name}),
    "cancel: rollout_ids": lambda w, name: w.store.cancel_rollouts([name]),
    "cancel: group_id": lambda w, name: w.store.cancel_rollouts(group_id=name),
    "delete: rollout_ids": lambda w, name: w.store.delete_rollouts([name]),
    "prune: status_in": lambda w, name: w.store.prune(status_in=[name]),
    "prune: consumed_cursor": lambda w, name: w.store.prune(consumed_cursor=name),
    "acknowledge: consumer": lambda w, name: w.store.acknowledge_completions(name),
    "acknowledge: cursor": lambda w, name: w.store.acknowledge_completions("consumer", name),
    "forget: consumer": lambda w, name: w.store.forget_consumer(name),
    "events: rollout_id": lambda w, name: w.store.query_events(rollout_id=name),
    "wait: rollout_ids": lambda w, name: w.store.wait_for_rollouts(rollout_ids=[name], timeout=0),
    "completions: after": lambda w, name: w.store.completions(name),
    "completions: group_id": lambda w, name: w.store.completions(group_id=name),
    "query attempts: rollout_id": lambda w, name: w.store.query_attempts(name),
    "latest attempt: rollout_id": lambda w, name: w.store.get_latest_attempt(name),
    "update attempt: rollout_id": lambda w, name: w.store.update_attempt(name, w.attempt_id, status="running"),
    "update attempt: attempt_id": lambda w, name: w.store.update_attempt(w.id, name, status="running"),
    "update attempt: worker_id": lambda w, name: w.store.update_attempt(w.id, w.attempt_id, worker_id=name),
    "update attempt: metadata": lambda w, name: w.store.update_attempt(w.id, w.attempt_id, metadata={name: name}),
    "update attempt: resources_id": lambda w, name: w.store.update_attempt(w.id, w.attempt_id, resources_id=name),
    "release: rollout_id": lambda w, name: w.store.release_attempt(name, w.attempt_id),
    "release: attempt_id": lambda w, name: w.store.release_attempt(w.id, name),
    "renew: worker_id": lambda w, name: w.store.renew(name, [(w.id, w.attempt_id)]),
    "renew: rollout_id": lambda w, name: w.store.renew("worker", [(name, w.attempt_id)]),
    "renew: attempt_id": lambda w, name: w.store.renew("worker", [(w.id, name)]),
    "renew: stats": lambda w, name: w.store.renew("worker", [], {name: name}),
    "span: rollout_id": lambda w, name: w.store.add_span(make_span(name, w.attempt_id)),
    "span: attempt_id": lambda w, name: w.store.add_span(make_span(w.id, name)),
    "span: span_id": lambda w, name: w.store.add_span(span_of(w.claimed, span_id=name)),
    "span: others": lambda w, name: w.store.add_span(
        span_of(w.claimed, trace_id=name, name=name, parent_id=name, attributes={name: name})
    ),
    "sequence: rollout_id": lambda w, name: w.store.get_next_span_sequence_id(name, w.attempt_id),
    "sequence: attempt_id": lambda w, name: w.store.get_next_span_sequence_id(w.id, name),
    "query spans: rollout_id": lambda w, name: w.store.query_spans(name),
    "query spans: attempt_id": lambda w, name: w.store.query_spans(w.id, name),
    "query spans: filters": lambda w, name: w.store.query_spans(w.id, trace_id=name, span_id_contains=name, name=name),
    "query many spans: both": lambda w, name: w.store.query_many_spans([name, w.id], name),
    "rewards: rollout_ids": lambda w, name: w.store.rewards([name]),
    "resources: resources_id": lambda w, name: w.store.update_resources(name, some_resources()),
    "resources: name": lambda w, name: w.store.add_resources({name: some_resources()["main"]}),
    "get resources: resources_id": lambda w, name: w.store.get_resources_by_id(name),
    "query resources: filters": lambda w, name: w.store.query_resources(
        resources_id=name, resources_id_contains=name
    ),
    "worker: worker_id": lambda w, name: w.store.update_worker(name, {}),
    "worker: stats": lambda w, name: w.store.update_worker("worker", {name: name}),
    "get worker: worker_id": lambda w, name: w.store.get_worker_by_id(name),
    "query workers: worker_id_contains": lambda w, name: w.store.query_workers(worker_id_contains=name),
}  # fmt: skip

few = settings(max_examples=12, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture
def world(redis_url: str, namespace: str) -> Iterator[World]:
    made = World(redis_url, namespace)
    yield made
    made.close()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_names_stay_inside_of_their_namespace(world: World, call) -> None:
    for hostile in HOSTILE:
        world.check(call, hostile)

    @few
    @given(names)
    def check(name: str) -> None:
        world.check(call, name)

    check()


async def _enqueue_in(world: World, namespace: str) -> None:
    store = RedisLightningStore(world.url, namespace=namespace)
    try:
        await store.enqueue_rollout(1)
    finally:
        await store.close()


def test_namespaces_stay_apart(world: World) -> None:
    @few
    @given(names)
    @example(world.namespace)
    def check(name: str) -> None:
        world.check(_enqueue_in, name, name)

    for hostile in HOSTILE:
        world.check(_enqueue_in, hostile, hostile)
    check()
