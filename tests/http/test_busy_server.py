"""A client before a server that has no room for its call now, or stops: it comes again when it was told to."""

import asyncio

import pytest

from lightning_store import InMemoryLightningStore
from lightning_store.errors import ServerBusyError
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.server import LightningStoreServer
from tests.support.faulty import FaultyStore
from tests.support.http_server import shared_server
from tests.support.serving import connect
from tests.support.until import until

RETRY_AFTER = 1.0
"""What the server asks for."""


@pytest.fixture
async def make_client():
    clients = []

    def make(server, **options):
        clients.append(LightningStoreClient(server.url, **{"retry_delays": [0.01], **options}))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def taken(server):
    """A connection that takes the only place for requests."""
    _, writer = await connect(server.url)
    writer.write(b"POST /v1/agl/rollouts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
    await until(lambda: server._running._service._assembled.places.requests == 1)
    return writer


async def test_call_is_repeated_when_the_server_has_asked_for_it(make_server, make_client):
    server = await make_server(max_requests=1)
    client = make_client(server)
    loop = asyncio.get_running_loop()
    writer = await taken(server)
    began = loop.time()
    call = asyncio.ensure_future(client.enqueue_rollout("task"))
    await until(lambda: client._sender.is_ours is True)
    loop.call_later(0.3, writer.close)

    assert (await call).input == "task"

    assert loop.time() - began >= RETRY_AFTER, "its own pause would have been shorter"
    assert (await server.statistics())["total_rollouts"] == 1


async def test_it_is_raised_when_the_time_for_repeats_is_over_however_long_the_server_asks_for(
    make_server, make_client
):
    server = await make_server(max_requests=1)
    loop = asyncio.get_running_loop()
    writer = await taken(server)
    for seconds in (0.0, 0.4):
        client = make_client(server, retry_seconds=seconds)
        began = loop.time()
        with pytest.raises(ServerBusyError, match="as many as may"):
            await client.statistics()
        assert seconds <= loop.time() - began
    writer.close()


async def test_waits_that_have_no_place_are_repeated(make_server, make_client):
    server = await make_server(max_waits=1)
    client = make_client(server)
    places = server._running._service._assembled.places
    first = asyncio.ensure_future(client.dequeue_rollout(timeout=60))
    await until(lambda: places.waits == 1)
    second = asyncio.ensure_future(client.dequeue_rollout(timeout=60))
    hurried = make_client(server, retry_seconds=0.1)
    with pytest.raises(ServerBusyError, match="wait already"):
        await hurried.dequeue_rollout(timeout=60)

    for number, waiting in enumerate((first, second)):
        await server.enqueue_rollout(number)
        assert (await asyncio.wait_for(waiting, 20)).input == number


async def test_call_that_a_stopping_server_cuts_off_takes_effect_once_at_the_next(make_client):
    store = FaultyStore(InMemoryLightningStore())
    store.gates["start_rollout"] = asyncio.Event()
    server = LightningStoreServer(store, drain_seconds=0.05)
    await server.start()
    call = asyncio.ensure_future(make_client(server).start_rollout("task"))
    await until(lambda: store.calls["start_rollout"] == 1)
    await server.stop()
    await server.start()
    store.gates["start_rollout"].set()

    assert (await asyncio.wait_for(call, 20)).input == "task"

    assert (await store.query_rollouts()).total == 1
    await server.close()


@pytest.mark.parametrize("asked", [b"0", b"1", b"99999999999999999999", b"-1", b"Wed, 21 Oct 2015 07:28:00 GMT", b""])
async def test_what_is_asked_for_is_a_number_of_seconds(asked):
    """Of our server or of what stands before it; anything else is left aside."""
    times = []

    async def app(scope, receive, send):
        is_call = not scope["path"].endswith("/health")
        times.extend([asyncio.get_running_loop().time()] * is_call)
        is_busy = is_call and len(times) == 1
        headers = [(b"x-lightning-store", b"1"), *([(b"retry-after", asked)] * is_busy)]
        await send({"type": "http.response.start", "status": 503 if is_busy else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    client = LightningStoreClient(shared_server().mount(app), retry_delays=[0.01])
    await client.statistics()
    await client.close()
    assert (times[1] - times[0] >= RETRY_AFTER) == (asked == b"1")
