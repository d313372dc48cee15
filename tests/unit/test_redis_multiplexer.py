"""One connection for the calls of many: nobody gets the answers of another, whoever is cancelled, late or cut off."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial

import pytest
from redis import exceptions as redis_errors

from lightning_store.backends.redis.multiplexer import Multiplexer
from lightning_store.backends.redis.settings import settings_for
from tests.support.proxy import Fault, Proxy
from tests.support.until import until

COROUTINES = 500
BIG = b"x" * 1_000_000


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def socket_seconds() -> float:
    """For how long a call may take: longer than the machine ever stands still."""
    return 30.0


@pytest.fixture
async def shared(proxy: Proxy, socket_seconds: float) -> AsyncIterator[Multiplexer]:
    """Leads through the proxy."""
    multiplexer = Multiplexer(settings_for(proxy.url, socket_seconds=socket_seconds))
    yield multiplexer
    proxy.thaw()
    await multiplexer.close()


async def echo(shared: Multiplexer, text: str, times: int = 1) -> list[str]:
    return [answer.decode() for answer in await shared.send([("ECHO", f"{text}-{n}") for n in range(times)])]


async def is_open(shared: Multiplexer) -> bool:
    """Whether a call is answered; none is when the machine stands still for the time that it may take."""
    try:
        return await echo(shared, "open") == ["open-0"]
    except redis_errors.TimeoutError:
        return False


async def test_each_of_many_gets_its_own_answers_over_one_connection(shared: Multiplexer) -> None:
    answers = await asyncio.gather(*(echo(shared, str(n), 1 + n % 5) for n in range(COROUTINES)))
    [clients] = await shared.send([("CLIENT", "LIST")])
    connected = [line for line in clients.decode().splitlines() if "cmd=client" in line]

    assert answers == [[f"{n}-{k}" for k in range(1 + n % 5)] for n in range(COROUTINES)]
    assert len(connected) == 1


async def test_answers_of_cancelled_calls_are_dropped(shared: Multiplexer) -> None:
    dice = random.Random(1)  # noqa: S311 - repeatable on purpose
    calls = [asyncio.ensure_future(echo(shared, str(n), 1 + n % 3)) for n in range(COROUTINES)]
    for _ in range(3):
        await asyncio.sleep(0)
        for call in dice.sample(calls, 50):
            call.cancel()
    await asyncio.wait(calls)

    left = {n: call.result() for n, call in enumerate(calls) if not call.cancelled()}
    assert 0 < len(left) < COROUTINES
    assert left == {n: [f"{n}-{k}" for k in range(1 + n % 3)] for n in left}
    assert await echo(shared, "next") == ["next-0"]


async def test_error_stands_in_the_place_of_its_answer(shared: Multiplexer) -> None:
    errors, others = await asyncio.gather(
        shared.send([("ECHO", "a"), ("NO-SUCH-COMMAND",), ("ECHO", "b")]), echo(shared, "c")
    )

    assert (errors[0], errors[2], others) == (b"a", b"b", ["c-0"])
    assert isinstance(errors[1], redis_errors.ResponseError)


async def test_late_call_fails_alone_while_others_are_answered(shared: Multiplexer, proxy: Proxy) -> None:
    await echo(shared, "open")
    channel = shared._channel
    now = asyncio.get_running_loop().time()
    first = asyncio.ensure_future(echo(shared, "first"))
    with pytest.raises(redis_errors.TimeoutError, match="no answer within"):
        await shared.send([("ECHO", "late")], now - 1)

    assert await first == ["first-0"]
    assert await echo(shared, "next") == ["next-0"]
    assert shared._channel is channel


@pytest.mark.parametrize("socket_seconds", [0.5])
async def test_connection_that_is_silent_is_given_up_and_opened_anew(shared: Multiplexer, proxy: Proxy) -> None:
    await until(partial(is_open, shared))
    silent = shared._channel
    proxy.freeze()
    calls = [asyncio.ensure_future(echo(shared, str(n))) for n in range(10)]
    await asyncio.wait(calls)
    proxy.thaw()

    first, *others = (call.exception() for call in calls)
    assert isinstance(first, redis_errors.TimeoutError)
    for each in others:  # their own time may not have been over when the connection was given up
        assert isinstance(each, redis_errors.TimeoutError) or "silent for too long" in str(each)
    assert silent is not None
    assert not silent.is_open
    await until(partial(is_open, shared))


async def test_calls_under_way_fail_when_the_connection_is_cut(shared: Multiplexer, proxy: Proxy) -> None:
    await echo(shared, "open")
    proxy.fault, proxy.judge = Fault.LOST_ANSWER, lambda message: b"ECHO" in message
    calls = [asyncio.ensure_future(echo(shared, str(n))) for n in range(10)]
    await asyncio.wait(calls)
    proxy.judge = None

    assert {type(call.exception()) for call in calls} == {redis_errors.ConnectionError}
    assert await echo(shared, "next") == ["next-0"]


async def test_callers_wait_while_the_server_takes_no_more(proxy: Proxy, namespace: str) -> None:
    """Else all that they want to send would pile up in memory."""
    shared = Multiplexer(settings_for(proxy.url))
    await echo(shared, "open")
    proxy.freeze()
    calls = [asyncio.ensure_future(shared.send([("SETEX", f"{namespace}:{n}", 60, BIG)])) for n in range(40)]
    channel = shared._channel
    assert channel is not None
    await until(lambda: channel._room is not None)
    late = [asyncio.ensure_future(shared.send([("SETEX", f"{namespace}:late", 60, BIG)])) for _ in range(40)]
    await asyncio.sleep(0.1)
    assert channel._transport.get_write_buffer_size() <= len(calls) * (len(BIG) + 100)
    proxy.thaw()

    assert await asyncio.gather(*calls, *late) == [[b"OK"]] * 80
    await shared.close()


async def test_all_who_wait_for_a_connection_share_one_try() -> None:
    tries = 0

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    shared = Multiplexer(settings_for(f"redis://:password@127.0.0.1:{port}"))
    calls = [asyncio.ensure_future(echo(shared, str(n))) for n in range(10)]
    await asyncio.wait(calls)
    server.close()
    await shared.close()

    assert all(isinstance(call.exception(), redis_errors.ConnectionError) for call in calls)
    assert tries == 1


async def test_opening_that_nobody_waits_for_is_given_up(proxy: Proxy) -> None:
    shared = Multiplexer(settings_for(f"{proxy.url}?db=1"))
    proxy.freeze()
    calls = [asyncio.ensure_future(echo(shared, str(n))) for n in range(3)]
    await asyncio.sleep(0.05)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    proxy.thaw()

    assert shared._opening is not None
    assert shared._opening.is_over
    assert await echo(shared, "next") == ["next-0"]
    await shared.close()


async def test_closed_one_refuses_calls(shared: Multiplexer) -> None:
    await echo(shared, "open")
    under_way = asyncio.ensure_future(echo(shared, "under way"))
    await asyncio.sleep(0)
    await shared.close()
    await shared.close()

    await asyncio.wait({under_way})
    assert isinstance(under_way.exception(), redis_errors.ConnectionError)
    with pytest.raises(redis_errors.ConnectionError, match="were closed"):
        await echo(shared, "next")


async def test_what_is_no_answer_ends_the_connection() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    shared = Multiplexer(settings_for(f"redis://127.0.0.1:{port}?lib_name=&lib_version="))
    with pytest.raises(redis_errors.RedisError):
        await echo(shared, "x")
    server.close()
    await shared.close()
