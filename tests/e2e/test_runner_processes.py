"""Runner and healthcheck processes on a real Redis, some on a SQLite file too: signals, restarts, sudden death."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.contract import LightningStore
from lightning_store.records import Attempt, EnqueueRolloutRequest, Rollout, RolloutConfig
from tests.support.places import Place, on_places
from tests.support.processes import is_gone
from tests.support.run_process import start

RETRIED = RolloutConfig(max_attempts=10, retry_condition=["unresponsive"])

MANY = 500

pytestmark = pytest.mark.wide

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
async def store(place: Place) -> AsyncIterator[LightningStore]:
    store = place.open()
    yield store
    await store.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the processes print."""
    path = tmp_path / "processes.log"
    path.touch()
    return path


@pytest.fixture
def launch(log: Path) -> Iterator[Start]:
    """Starts processes that are gone after the test; what they printed is shown if it fails."""
    processes: list[subprocess.Popen[bytes]] = []

    def launch(kind: str, **options: Any) -> "subprocess.Popen[bytes]":
        processes.append(start(kind, log, **options))
        return processes[-1]

    yield launch
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(10)
    sys.stdout.write(log.read_text())


@pytest.fixture
def runner(launch: Start, place: Place) -> Start:
    """Starts a runner on `store`."""

    def runner(agent: str, **options: Any) -> "subprocess.Popen[bytes]":
        options = {**place.options, "grace_seconds": 20.0, **options}
        return launch("runner", agent=f"tests.support.agents:{agent}", **options)

    return runner


async def ended(process: "subprocess.Popen[bytes]", within_seconds: float = 20.0) -> int:
    """The exit code of a process that ends in time."""
    return await asyncio.to_thread(process.wait, within_seconds)


async def ended_by_another(process: "subprocess.Popen[bytes]", number: int) -> int:
    """The exit code of a process that had a signal and gets another.

    One that comes before the process has run again is one with the first, so that more may be needed.
    """
    for _ in range(10):
        process.send_signal(number)
        try:
            return await ended(process, 3)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("it runs on")


async def eventually(condition: Callable[[], Any], within_seconds: float = 30.0) -> Any:
    """What the condition answers once that is true."""
    deadline = time.monotonic() + within_seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def latest(store: LightningStore, rollout: Rollout) -> Attempt:
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt is not None
    return attempt


async def until_running(store: LightningStore, rollout: Rollout) -> None:
    async def is_running() -> bool:
        found = await store.get_rollout_by_id(rollout.rollout_id)
        return found is not None and found.status == "running"

    await eventually(is_running)


async def until_worker(store: LightningStore, number: int = 1) -> None:
    async def has_come() -> bool:
        return len(await store.query_workers()) >= number

    await eventually(has_come)


async def enqueue(store: LightningStore, number: int, **fields: Any) -> list[Rollout]:
    requests = [EnqueueRolloutRequest(input=count, config=RETRIED, **fields) for count in range(number)]
    return await store.enqueue_many_rollouts(requests)


async def finish(store: LightningStore, rollouts: list[Rollout]) -> list[str]:
    """The statuses of rollouts once they have finished."""
    ids = [rollout.rollout_id for rollout in rollouts]
    done = await store.wait_for_rollouts(rollout_ids=ids, timeout=60)
    assert len(done) == len(ids)
    return [rollout.status for rollout in done]


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle_runner_ends_with_0_at_a_signal(store, runner, number):
    process = runner("quick")
    await until_worker(store)
    process.send_signal(number)
    assert await ended(process) == 0


@on_places("redis", "sqlite")
async def test_running_agent_finishes_after_the_signal(store, runner, tmp_path):
    gate = tmp_path / "gate"
    rollout = await store.enqueue_rollout(str(gate))
    process = runner("patient")
    await until_running(store, rollout)
    process.terminate()
    await asyncio.sleep(0.2)
    assert process.poll() is None
    gate.touch()
    assert await ended(process) == 0
    assert await finish(store, [rollout]) == ["succeeded"]
    assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 1.0}


@on_places("redis", "sqlite")
async def test_agent_that_does_not_finish_in_time_gives_its_rollout_back(store, runner, tmp_path):
    rollout = await store.enqueue_rollout(str(tmp_path / "never"))
    await store.enqueue_rollout("behind it")
    process = runner("patient", grace_seconds=0.2)
    await until_running(store, rollout)
    process.terminate()
    assert await ended(process) == 0
    attempt = await latest(store, rollout)
    assert (attempt.status, attempt.cause) == ("failed", "released")
    again = await store.dequeue_rollout()
    assert again is not None
    assert again.rollout_id == rollout.rollout_id


@pytest.mark.slow
async def test_agent_that_blocks_the_loop_gives_its_rollout_back_too(store, runner, tmp_path):
    rollout = await store.enqueue_rollout(str(tmp_path / "never"))
    process = runner("blocking", grace_seconds=0.2)
    await until_running(store, rollout)
    process.terminate()
    assert await ended(process, 40) == 0
    assert (await latest(store, rollout)).cause == "released"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("agent", ["patient", "blocking"])
async def test_second_signal_ends_the_process_at_once(store, runner, tmp_path, number, code, agent):
    rollout = await store.enqueue_rollout(str(tmp_path / "never"))
    process = runner(agent, grace_seconds=600.0)
    await until_running(store, rollout)
    process.send_signal(number)
    await asyncio.sleep(0.3)
    assert process.poll() is None
    assert await ended_by_another(process, number) == code


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("agent", ["missing", "not_callable"])
async def test_agent_that_cannot_be_loaded_is_a_usage_error(runner, agent, processes):
    assert await ended(runner(agent, processes=processes)) == 2


# -- processes of one parent -------------------------------------------------------------------------------------------


def children_of(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_processes_share_the_work_and_end_with_their_parent(store, runner, number):
    rollouts = await enqueue(store, 100)
    process = runner("slow", processes=3, concurrency=2)
    assert set(await finish(store, rollouts)) == {"succeeded"}
    await until_worker(store, 6)
    children = children_of(process)
    assert len(children) == 3
    process.send_signal(number)
    assert await ended(process) == 0
    assert all(is_gone(child.pid) for child in children)


@on_places("redis", "sqlite")
async def test_runners_of_several_parents_do_each_rollout_once(store, runner):
    rollouts = await enqueue(store, MANY)
    processes = [runner("quick", concurrency=4) for _ in range(4)]

    assert set(await finish(store, rollouts)) == {"succeeded"}

    ids = [rollout.rollout_id for rollout in rollouts]
    tries = [list(await store.query_attempts(id)) for id in ids]
    assert {len(attempts) for attempts in tries} == {1}
    spans = await store.query_many_spans(ids)
    assert {tuple(span.name for span in spans[id]) for id in ids} == {("step", "agentlightning.annotation", "quick")}
    done = Counter(entry.rollout_id for entry in (await store.completions(limit=2 * MANY)).items)
    assert done == dict.fromkeys(ids, 1)
    assert len({attempts[0].worker_id for attempts in tries}) > 4, "one process has done it all"
    for process in processes:
        process.terminate()
        assert await ended(process) == 0


@pytest.mark.slow
async def test_process_that_was_killed_is_started_again(store, runner):
    process = runner("quick", processes=2)
    await until_worker(store, 2)
    victim = children_of(process)[0]
    victim.kill()
    await until_worker(store, 3)
    assert len({child.pid for child in children_of(process)} - {victim.pid}) == 2
    process.terminate()
    assert await ended(process) == 0


@pytest.mark.parametrize("agent", ["patient", "quick"])
@pytest.mark.slow
async def test_processes_end_when_their_parent_is_killed(store, runner, tmp_path, agent):
    if agent == "patient":
        await store.enqueue_rollout(str(tmp_path / "never"))
    process = runner(agent, processes=2)
    await until_worker(store, 2)
    children = children_of(process)
    process.kill()
    await ended(process)
    await eventually(lambda: all(is_gone(child.pid) for child in children))


async def test_second_signal_ends_parent_and_processes_at_once(store, runner, tmp_path):
    rollout = await store.enqueue_rollout(str(tmp_path / "never"))
    process = runner("blocking", processes=2, grace_seconds=600.0)
    await until_running(store, rollout)
    await until_worker(store, 2)
    children = children_of(process)
    process.terminate()
    await asyncio.sleep(0.5)
    assert process.poll() is None
    assert await ended_by_another(process, signal.SIGTERM) == 143
    assert all(is_gone(child.pid) for child in children)


# -- a store that goes away --------------------------------------------------------------------------------------------


@pytest.fixture
async def breakable(
    private_redis: Callable[..., Any], namespace: str
) -> AsyncIterator[tuple[Any, RedisLightningStore]]:
    """A server of this test's own, and a store on it."""
    server = private_redis(appendfsync="always")
    store = RedisLightningStore(server.url, namespace=namespace)
    yield server, store
    await store.close()


@pytest.mark.parametrize("down_seconds", [0.0, 2.0])
@pytest.mark.slow
async def test_runner_and_daemon_go_on_after_a_restart_of_redis(breakable, launch, namespace, down_seconds):
    server, store = breakable
    options = {"store_url": server.url, "namespace": namespace}
    rollouts = await enqueue(store, 80)
    runner = launch("runner", agent="tests.support.agents:slow", concurrency=2, lease_seconds=10.0, **options)
    daemon = launch("healthcheck", interval=0.2, **options)
    await until_running(store, rollouts[20])
    server.kill()
    await asyncio.sleep(down_seconds)
    server.start()
    assert set(await finish(store, rollouts)) == {"succeeded"}
    rewards = await store.rewards([rollout.rollout_id for rollout in rollouts])
    assert set(rewards.values()) == {1.0}
    for process in (runner, daemon):
        assert process.poll() is None
        process.terminate()
        assert await ended(process) == 0


@pytest.mark.slow
async def test_runner_stops_in_time_although_redis_is_gone(breakable, launch, namespace, tmp_path):
    server, store = breakable
    rollout = await store.enqueue_rollout(str(tmp_path / "never"))
    options = {"store_url": server.url, "namespace": namespace, "grace_seconds": 0.2}
    runner = launch("runner", agent="tests.support.agents:patient", **options)
    await until_running(store, rollout)
    server.kill()
    runner.terminate()
    assert await ended(runner, 30) == 0


@on_places("redis", "sqlite")
async def test_daemon_settles_what_a_dead_runner_left(store, runner, launch, log, place, tmp_path):
    rollout = await store.enqueue_rollout(str(tmp_path / "never"))
    daemon = launch("healthcheck", interval=0.5, **place.options)
    process = runner("patient", lease_seconds=3.0)  # so long that it is not lost before it is killed
    await until_running(store, rollout)
    process.kill()
    await eventually(lambda: f"transition rollout={rollout.rollout_id} " in log.read_text())
    daemon.terminate()
    assert await ended(daemon) == 0


async def test_daemon_goes_on_without_its_scripts(store, launch, log, redis_server, namespace):
    daemon = launch("healthcheck", store_url=redis_server.url, namespace=namespace, interval=0.1)
    await eventually(lambda: "started" in log.read_text())
    for number in (1, 2):  # nobody else settles: a rollout that starts settles others only
        await store.start_rollout("task", config=RolloutConfig(timeout_seconds=0.2))
        await eventually(lambda: log.read_text().count("transition rollout=") == number)  # noqa: B023 - used at once
        with redis_server.client() as client:
            client.script_flush()
    os.kill(daemon.pid, signal.SIGINT)
    assert await ended(daemon) == 0
