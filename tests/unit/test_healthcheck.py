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
from lightning_store.errors import (
    AccessDeniedError,
    InternalStoreError,
    InvalidRequestError,
    SchemaMismatchError,
    StoreUnavailableError,
)
from lightning_store.healthcheck import HealthCheck
from lightning_store.records import AttemptedRollout, RolloutConfig
from lightning_store.retention import RetentionOptions
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


async def finished(store: FaultyStore, *names: str, status: Any = "succeeded") -> None:
    for name in names:
        await store.enqueue_rollout(name, rollout_id=name)
        await store.update_rollout(name, status=status)


async def left(store: FaultyStore) -> list[str]:
    return [rollout.rollout_id for rollout in await store.query_rollouts()]


def pruning(**options: Any) -> RetentionOptions:
    return RetentionOptions(**{"interval": 0.02, **options})


async def prunes(store: FaultyStore, number: int) -> None:
    """Wait for so many more calls of `prune`."""
    wanted = store.calls["prune"] + number
    while store.calls["prune"] < wanted:  # noqa: ASYNC110 - counted by the double
        await asyncio.sleep(0.005)


async def test_nothing_is_pruned_unless_it_is_told(store):
    await finished(store, "a")
    async with running(store) as daemon:
        await sweeps(daemon, 3)
    assert store.calls["prune"] == 0
    assert store.calls["evict_spans"] > 0
    assert await left(store) == ["a"]


async def test_daemon_prunes_again_and_again_and_tells(store, caplog):
    await finished(store, "a", "b", "c")
    with caplog.at_level(logging.INFO):
        async with running(store, retention=pruning(keep_latest=1)) as daemon:
            await prunes(store, 2)
            await finished(store, "d")
            await prunes(store, 2)
            assert daemon.health()[1]["pruned"] == 3
    assert await left(store) == ["d"]
    assert [line for line in caplog.text.splitlines() if line.endswith("pruned rollouts=2")]


async def test_daemon_prunes_by_age_and_status(store, clock):
    await finished(store, "a", status="failed")
    await finished(store, "b")
    clock.advance(10)
    await finished(store, "c", status="failed")
    async with running(store, retention=pruning(older_than_seconds=5, status_in=["failed"])):
        await prunes(store, 2)
    assert await left(store) == ["b", "c"]


async def test_daemon_prunes_what_every_consumer_has_passed(store):
    await finished(store, "a", "b", "c")
    cursors = [item.cursor for item in (await store.completions()).items]
    async with running(store, retention=pruning(consumed=True)) as daemon:
        await sweeps(daemon, 3)
        assert await left(store) == ["a", "b", "c"]
        await store.acknowledge_completions("quick", cursors[2])
        await store.acknowledge_completions("slow", cursors[0])
        await prunes(store, 3)
        assert len(await left(store)) < 3
        await store.acknowledge_completions("slow", cursors[1])
        await prunes(store, 2)
        assert await left(store) == ["c"]


async def test_prune_that_fails_is_logged_and_tried_again(store, caplog):
    await finished(store, "a")
    faults = iter([InternalStoreError("broken record"), StoreUnavailableError("gone")])
    store.errors["prune"] = lambda _arguments: next(faults, None)
    async with running(store, retention=pruning(keep_latest=0)):
        await prunes(store, 4)
    assert "broken record" in caplog.text
    assert await left(store) == []


async def test_sweeps_go_on_while_a_prune_takes_long(store):
    store.gates["prune"] = asyncio.Event()
    async with running(store, retention=pruning(keep_latest=0)) as daemon:
        await prunes(store, 1)
        await sweeps(daemon, 3)


async def test_daemon_that_may_not_evict_says_so_once(store, caplog):
    store.errors["evict_spans"] = AccessDeniedError("NOPERM")
    async with running(store) as daemon:
        await sweeps(daemon, 5)
    assert caplog.text.count("may not") == 1
    assert store.calls["evict_spans"] == 1


@pytest.mark.parametrize(
    "options",
    [{"keep_latest": -1}, {"older_than_seconds": -1}, {"status_in": ["running"]}, {"keep_latest": 1, "interval": -1}],
)
def test_retention_out_of_bounds_is_refused(store, options):
    with pytest.raises(InvalidRequestError):
        HealthCheck(store, retention=RetentionOptions(**options))


@pytest.mark.parametrize("options", [{"batch": 0}, {"interval": -1}, {"silent_seconds": -1}, {"port": -1}])
def test_options_out_of_bounds_are_refused(store, options):
    with pytest.raises(InvalidRequestError):
        HealthCheck(store, **options)
