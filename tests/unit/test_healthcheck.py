"""The healthcheck daemon: sweeps, tells, and says whether it does so in time."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lightning_store import healthcheck
from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.errors import InternalStoreError, InvalidRequestError, SchemaMismatchError, StoreUnavailableError
from lightning_store.healthcheck import HealthCheck
from lightning_store.records import AttemptedRollout, RolloutConfig
from tests.support.clock import SettableClock
from tests.support.faulty import FaultyStore


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def store(clock: SettableClock) -> AsyncIterator[FaultyStore]:
    inner = InMemoryLightningStore(clock=clock)
    yield FaultyStore(inner)
    await inner.close()


@asynccontextmanager
async def running(store: Any, **options: Any) -> AsyncIterator[HealthCheck]:
    daemon = HealthCheck(store, **{"interval": 0.05, **options})
    task = asyncio.ensure_future(daemon.run())
    try:
        yield daemon
    finally:
        daemon.stop()
        await asyncio.wait_for(task, 10)


async def sweeps(daemon: HealthCheck, number: int) -> None:
    """Wait for so many more sweeps."""
    wanted = daemon.health()[1]["sweeps"] + number
    while daemon.health()[1]["sweeps"] < wanted:  # noqa: ASYNC110 - the daemon has no event for it
        await asyncio.sleep(0.005)


async def port_of(daemon: HealthCheck) -> int:
    """The port, once there is one."""
    while daemon.port is None:  # noqa: ASYNC110 - the daemon has no event for it
        await asyncio.sleep(0.005)
    return daemon.port


async def active(store: FaultyStore, **config: Any) -> AttemptedRollout:
    return await store.start_rollout("task", worker_id="w", config=RolloutConfig(**config))


async def ask(
    daemon: HealthCheck, request: str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", await port_of(daemon))
    writer.write(request.encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    lines = head.split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), body


async def test_late_attempts_are_settled_and_logged_with_cause_and_lateness(store, clock, caplog):
    rollout = await active(store, unresponsive_seconds=10, max_attempts=2, retry_condition=["unresponsive"])
    clock.advance(12.5)
    with caplog.at_level(logging.INFO):
        async with running(store) as daemon:
            await sweeps(daemon, 1)
    (line,) = [record.getMessage() for record in caplog.records if "transition " in record.getMessage()]
    assert line == (
        f"transition rollout={rollout.rollout_id} attempt={rollout.attempt.attempt_id} worker=w "
        "attempt_status=unresponsive rollout_status=requeuing cause=worker_lost late_seconds=2.500"
    )


async def test_what_is_due_is_settled_in_batches_until_nothing_is(store, clock):
    for _ in range(25):
        await active(store, timeout_seconds=1)
    clock.advance(2)
    async with running(store, batch=10) as daemon:
        await sweeps(daemon, 1)
        assert daemon.health()[1]["transitions"] == 25
        assert store.calls["expire_attempts"] >= 3


async def test_daemon_sleeps_until_the_next_deadline_only(store, clock):
    await active(store, timeout_seconds=0.2)
    async with running(store, interval=60.0) as daemon:
        await sweeps(daemon, 1)
        clock.advance(0.3)
        await asyncio.wait_for(sweeps(daemon, 1), 10)
        assert daemon.health()[1]["transitions"] == 1


async def test_silent_workers_are_marked_and_logged(store, clock, caplog):
    await store.dequeue_rollout("quiet")
    clock.advance(100)
    await store.dequeue_rollout("loud")
    async with running(store, silent_seconds=50) as daemon:
        await sweeps(daemon, 1)
    assert "silent worker=quiet" in caplog.text
    assert "loud" not in caplog.text


async def test_workers_are_looked_at_once_per_interval_only(store, clock):
    for _ in range(100):
        await active(store, timeout_seconds=0.001)
    async with running(store, interval=60.0) as daemon:
        await sweeps(daemon, 5)
    assert store.calls["expire_workers"] == 1


async def test_daemon_waits_for_the_store_and_goes_on(store, clock, caplog):
    store.errors["expire_attempts"] = StoreUnavailableError("gone")
    with caplog.at_level(logging.WARNING):
        async with running(store) as daemon:
            while store.calls["expire_attempts"] < 3:  # noqa: ASYNC110 - counted by the double
                await asyncio.sleep(0.005)
            del store.errors["expire_attempts"]
            await sweeps(daemon, 1)
    assert caplog.text.count("out of reach") == 1
    assert caplog.text.count("is back") == 1


async def test_sweep_that_fails_otherwise_is_logged_and_tried_again(store, caplog):
    faults = iter([InternalStoreError("broken record")])
    store.errors["expire_attempts"] = lambda _arguments: next(faults, None)
    async with running(store) as daemon:
        await sweeps(daemon, 1)
    assert "broken record" in caplog.text


async def test_daemon_ends_when_the_store_refuses_for_good(store):
    store.errors["expire_attempts"] = SchemaMismatchError("another version")
    with pytest.raises(SchemaMismatchError):
        await asyncio.wait_for(HealthCheck(store).run(), 10)


async def test_daemon_stops_while_the_store_does_not_answer(store):
    store.gates["expire_attempts"] = asyncio.Event()
    async with running(store):
        while not store.calls["expire_attempts"]:  # noqa: ASYNC110 - counted by the double
            await asyncio.sleep(0.005)


async def test_daemon_that_was_stopped_before_ends_at_once(store):
    daemon = HealthCheck(store)
    daemon.stop()
    await asyncio.wait_for(daemon.run(), 10)
    assert store.calls["expire_attempts"] == 0


async def test_healthz_is_ok_while_sweeps_are_completed(store):
    async with running(store, port=0) as daemon:
        await sweeps(daemon, 1)
        status, headers, body = await ask(daemon)
    assert (status, headers["Content-Type"], json.loads(body)["status"]) == (200, "application/json", "ok")
    assert daemon.port is None


async def test_healthz_is_503_when_no_sweep_was_completed_in_time(store, monkeypatch):
    store.gates["expire_attempts"] = asyncio.Event()
    async with running(store, port=0) as daemon:
        with monkeypatch.context() as hasty:
            hasty.setattr(healthcheck, "HEALTHY_MARGIN_SECONDS", 0.0)
            while daemon.health()[0]:  # noqa: ASYNC110 - time has to pass
                await asyncio.sleep(0.01)
            status, _, body = await ask(daemon)
        assert (status, json.loads(body)["status"]) == (503, "late")
        store.gates["expire_attempts"].set()
        await sweeps(daemon, 1)
        assert (await ask(daemon))[0] == 200


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /healthz?x=1", 200),
        ("HEAD /healthz", 200),
        ("POST /healthz", 405),
        ("GET /", 404),
        ("GET /healthz/x", 404),
    ],
)
async def test_healthz_answers_its_own_path_only(store, request_line, status):
    async with running(store, port=0) as daemon:
        found, headers, body = await ask(daemon, f"{request_line} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert found == status
    assert bool(body) is not request_line.startswith("HEAD")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize("request_text", ["nonsense\r\n\r\n", "\r\n\r\n", "GET " + "x" * 100_000])
async def test_nonsense_does_not_end_the_daemon(store, request_text):
    async with running(store, port=0) as daemon:
        reader, writer = await asyncio.open_connection("127.0.0.1", await port_of(daemon))
        writer.write(request_text.encode())
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert (await ask(daemon))[0] == 200


async def test_taken_port_is_an_error(store):
    async with running(store, port=0) as daemon:
        await sweeps(daemon, 1)
        with pytest.raises(OSError, match=str(daemon.port)):
            await HealthCheck(store, port=daemon.port).run()


@pytest.mark.parametrize("options", [{"batch": 0}, {"interval": -1}, {"silent_seconds": -1}, {"port": -1}])
def test_options_out_of_bounds_are_refused(store, options):
    with pytest.raises(InvalidRequestError):
        HealthCheck(store, **options)
