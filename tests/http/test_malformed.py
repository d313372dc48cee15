"""Malformed requests, a catalogue and random ones, change nothing and are never a fault of the server's own."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.http.routes import ROUTES
from lightning_store.http.server import LightningStoreServer
from lightning_store.operations import OPERATIONS
from tests.http.malformed import LIMITS, SERVER_OPTIONS, TABLE, Answer, check, observable, table
from tests.http.malformed_base import API, Malformed, World, http, valid_bodies
from tests.http.malformed_bodies import wrong_values
from tests.http.malformed_requests import malformed_requests
from tests.support.console import ROOT
from tests.support.serving import send_raw

WORLD = World("ro-1", "at-1", "rs-1", "w")
LEAST = 200


@pytest.mark.timeout(300)
async def test_nothing_is_written_and_nothing_is_a_fault_of_ours_over_memory():
    assert len(await check(InMemoryLightningStore(**LIMITS))) > LEAST


@pytest.mark.timeout(300)
@pytest.mark.wide
async def test_nothing_is_written_and_nothing_is_a_fault_of_ours_over_redis(redis_url, namespace):
    assert len(await check(RedisLightningStore(redis_url, namespace=namespace, **LIMITS))) > LEAST


def test_every_operation_with_a_route_is_in_the_catalogue():
    posted = {route.codec.operation.name for route in ROUTES if not route.reads_query}
    assert set(valid_bodies(WORLD)) == posted
    requests = malformed_requests(WORLD)
    assert len({request.data for request in requests}) > LEAST
    assert not [request for request in requests if request.expected & {500, 502}]
    for route in ROUTES:
        start = route.path.partition("{")[0]
        assert [each for each in requests if f"{API}{start}".encode() in each.data], route.path


async def test_bodies_that_the_catalogue_begins_with_are_taken():
    """Or the catalogue would show nothing: each of its requests is wrong in one way only."""
    async with LightningStoreServer(InMemoryLightningStore(), **SERVER_OPTIONS) as server:
        for name in valid_bodies(WORLD):
            started = await server.start_rollout("task")
            world = World(started.rollout_id, started.attempt.attempt_id, "rs-1", "w")
            path = str(OPERATIONS[name].path)
            for field, value in {**vars(world), "consumer": "reader"}.items():
                path = path.replace(f"{{{field}}}", value)
            body = valid_bodies(world)[name]
            answer = await send_raw(server.url, http("POST", API + path, json.dumps(body).encode()))
            assert answer.split(b" ")[1] in {b"200", b"201"}, (name, answer)


async def test_checker_notices_what_is_written():
    store = InMemoryLightningStore()
    before = await observable(store)
    await store.update_worker("w")
    assert await observable(store) != before


def test_checker_notices_wrong_answers():
    request = Malformed("kind", "what", b"", frozenset({400}))
    assert Answer(request, 400, b"{}").is_right
    assert not Answer(request, 500, b"{}").is_right
    assert not Answer(request, 400, b"Traceback (most recent call last)").is_right


def test_wrong_values_are_derived_from_types():
    assert wrong_values(Any) == []
    assert 1.5 not in wrong_values(float)
    assert [] not in wrong_values(list[str])
    assert [5] in wrong_values(list[str] | None)


def test_table_of_the_documentation_is_that_of_the_catalogue():
    """Written by `python -m tests.http.malformed`; the number of requests of each kind must agree."""
    text = (ROOT / TABLE).read_text()
    answers = [Answer(request, min(request.expected), b"") for request in malformed_requests(WORLD)]
    for line in table(answers, ["memory", "Redis"]).splitlines():
        if line.startswith("| "):
            kind, count = line.split("|")[1:3]
            assert f"|{kind}|{count}|" in text


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
POSTED = sorted(set(valid_bodies(WORLD)) - {"wait_for_rollouts", "completions", "dequeue_many_rollouts"})
"""Those that may wait for long if junk says so are left to the catalogue."""


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_anything_anywhere_is_answered_and_never_with_a_fault_of_ours(junk_server, data):
    """What comes out may be a request that is taken; only that it is answered is known."""
    server, world = junk_server
    name = data.draw(st.sampled_from(POSTED))
    body = valid_bodies(world)[name]
    if data.draw(st.booleans()) or not isinstance(body, dict) or not body:
        body = data.draw(JUNK)
    else:
        body[data.draw(st.sampled_from(sorted(body)))] = data.draw(JUNK)
    path = str(OPERATIONS[name].path)
    for field, value in {**vars(world), "consumer": "reader"}.items():
        path = path.replace(f"{{{field}}}", value)

    answer = await send_raw(server.url, http("POST", API + path, json.dumps(body).encode()))

    assert answer.split(b" ")[1] in {b"200", b"201", b"400", b"404", b"410", b"413", b"422", b"429"}, answer


@pytest.fixture
async def junk_server():
    async with LightningStoreServer(InMemoryLightningStore(), **SERVER_OPTIONS) as server:
        started = await server.start_rollout("task")
        yield server, World(started.rollout_id, started.attempt.attempt_id, "rs-1", "w")
