"""Calls that are sent again: each takes effect once, whatever became of its connection, in any process."""

import asyncio
import secrets

import aiohttp
import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.http.answers import Answers, Outcome
from lightning_store.http.app import CALLER, build_app
from lightning_store.http.client import LightningStoreClient
from tests.support.factories import claim, requests_for, some_resources, span_of
from tests.support.faulty import FaultyStore
from tests.support.http_server import Raw, ServedStore, shared_server
from tests.support.proxy import Fault, Proxy, the_first
from tests.support.until import until

DEQUEUE = "/queues/rollouts/dequeue"
FAULTS = [Fault.LOST_ANSWER, Fault.CUT_BEFORE, Fault.HALF_MESSAGE, Fault.CUT_AFTER, Fault.HALF_ANSWER]


def key():
    return {"Idempotency-Key": secrets.token_hex(16), "X-Lightning-Store": "1"}


class Alternating:
    """Two applications over the same data that take turns, as two processes of a server do."""

    def __init__(self, *apps):
        self.apps = list(apps)

    async def __call__(self, scope, receive, send):
        self.apps.append(self.apps.pop(0))
        await self.apps[-1](scope, receive, send)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def served(request, namespace):
    """A store in memory behind one process, or a namespace behind two."""
    if request.param == "memory":
        stores = [InMemoryLightningStore()]
    else:
        url = request.getfixturevalue("redis_url")
        stores = [RedisLightningStore(url, namespace=namespace) for _ in range(2)]
    server = shared_server()
    yield server.mount(Alternating(*(build_app(store, orphan_seconds=30) for store in stores)))
    for store in stores:
        await server.run(store.close())


@pytest.fixture
async def direct(served):
    """A client whose connections are left alone."""
    store = LightningStoreClient(served)
    yield store
    await store.close()


async def enqueue(store, _):
    await store.enqueue_rollout("again")


async def start(store, _):
    await store.start_rollout("again", worker_id="w")


async def dequeue(store, _):
    assert (await claim(store, "w")).input == "queued"


async def dequeue_and_wait(store, _):
    assert (await claim(store, "w", timeout=20)).input == "queued"


async def start_attempt(store, started):
    assert (await store.start_attempt(started.rollout_id)).attempt.sequence_id == 2


async def number(store, started):
    assert await store.get_next_span_sequence_id(started.rollout_id, "a") == 1


async def spans(store, started):
    assert len(await store.add_many_spans([span_of(started), span_of(started)], renumber=True)) == 2


async def resources(store, _):
    assert (await store.update_resources("own", some_resources())).version == 1


async def retry(store, started):
    assert (await store.update_attempt(started.rollout_id, "latest", status="failed")).status == "failed"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize(
    "call", [enqueue, start, dequeue, dequeue_and_wait, start_attempt, number, spans, resources, retry]
)
async def test_call_whose_connection_is_lost_takes_effect_once(served, direct, fault, call):
    started = await direct.start_rollout("started")
    await direct.enqueue_rollout("queued")

    async with Proxy(served) as proxy:
        store = LightningStoreClient(proxy.url, retry_delays=[0.01], retry_seconds=60)
        await store.statistics()
        proxy.fault, proxy.judge = fault, the_first(b"Idempotency-Key")
        await call(store, started)
        await store.close()
        assert proxy.lost == 1

    assert (await direct.query_rollouts()).total == 2 + (call in {enqueue, start})
    assert (await direct.query_attempts(started.rollout_id)).total == 1 + (call is start_attempt)
    claimed = (await direct.query_rollouts(status_in=["preparing"])).items
    claimed = [rollout for rollout in claimed if rollout.input == "queued"]
    assert len(claimed) == (call in {dequeue, dequeue_and_wait})
    spans_stored = await direct.query_spans(started.rollout_id)
    assert [span.sequence_id for span in spans_stored] == ([1, 2] if call is spans else [])
    assert (await direct.get_rollout_by_id(started.rollout_id)).status == (
        "failed" if call is retry else "preparing" if call is not spans else "running"
    )


# -- one process, call by call -----------------------------------------------------------------------------------------


@pytest.fixture
async def faulty():
    """A store in memory whose calls can be held up, a client of it, and raw requests to it."""
    store = FaultyStore(InMemoryLightningStore())
    client = ServedStore(store, orphan_seconds=30)
    async with aiohttp.ClientSession() as session:
        yield store, client, Raw(client.url, session)
    await client.close()


async def held_up(task, store, name):
    """Returns when a call is held up in the store."""
    await until(lambda: store.calls[name] > 0)
    assert not task.done()


async def test_repeat_is_answered_from_memory(faulty):
    store, _, http = faulty
    headers = key()
    first = await http("POST", "/rollouts", {"input": 1}, headers=headers)
    again = await http("POST", "/rollouts", {"input": 1}, headers=headers)
    assert first == again
    assert store.calls["start_rollout"] == 1


async def test_repeat_joins_the_call_that_is_under_way(faulty):
    store, _, http = faulty
    store.gates["start_rollout"] = asyncio.Event()
    headers = key()
    tries = [asyncio.ensure_future(http("POST", "/rollouts", {"input": 1}, headers=headers)) for _ in range(3)]
    await held_up(tries[0], store, "start_rollout")
    store.gates["start_rollout"].set()

    answers = await asyncio.gather(*tries)

    assert answers[0] == answers[1] == answers[2]
    assert store.calls["start_rollout"] == 1


async def test_call_that_failed_is_tried_again(faulty):
    store, _, http = faulty
    headers = key()
    store.errors["start_rollout"] = RuntimeError("broken")
    assert (await http("POST", "/rollouts", {"input": 1}, headers=headers))[0] == 500
    del store.errors["start_rollout"]
    assert (await http("POST", "/rollouts", {"input": 1}, headers=headers))[0] == 201


async def test_key_is_good_for_one_path_and_one_caller(faulty):
    store, _, http = faulty
    headers = key()
    _, first = await http("POST", "/rollouts", {"input": 1}, headers=headers)
    _, other = await http("POST", f"/rollouts/{first['rollout_id']}/attempts", headers=headers)
    assert other["attempt"]["sequence_id"] == 2

    app = build_app(store)

    async def known(scope, receive, send):
        await app({**scope, CALLER: dict(scope["headers"])[b"x-role"].decode()}, receive, send)

    url = shared_server().mount(known)
    async with aiohttp.ClientSession() as session:
        http = Raw(url, session)
        ids = [
            (await http("POST", "/rollouts", {"input": 1}, headers={**headers, "X-Role": role}))[1]["rollout_id"]
            for role in ("runner", "admin", "runner")
        ]
    assert ids[0] == ids[2] != ids[1]


async def test_reads_are_never_answered_from_memory(faulty):
    store, _, http = faulty
    headers = key()
    for _ in range(2):
        await http("POST", "/rollouts/search", {}, headers=headers)
    assert store.calls["query_rollouts"] == 2


@pytest.mark.parametrize("bad", ["", "x", "A" * 32, "0" * 31, "0" * 33])
async def test_what_is_no_key_is_refused(faulty, bad):
    store, _, http = faulty
    status, answer = await http("POST", "/rollouts", {"input": 1}, headers={"Idempotency-Key": bad})
    assert (status, "Idempotency-Key" in answer["detail"]) == (400, True)
    assert store.calls["start_rollout"] == 0


# -- claims whose caller goes away -------------------------------------------------------------------------------------


async def abandoned_claim(faulty, headers=None, timeout=0):
    """A claim whose caller hangs up while the store is busy with it."""
    store, client, _ = faulty
    await client.enqueue_rollout("task")
    store.gates["dequeue_many_rollouts"] = asyncio.Event()
    others = shared_server().connections
    async with aiohttp.ClientSession() as session:
        asked = Raw(client.url, session)("POST", DEQUEUE, {"worker_id": "w", "timeout": timeout}, headers=headers)
        task = asyncio.ensure_future(asked)
        await held_up(task, store, "dequeue_many_rollouts")
        callers = shared_server().connections - others
        assert callers
        task.cancel()
        await asyncio.wait({task})
    await until(lambda: not callers & shared_server().connections)
    store.gates.pop("dequeue_many_rollouts").set()


async def test_claim_is_kept_for_the_repeat_of_a_caller_who_went_away(faulty):
    _, client, http = faulty
    headers = key()
    await abandoned_claim(faulty, headers)
    await until(lambda: attempts_of_all(client, 1))

    status, [again] = await http("POST", DEQUEUE, {"worker_id": "w"}, headers={**headers, "X-Lightning-Store-Try": "2"})

    assert (status, again["attempt"]["sequence_id"]) == (200, 1)
    assert await client.dequeue_rollout() is None


async def attempts_of_all(client, count):
    return (await client.statistics())["total_attempts"] == count


async def is_queued_again(client):
    [rollout] = await client.query_rollouts()
    return rollout.status == "requeuing" and rollout.attempt.cause == "released"


async def test_claim_of_a_caller_without_a_key_is_handed_back_at_once(faulty):
    _, client, _ = faulty
    await abandoned_claim(faulty)
    await until(lambda: is_queued_again(client))


async def test_claim_that_nobody_asks_for_again_is_handed_back_and_a_late_repeat_claims_afresh():
    store = FaultyStore(InMemoryLightningStore())
    client = ServedStore(store, orphan_seconds=0.2)
    async with aiohttp.ClientSession() as session:
        http = Raw(client.url, session)
        headers = key()
        await abandoned_claim((store, client, http), headers)
        await until(lambda: is_queued_again(client))
        status, [again] = await http("POST", DEQUEUE, {}, headers=headers | {"X-Lightning-Store-Try": "2"})
    await client.close()
    assert (status, again["status"], again["attempt"]["sequence_id"]) == (200, "preparing", 2)


async def test_waiting_claim_ends_with_its_caller(faulty):
    _, client, _ = faulty
    await abandoned_claim(faulty, key(), timeout=30)
    claimed = await asyncio.wait_for(client.dequeue_rollout(timeout=20), 25)
    assert claimed.attempt.sequence_id == 1


async def test_call_is_ended_by_its_key(faulty):
    store, client, http = faulty
    headers = key()
    await client.enqueue_many_rollouts(requests_for([1, 2]))
    _, [first] = await http("POST", DEQUEUE, headers=headers)
    assert await http("DELETE", DEQUEUE, headers=headers) == (200, None)
    assert (await client.get_rollout_by_id(first["rollout_id"])).status == "requeuing"
    assert await http("POST", DEQUEUE, headers=headers) == (200, []), "an ended call claims nothing later"

    headers = key()
    waiting = asyncio.ensure_future(http("POST", DEQUEUE, {"queues": ["other"], "timeout": 60}, headers=headers))
    await until(lambda: store.calls["dequeue_many_rollouts"] >= 2)
    assert await http("DELETE", DEQUEUE, headers=headers) == (200, None)
    assert await asyncio.wait_for(waiting, 10) == (200, [])
    assert (await http("DELETE", DEQUEUE))[0] == 400
    assert (await http("DELETE", "/rollouts", headers=headers))[0] == 405


@pytest.mark.redis
async def test_repeat_in_another_process_gets_the_same_claim_or_a_fresh_one_if_that_was_handed_back(
    redis_url, namespace
):
    stores = [RedisLightningStore(redis_url, namespace=namespace) for _ in range(2)]
    here, there = (ServedStore(store) for store in stores)
    await here.enqueue_many_rollouts(requests_for([1, 2]))
    async with aiohttp.ClientSession() as session:
        headers = key()
        _, [first] = await Raw(here.url, session)("POST", DEQUEUE, {"worker_id": "w"}, headers=headers)
        headers["X-Lightning-Store-Try"] = "2"
        _, [same] = await Raw(there.url, session)("POST", DEQUEUE, {"worker_id": "w"}, headers=headers)
        assert same["attempt"]["attempt_id"] == first["attempt"]["attempt_id"]

        headers = key()
        _, [second] = await Raw(here.url, session)("POST", DEQUEUE, {"worker_id": "w"}, headers=headers)
        await here.release_attempt(second["rollout_id"], second["attempt"]["attempt_id"])
        headers["X-Lightning-Store-Try"] = "2"
        _, [fresh] = await Raw(there.url, session)("POST", DEQUEUE, {"worker_id": "w"}, headers=headers)
        assert fresh["rollout_id"] == second["rollout_id"]
        assert (fresh["status"], fresh["attempt"]["sequence_id"]) == ("preparing", 2)
    for store in (here, there):
        await store.close()


# -- what is remembered ------------------------------------------------------------------------------------------------


def test_answers_are_bounded_in_number_bytes_and_age():
    answers = Answers(seconds=60, most=3, most_bytes=10_000)
    for number in range(5):
        answers.keep(f"{number}", Outcome(b"x"))
    assert [number for number in range(5) if answers.get(f"{number}")] == [2, 3, 4]

    answers.keep("long", Outcome(b"x" * 9_000))
    assert [number for number in range(5) if answers.get(f"{number}")] == [4]
    answers.keep("too long", Outcome(b"x" * 20_000))
    assert len(answers) == 0

    answers = Answers(seconds=0)
    answers.keep("old", Outcome(b"x"))
    assert answers.get("old") is None
