"""A primary with two replicas and three sentinels: the primary dies, freezes, is replaced, and comes back."""

import asyncio
import pickle
import re
import time

import pytest
from redis.exceptions import ReadOnlyError

from lightning_store.backends.redis.multiplexer import Multiplexer
from lightning_store.backends.redis.pool import Pool
from lightning_store.backends.redis.settings import settings_for
from lightning_store.errors import AccessDeniedError, StoreUnavailableError
from lightning_store.reachable import check_reachable
from tests.support.command_line import run_process, start_process
from tests.support.factories import claim, span_of, status_of
from tests.support.invariants import check
from tests.support.replicated import SERVICE, SentinelGroup, wait_for
from tests.support.until import AT_ONCE, until

WORKERS = 6
FOLLOWED_SECONDS = 2.0
"""For a busy machine, and for the time in which all sentinels are asked who is named."""

AGENT = "def agent(rollout, resources, tracer):\n    return 2.0 * rollout.input\n"


@pytest.fixture
def group(tmp_path):
    with SentinelGroup(tmp_path / "group") as group:
        yield group


@pytest.fixture(scope="module")
def calm_group(tmp_path_factory):
    """For tests that leave it as it was."""
    with SentinelGroup(tmp_path_factory.mktemp("sentinel") / "group") as group:
        yield group


# -- URLs, the command line ------------------------------------------------------------------------------------------


async def test_rollouts_live_their_whole_life(calm_group, open_store, namespace):
    store = open_store(calm_group.url, min_replicas=2)
    waiting = asyncio.create_task(store.dequeue_rollout("w", timeout=30, lease_seconds=30))
    await asyncio.sleep(0.05)
    queued = await store.enqueue_rollout(1)
    claimed = await waiting
    await store.add_many_spans([span_of(claimed)], renumber=True)
    await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    [finished] = await store.wait_for_rollouts(rollout_ids=[queued.rollout_id], timeout=30)
    assert (finished.status, claimed.rollout_id) == ("succeeded", queued.rollout_id)
    assert not (await store.audit()).findings
    # All of it has arrived: nothing more has to be waited for.
    for server in calm_group.servers:
        with server.client() as raw:
            check(raw, namespace)
            assert raw.exists(store._keys.control("rollout", queued.rollout_id))


async def test_store_is_pickled_and_serves_other_loops(calm_group, open_store):
    store = open_store(calm_group.url)
    await store.enqueue_rollout("task")

    async def claim_and_close():
        other = pickle.loads(pickled)  # noqa: S301 - our own
        await claim(other)
        await other.close()

    pickled = pickle.dumps(store)
    await asyncio.to_thread(asyncio.run, claim_and_close())
    await asyncio.to_thread(asyncio.run, store.enqueue_rollout("from a loop that is closed without notice"))
    statistics = await store.statistics()
    assert (statistics["total_attempts"], statistics["total_rollouts"]) == (1, 2)


async def test_commands_understand_the_url(calm_group, namespace, tmp_path, open_store):
    (tmp_path / "doubling.py").write_text(AGENT)
    (tmp_path / "tasks.jsonl").write_text("1\n2\n")
    settings = {
        "environment": {
            "LIGHTNING_STORE_URL": f"{calm_group.url}&min_replicas=2", "LIGHTNING_STORE_NAMESPACE": namespace,
        },
        "cwd": tmp_path,
    }  # fmt: skip

    async def run(*arguments):
        result = await asyncio.to_thread(run_process, arguments, **settings)
        said = result.out + result.err
        assert calm_group.password not in said
        assert calm_group.sentinel_password not in said
        return result

    assert (await run("enqueue", "tasks.jsonl")).code == 0
    runners = [start_process(["run", "doubling:agent"], **settings), start_process(["healthcheck"], **settings)]
    try:
        result = await run("wait", "--all", "--timeout", "30")
        assert result.code == 0, result.err
    finally:
        for process in runners:
            process.terminate()
        outputs = [process.communicate(timeout=30) for process in runners]
    assert [process.returncode for process in runners] == [0, 0], outputs
    doctor = await run("doctor", "--json")
    found = {finding["check"]: finding for finding in (await run("doctor", "--json")).json["findings"]}
    assert found["role"]["what"] == "primary with 2 replicas", doctor.err
    assert found["permissions"]["level"] == "ok"
    assert found["persistence"]["mend"].startswith(f"redis-cli -h 127.0.0.1 -p {calm_group.servers[0].port} --askpass")
    assert "succeeded" in (await run("status")).out
    assert (await run("audit")).code == 0


async def test_doctor_sees_that_replicas_are_missing(calm_group, namespace):
    environment = {"LIGHTNING_STORE_URL": f"{calm_group.url}&min_replicas=3", "LIGHTNING_STORE_NAMESPACE": namespace}
    result = await asyncio.to_thread(run_process, ["doctor", "--json"], environment=environment)
    found = {finding["check"]: finding for finding in result.json["findings"]}
    assert (result.code, found["role"]["level"]) == (1, "problem")
    assert "min_replicas=3" in found["role"]["why"]


async def test_errors_name_the_sentinels_and_no_password(calm_group, open_store):
    ports = [sentinel.port for sentinel in calm_group.sentinels]
    wrong = {
        "unknown service": calm_group.url_of(*calm_group.sentinels, service="nothing"),
        "nobody there": re.sub(r":\d+/", ":1/", calm_group.url_of(calm_group.sentinels[0])),
        "sentinels' password": calm_group.url.replace(calm_group.sentinel_password, "swordfish"),
        "server's password": calm_group.url.replace(calm_group.password, "swordfish"),
    }  # fmt: skip
    said = {}
    for name, url in wrong.items():
        store = open_store(url, retry_seconds=0.5)
        with pytest.raises((StoreUnavailableError, AccessDeniedError)) as refused:
            await store.enqueue_rollout("task")
        said[name] = f"{type(refused.value).__name__}: {refused.value}"
    assert "'nothing'" in said["unknown service"]
    assert all(f"127.0.0.1:{port}: it does not know the service" in said["unknown service"] for port in ports)
    assert "127.0.0.1:1: Error 111" in said["nobody there"]
    assert said["sentinels' password"].startswith("AccessDeniedError: ")
    assert f"127.0.0.1:{ports[2]}: " in said["sentinels' password"]
    assert said["server's password"].startswith("AccessDeniedError: ")
    secrets = ("swordfish", calm_group.password, calm_group.sentinel_password)
    assert [secret for secret in secrets if secret in "".join(said.values())] == []


async def test_user_of_the_sentinels_needs_two_commands(calm_group, open_store):
    """As docs/high-availability.md says."""
    rights = ("-@all", "+auth", "+sentinel|get-master-addr-by-name", "+sentinel|master")
    sentinel = calm_group.sentinels[0]
    sentinel.ask("ACL", "SETUSER", "watcher", "on", ">watchword", *rights)
    url = calm_group.url_of(sentinel).replace(calm_group.sentinel_password, "watchword&sentinel_username=watcher")
    assert await open_store(url).enqueue_rollout("task")
    await asyncio.to_thread(check_reachable, url)
    sentinel.ask("ACL", "SETUSER", "watcher", "reset", "on", ">watchword", *rights[:-1])
    with pytest.raises(AccessDeniedError, match="permissions"):
        await open_store(url).enqueue_rollout("task")
    with pytest.raises(AccessDeniedError, match="permissions"):
        await asyncio.to_thread(check_reachable, url)


async def test_sentinels_that_are_gone_or_silent_stop_nobody(group, open_store):
    store = open_store(group.url)
    await store.enqueue_rollout("first")
    group.sentinels[0].kill()
    group.sentinels[1].pause()
    fresh = open_store(group.url)
    started = time.monotonic()
    await fresh.enqueue_rollout("second")
    assert time.monotonic() - started < AT_ONCE
    group.sentinels[2].kill()
    with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{group.sentinels[1].port}: no answer"):
        await open_store(group.url, retry_seconds=0.1).enqueue_rollout("third")
    await store.enqueue_rollout("fourth")
    group.sentinels[1].resume()
    await open_store(group.url).enqueue_rollout("fifth")


async def test_sentinel_that_is_behind_misleads_nobody(group, open_store, tmp_path):
    """It names the old primary, which is alive and takes writes: nobody but the others has told either of them."""
    old = group.primary
    group.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
    await asyncio.to_thread(group.wait_for_another, old)
    old.ask("ACL", "SETUSER", "deaf", "on", ">word", "+@all", "-publish", "-subscribe", "~*")
    lines = (f"sentinel auth-user {SERVICE} deaf", f"sentinel auth-pass {SERVICE} word")
    late = group.sentinel(tmp_path / "late", old, *lines)
    late.start()
    try:
        await until(late.answers)
        store, misled = open_store(group.url_of(late, *group.sentinels)), open_store(group.url_of(late))
        await asyncio.gather(store.update_worker("w"), misled.update_worker("w"))
        assert (port_of(store), port_of(misled)) == (group.primary.port, old.port)
    finally:
        late.kill()


def port_of(store):
    """Where a store has a connection."""
    return store._connections._pools.get()._channel._transport.get_extra_info("peername")[1]


async def test_replica_that_is_named_as_primary_is_not_used(group, open_store):
    """By a sentinel that was set up with the address of a replica: reads would be answered, out of date."""
    sentinel = group.sentinels[0]
    sentinel.ask("SENTINEL", "MONITOR", "wrong", "127.0.0.1", str(group.servers[1].port), "2")
    sentinel.ask("SENTINEL", "SET", "wrong", "auth-pass", group.password)
    store = open_store(group.url_of(sentinel, service="wrong"), retry_seconds=0.3)
    with pytest.raises(StoreUnavailableError, match=rf"127.0.0.1:{group.servers[1].port}, .* is a replica"):
        await store.statistics()


# -- failovers -------------------------------------------------------------------------------------------------------


class Work:
    """Producers and consumers, what was acknowledged to them, and a client that notes when it gets through."""

    def __init__(self, store, follower):
        self.acknowledged, self.claimed, self.ended, self.times = [], [], [], []
        self._store, self._follower = store, follower
        self._stopping = asyncio.Event()
        self._tasks = [
            asyncio.create_task(do(number)) for do in (self._produce, self._consume) for number in range(WORKERS)
        ]
        self._tasks.append(asyncio.create_task(self._follow()))

    async def _produce(self, number):
        while not self._stopping.is_set():
            self.acknowledged.append((await self._store.enqueue_rollout(number)).rollout_id)

    async def _consume(self, number):
        while not self._stopping.is_set():
            rollout = await self._store.dequeue_rollout(
                f"w{number}", timeout=1, lease_seconds=60 if number % 2 else None
            )
            if rollout is not None:
                self.claimed.append(rollout.rollout_id)
                await self._store.add_many_spans([span_of(rollout)], renumber=True)
                await self._store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")
                self.ended.append(rollout.rollout_id)

    async def _follow(self):
        while not self._stopping.is_set():
            await self._follower.update_worker("follower")
            self.times.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def goes_on(self, count=20):
        before = len(self.ended)
        await until(lambda: len(self.ended) > before + count, 60)

    async def stop(self):
        self._stopping.set()
        await asyncio.gather(*self._tasks)


def kill(server):
    server.kill()


def freeze(server):
    server.pause()


def start_again(server):
    server.start()


def thaw(server):
    server.resume()


@pytest.mark.parametrize(("strike", "heal"), [(kill, start_again), (freeze, thaw)], ids=["killed", "frozen"])
async def test_clients_follow_and_nothing_that_was_acknowledged_is_lost(group, open_store, namespace, strike, heal):
    """With as many replicas as there are; one is missing until the old primary has become one."""
    store = open_store(group.url, min_replicas=2, retry_seconds=60)
    work = Work(store, open_store(group.url, min_replicas=1))
    await work.goes_on()
    old = group.primary
    strike(old)
    moved = await asyncio.to_thread(group.wait_for_another, old)
    new = group.primary
    await until(lambda: work.times[-1] > moved)
    followed = next(at for at in work.times if at > moved) - moved
    assert followed < FOLLOWED_SECONDS

    before = len(work.acknowledged)
    heal(old)
    await asyncio.to_thread(wait_for, old.answers, "the old primary")
    assert old.role() == "master", "it learns of the other only when the sentinels tell it, seconds later"
    calls = scripts_run(old)  # what lay in its sockets
    fresh = open_store(group.url)
    await fresh.update_worker("fresh")
    assert port_of(fresh) == new.port
    assert len(work.acknowledged) <= before + WORKERS  # calls whose answers were on their way
    await asyncio.to_thread(wait_for, lambda: old.role() == "slave", "the old primary to become a replica")
    assert scripts_run(old) == calls
    await work.goes_on()
    await work.stop()

    assert len(set(work.claimed)) == len(work.claimed)
    assert len(set(work.ended)) == len(work.ended)
    known = {each.rollout_id: each for each in (await store.query_rollouts()).items}
    assert set(work.acknowledged) == set(known)
    assert {id for id, each in known.items() if each.status == "succeeded"} == set(work.ended)
    assert sorted(each.rollout_id for each in (await store.completions(limit=100_000)).items) == sorted(work.ended)
    assert not (await store.audit()).findings
    assert scripts_run(old) == calls
    with new.client() as raw:
        check(raw, namespace)


def scripts_run(server):
    """How many scripts a server has been sent since it was started; what is replicated to it are no scripts."""
    stats = server.ask("INFO", "commandstats")
    return sum(stats[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats)


async def test_waits_move_with_the_primary(group, open_store):
    """After SENTINEL FAILOVER the old primary is alive, and for ten seconds nobody tells those who wait at it."""
    store, other = open_store(group.url), open_store(group.url)
    first = await store.start_rollout("first")
    claims = [
        asyncio.create_task(store.dequeue_rollout(f"w{number}", timeout=60, lease_seconds=lease))
        for number, lease in enumerate((None, 60.0, 60.0))
    ]
    finish = asyncio.create_task(store.wait_for_rollouts(rollout_ids=[first.rollout_id], timeout=60))
    old = group.primary
    with old.client() as raw:
        await until(lambda: raw.info("clients")["blocked_clients"] >= 2)
    group.sentinels[1].ask("SENTINEL", "FAILOVER", SERVICE)
    moved = await asyncio.to_thread(group.wait_for_another, old)

    await asyncio.sleep(FOLLOWED_SECONDS)
    queued = [(await other.enqueue_rollout(number)).rollout_id for number in range(3)]
    await other.update_attempt(first.rollout_id, "latest", status="succeeded")
    claimed = await asyncio.wait_for(asyncio.gather(*claims), AT_ONCE)
    [finished] = await asyncio.wait_for(finish, AT_ONCE)
    assert time.monotonic() - moved < FOLLOWED_SECONDS + AT_ONCE
    assert sorted(each.rollout_id for each in claimed) == sorted(queued)
    assert finished.status == "succeeded"
    assert [await status_of(store, id) for id in queued] == ["preparing"] * 3


async def test_planned_failover_loses_nothing(group, open_store):
    """As docs/high-availability.md says; without min_replicas."""
    store = open_store(group.url)
    work = Work(store, open_store(group.url))
    await work.goes_on()
    old = group.primary
    old.ask("CLIENT", "PAUSE", "10000", "WRITE")
    group.sentinels[2].ask("SENTINEL", "FAILOVER", SERVICE)
    await asyncio.to_thread(group.wait_for_another, old)
    await work.goes_on()
    await work.stop()
    known = {each.rollout_id for each in (await store.query_rollouts()).items}
    finished = sorted(each.rollout_id for each in (await store.completions(limit=100_000)).items)
    assert (known, finished) == (set(work.acknowledged), sorted(work.ended))


async def test_answer_of_a_replica_ends_all_connections(private_redis):
    """Their name may lead to another server by now."""
    server = private_redis(settings={"appendonly": "no"})
    settings = settings_for(server.url)
    pool, shared = Pool(settings, most=8), Multiplexer(settings)
    write = [("SET", "key", "value")]
    await asyncio.gather(*(each.send(write) for each in (*[pool] * 8, shared)))
    assert len([each for each in pool._connections if each.is_connected]) == 8
    assert shared._channel.is_open
    with server.client() as raw:
        raw.execute_command("REPLICAOF", "127.0.0.1", "1")
        for each in (pool, shared):
            [answer] = await each.send(write)
            assert isinstance(answer, ReadOnlyError)
        assert not any(each.is_connected for each in pool._connections)
        assert not shared._channel.is_open
        raw.execute_command("REPLICAOF", "NO", "ONE")
    await asyncio.gather(*(each.send(write) for each in (*[pool] * 8, shared)))
    await asyncio.gather(pool.close(), shared.close())
