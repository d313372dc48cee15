"""The users of `deploy/users.acl` on a real server: each may do what its role needs, and nothing else."""

import asyncio
import re
import subprocess
import sys
import time

import pytest
import redis

from lightning_store import RedisLightningStore, Runner
from lightning_store.backends.redis.scripts import Settings, load_script, lua_folder
from lightning_store.cli.serve import DEFAULT_PORT
from lightning_store.errors import AccessDeniedError
from lightning_store.http.client import LightningStoreClient
from lightning_store.metrics.daemon import DaemonMetrics
from lightning_store.metrics.facts import DaemonFacts
from lightning_store.records import RolloutConfig
from lightning_store.tracing import emit_reward
from tests.support.command_line import run_process, start_process
from tests.support.compose import program_of, read_compose
from tests.support.factories import claim, requests_for, some_resources, span_of, status_of
from tests.support.processes import all_command_lines
from tests.support.serving import TOKEN_OF, TOKENS
from tests.support.shipped_redis import (
    DEPLOY,
    PASSWORDS,
    USERS,
    VARIABLES,
    client_of,
    free_port,
    running,
    start_shipped,
    url_of,
)

RUN = {"EVAL", "EVALSHA"}
CONNECTION = {"@connection", "SELECT", "CLIENT|SETNAME", "CLIENT|ID", "ASKING", "CLUSTER|SLOTS", "WAIT"}
EVERY_SCRIPT = tuple(path.stem for path in lua_folder().glob("*.lua"))
SCRIPTS = {
    "algorithm": EVERY_SCRIPT,
    "runner": (
        "dequeue_many_rollouts", "renew", "add_many_spans", "begin_spans", "append_spans", "finish_spans",
        "get_many_span_sequence_ids", "update_attempt", "release_attempt", "read_attempts", "read_rollouts",
        "update_worker", "expire_attempts",
    ),
    "daemon": (
        "expire_attempts", "expire_workers", "delete_rollouts", "read_deletable", "delete_spans", "read_finishes",
        "evict_spans", "drop_spans", "read_queues", "read_workers", "read_events",
    ),
}  # fmt: skip
BESIDES = {
    "algorithm": {
        "BLPOP", "EXISTS", "HGET", "HGETALL", "HKEYS", "HMGET", "INFO", "LRANGE", "TIME", "XINFO|STREAM", "XRANGE",
        "XREAD", "XREVRANGE", "ZCARD", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE", "ZSCAN", "ZSCORE",
    },
    "runner": {"BLPOP", "HGET", "HMGET", "INFO", "TIME", "ZRANGE"},
    "daemon": {
        "HGET", "HGETALL", "HKEYS", "HMGET", "INFO", "LRANGE", "MEMORY|USAGE", "TIME", "XRANGE", "ZCARD", "ZRANDMEMBER",
        "ZRANGE", "ZRANGEBYSCORE",
    },
}  # fmt: skip
"""Commands that the client sends besides scripts."""

WHOLE = {"XINFO": "XINFO|STREAM"}
"""Commands of two words that scripts call."""

REFUSED = (
    "CONFIG GET *", "CONFIG SET maxmemory 1", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "FLUSHALL", "FLUSHDB",
    "SWAPDB 0 1", "SHUTDOWN", "SAVE", "BGSAVE", "BGREWRITEAOF", "SCRIPT FLUSH", "SCRIPT LOAD x",
    "ACL LIST", "ACL SETUSER runner +@all", "MONITOR", "CLIENT LIST", "CLIENT KILL TYPE normal", "REPLICAOF no one",
    "SLOWLOG GET", "LATENCY DOCTOR", "MODULE LIST", "MULTI", "SUBSCRIBE events", "PUBLISH events x",
    "RENAME {ls:a}:meta {ls:b}:meta", "COPY {ls:a}:meta {ls:b}:meta", "MIGRATE 127.0.0.1 1 {ls:a}:meta 0 1",
    "DUMP {ls:a}:meta", "RESTORE {ls:a}:meta 0 x", "OBJECT ENCODING {ls:a}:meta", "SORT {ls:a}:rollouts",
    "EXPIRE {ls:a}:meta 1", "PERSIST {ls:a}:meta",
)  # fmt: skip
REFUSED_BESIDES = {
    "algorithm": (),
    "runner": ("XRANGE ls:a:spans:{ro-1} - +", "XREAD STREAMS {ls:a}:completed 0", "XDEL {ls:a}:completed 1-1"),
    "daemon": ("MGET {ls:a}:task:ro-1", "LPUSH {ls:a}:queue:default x", "BLPOP {ls:a}:wake:default 1"),
}
SET = "redis.call('HSET', KEYS[1], 'field', ARGV[1]) return redis.call('HGETALL', KEYS[1])"

MENDED = RolloutConfig(max_attempts=2, retry_condition=["failed"])
DELAYED = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"], retry_delay_seconds=0.2)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    place = free_port()
    with running(tmp_path_factory.mktemp("shipped"), place, "--port", str(place)):
        yield place


@pytest.fixture
def admin(port):
    with client_of("default", port) as connection:
        yield connection


@pytest.fixture
def client(port):
    """Connects as a user: `client("runner")`."""
    opened = []

    def connect(user):
        opened.append(client_of(user, port))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
async def store_of(port, namespace):
    """The store as a user sees it: `store_of("runner")`."""
    stores = []

    def make(user):
        stores.append(RedisLightningStore(url_of(user, port), namespace=namespace))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
def refusals(admin):
    """What users were refused since the test began, as `user: command or key`."""
    admin.execute_command("ACL", "LOG", "RESET")

    def read():
        entries = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in admin.execute_command("ACL", "LOG")]
        # The driver tells its name by CLIENT SETINFO (Redis 6.2 names the command only), and does not mind a refusal.
        named = ("client", "client|setinfo")
        return [f"{entry['username']}: {entry['object']}" for entry in entries if entry["object"] not in named]

    return read


def rights(user):
    """What the user's line allows one by one."""
    (line,) = (line for line in (DEPLOY / "users.acl").read_text().splitlines() if line.startswith(f"user {user} "))
    return {word[1:] for word in line.split() if word.startswith("+")}


def passes(connection, command):
    """Whether the user may run a command, whatever comes of it."""
    try:
        connection.execute_command(*command.split())
    except redis.exceptions.NoPermissionError:
        return False
    except redis.ResponseError:
        return True
    return True


class TestServer:
    def test_keeps_what_it_acknowledged_and_drops_nothing(self, admin):
        assert admin.config_get("appendonly") == {"appendonly": "yes"}
        assert admin.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}

    def test_passwords_and_their_hashes_are_on_no_command_line(self, port):
        words = all_command_lines()
        assert not [password for password in PASSWORDS.values() if password in words]

    def test_nobody_enters_without_password(self, port):
        with client_of("default", port, password="") as connection, pytest.raises(redis.AuthenticationError):
            connection.ping()

    @pytest.mark.parametrize("user", USERS)
    def test_nobody_enters_with_anothers_password(self, port, user):
        other = client_of(user, port, password=PASSWORDS["default"])
        with other, pytest.raises(redis.AuthenticationError):
            other.ping()

    @pytest.mark.parametrize("missing", VARIABLES)
    def test_refuses_to_start_without_passwords(self, tmp_path, missing):
        server = start_shipped(tmp_path, variables={**VARIABLES, missing: ""})
        assert server.wait(30) == 2
        assert f"{missing} is not set" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("user", USERS)
class TestLine:
    def test_allows_exactly_what_the_role_sends(self, user):
        """Redis checks what scripts call too, so what a role's scripts never call is not allowed to it."""
        texts = [load_script(name, Settings()).text for name in SCRIPTS[user]]
        called = {word for text in texts for word in re.findall(r'(?:redis\.p?call\(|\bor )\s*"([A-Z]+)"', text)}
        called = {WHOLE.get(word, word) for word in called}
        assert rights(user) == {word.lower() for word in called | RUN | CONNECTION | BESIDES[user]}

    def test_all_else_is_refused(self, client, user):
        connection = client(user)
        passed = [command for command in (*REFUSED, *REFUSED_BESIDES[user]) if passes(connection, command)]
        assert passed == []

    def test_scripts_run_on_keys_of_stores(self, client, user):
        assert client(user).eval(SET, 1, "{ls:team-1}:rollout:ro-1", "value") == ["field", "value"]

    def test_scripts_do_not_run_on_other_keys(self, client, user):
        connection = client(user)
        for key in ("sessions:1", "{lsx:a}:meta", "{other}:ls:a", "lsa:spans", "{LS:a}:meta"):
            with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
                connection.eval(SET, 1, key, "value")

    def test_scripts_cannot_reach_other_keys_undeclared(self, client, user):
        with pytest.raises(redis.ResponseError, match="can't access"):
            client(user).eval("return redis.call('HGETALL', 'sessions:1')", 0)

    def test_scripts_cannot_call_what_the_user_may_not(self, client, user):
        with pytest.raises(redis.ResponseError, match=r"can't run this command|no permissions"):
            client(user).eval("return redis.call('EXPIRE', KEYS[1], 1)", 1, "{ls:team-1}:meta")

    def test_its_own_connection_is_its_own_matter(self, client, user):
        connection = client(user)
        for command in ("PING", "SELECT 0", "CLIENT ID", "CLIENT SETNAME worker"):
            assert connection.execute_command(*command.split())


async def test_refused_operation_is_told_as_such(store_of):
    with pytest.raises(AccessDeniedError):
        await store_of("runner").query_events()
    with pytest.raises(AccessDeniedError):
        await store_of("daemon").dequeue_rollout(timeout=0.5)


async def test_runner_lives_on_its_rights(store_of, refusals):
    """Waits for work, traces, rewards, fails, hears of a cancellation, and gives back what it holds."""
    algorithm = store_of("algorithm")
    held, told = asyncio.Event(), asyncio.Event()

    async def agent(rollout, resources, tracer):
        assert resources["main"].model == "small"
        with tracer.start_as_current_span("step"):
            if rollout.input == "failing" and rollout.attempt.sequence_id == 1:
                raise ValueError("once")
            if rollout.input == "long":
                held.set()
                try:
                    await asyncio.sleep(60)
                finally:
                    told.set()
        emit_reward(0.5)

    await algorithm.update_resources("policy", some_resources())
    runner = Runner(
        store_of("runner"), agent, concurrency=2, queues=["default", "fast"], lease_seconds=1.5, worker_id="box",
        grace_seconds=0,
    )  # fmt: skip
    life = asyncio.create_task(runner.run())
    try:
        await asyncio.sleep(0.1)  # it waits for the first rollout
        ids = [
            (await algorithm.enqueue_rollout(word, config=MENDED, queue="fast")).rollout_id for word in ("failing", "x")
        ]
        done = await algorithm.wait_for_rollouts(rollout_ids=ids, timeout=30)
        cancelled = await algorithm.enqueue_rollout("long", resources_id="policy")
        await asyncio.wait_for(held.wait(), 30)
        await algorithm.cancel_rollouts([cancelled.rollout_id])
        await asyncio.wait_for(told.wait(), 30)  # its heartbeat was
        held.clear()
        given_back = await algorithm.enqueue_rollout("long")
        await asyncio.wait_for(held.wait(), 30)
    finally:
        runner.stop()
        await life
    assert [rollout.status for rollout in done] == ["succeeded"] * 2
    assert set((await algorithm.rewards(ids)).values()) == {0.5}
    assert [len((await algorithm.query_attempts(id)).items) for id in ids] == [2, 1]
    assert await status_of(algorithm, given_back.rollout_id) == "requeuing"
    assert refusals() == []


async def test_rights_of_a_runner_are_enough_for_others_too(store_of, refusals):
    """What runners of other makes call: they ask for sequence numbers, and tell of heartbeats and workers by hand."""
    store = store_of("runner")
    await store_of("algorithm").enqueue_rollout("task")
    (claimed,) = await store.dequeue_many_rollouts(worker_id="other", lease_seconds=60)
    number = await store.get_next_span_sequence_id(claimed.rollout_id, claimed.attempt.attempt_id)
    assert await store.add_span(span_of(claimed, sequence_id=number))
    await store.update_worker("other", {"cpu": 0.5})
    await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, last_heartbeat_time=time.time())
    assert (await store.get_latest_attempt(claimed.rollout_id)).status == "running"
    await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    assert (await store.get_rollout_by_id(claimed.rollout_id)).status == "succeeded"
    assert refusals() == []


async def test_audit_needs_the_administrator_for_keys_of_nothing_only(store_of, admin, namespace):
    await store_of("algorithm").enqueue_many_rollouts(requests_for([1, 2, 3], group_id="task-1"))
    await claim(store_of("runner"), "box")

    by_algorithm = await store_of("algorithm").audit(repair=True)
    administrator = RedisLightningStore(admin, namespace=namespace)
    by_administrator = await administrator.audit(repair=True)
    await administrator.close()

    assert (by_algorithm.findings, by_administrator.findings) == ([], [])
    assert [what.partition(":")[0] for what in by_algorithm.unchecked] == ["orphan"]
    assert by_administrator.unchecked == []


async def test_algorithm_lives_on_its_rights(store_of, refusals):
    """It may also work on rollouts itself, as tests and small programs do."""
    await every_operation(store_of("algorithm"))
    assert refusals() == []


async def every_operation(store):
    """A life with every operation of the contract in it."""
    await store.update_resources("policy", some_resources())
    await store.add_resources(some_resources("large"))
    assert (await store.get_latest_resources()).resources["main"].model == "large"
    assert (await store.query_resources(resources_id="policy")).total == 1
    rollouts = await store.enqueue_many_rollouts(requests_for([1, 2, 3], group_id="task-1"))
    ids = [rollout.rollout_id for rollout in rollouts]
    waiting = asyncio.create_task(store.wait_for_rollouts(rollout_ids=ids, timeout=30))
    feed = asyncio.create_task(store.completions("latest", timeout=30))
    await asyncio.sleep(0.1)  # both wait
    for claimed in [await claim(store, "worker-1", lease_seconds=60), *await store.dequeue_many_rollouts(limit=2)]:
        await store.add_many_spans([span_of(claimed)], renumber=True)
        await store.renew("worker-1", [(claimed.rollout_id, claimed.attempt.attempt_id)])
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    assert [rollout.status for rollout in await waiting] == ["succeeded"] * 3
    assert (await feed).items
    assert len((await store.completions(group_id="task-1")).items) == 3
    assert [len(spans) for spans in (await store.query_many_spans(ids, "latest")).values()] == [1] * 3
    assert (await store.query_spans(ids[0])).total == 1
    assert list(await store.rewards(ids)) == ids
    await store.update_rollout(ids[0], metadata={"seen": True}, status="failed")
    again = await store.start_attempt(ids[0], "worker-1")
    await store.release_attempt(again.rollout_id, again.attempt.attempt_id)
    started = await store.start_rollout("by hand", worker_id="worker-1")
    assert (await store.query_rollouts(status_in=["succeeded"], sort_by="start_time")).total == 2
    assert (await store.query_rollouts(rollout_id_contains="ro-", limit=1)).total == 4
    assert (await store.query_attempts(started.rollout_id)).total == 1
    assert await store.query_queues()
    assert await store.query_events(rollout_id=ids[0])
    assert await store.query_events()
    assert (await store.query_workers()).total == 1
    assert (await store.get_worker_by_id("worker-1")).status == "busy"
    assert (await store.statistics())["total_rollouts"] == 4
    assert await store.dequeue_rollout(queues=["empty"], timeout=0.1) is None
    await store.expire_attempts()
    await store.expire_workers(silent_seconds=60)
    assert await store.cancel_rollouts([started.rollout_id]) == [started.rollout_id]
    assert await store.delete_rollouts([started.rollout_id]) == [started.rollout_id]
    assert await store.prune(keep_latest=0) == 2


@pytest.fixture
def start_server(port, namespace):
    """Starts the server of compose.yaml with these arguments more and these tokens."""
    started = []

    def start(*arguments, tokens):
        command, environment = program_of("server", VARIABLES | {"LIGHTNING_STORE_TOKENS": tokens}, redis_port=port)
        environment["LIGHTNING_STORE_NAMESPACE"] = namespace
        started.append(start_process([*command, *arguments], environment=environment))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


@pytest.mark.wide
@pytest.mark.timeout(90)
async def test_server_lives_on_the_rights_of_an_algorithm(start_server, refusals):
    web = free_port()
    tokens = " ".join(f"{role}:{token}" for role, token in TOKENS)
    process = start_server("--host", "127.0.0.1", "--port", str(web), tokens=tokens)
    assert (await asyncio.to_thread(process.stdout.readline)).startswith("serving redis://***@")
    _, _, *question, code = read_compose()["services"]["server"]["healthcheck"]["test"]
    asked = [sys.executable, *question, code.replace(f":{DEFAULT_PORT}/", f":{web}/")]
    assert (await asyncio.to_thread(subprocess.run, asked, check=False, timeout=30)).returncode == 0

    client = LightningStoreClient(f"http://127.0.0.1:{web}", token=TOKEN_OF["admin"])
    await every_operation(client)
    await client.close()

    process.terminate()
    _, log = await asyncio.to_thread(process.communicate, timeout=40)
    assert process.returncode == 0, log
    assert "ERROR" not in log
    assert refusals() == []


@pytest.mark.wide
def test_server_without_tokens_does_not_start(start_server):
    process = start_server(tokens="")
    _, log = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "LIGHTNING_STORE_TOKENS" in log


async def test_algorithm_may_decide_what_is_kept(store_of, refusals):
    store = store_of("algorithm")
    rollouts = await store.enqueue_many_rollouts(requests_for([1, 2, 3]))
    await store.cancel_rollouts([rollout.rollout_id for rollout in rollouts])
    consumer = await store.acknowledge_completions("trainer", "latest")
    assert await store.query_consumers() == [consumer]
    assert await store.evict_spans() == 0
    assert await store.prune(status_in=["cancelled"], keep_latest=2) == 1
    assert await store.prune(consumed_cursor=consumer.cursor, keep_latest=1) == 1
    assert await store.forget_consumer("trainer")
    assert refusals() == []


def test_operators_commands_work_as_algorithm(port, namespace, refusals):
    environment = {"LIGHTNING_STORE_URL": url_of("algorithm", port), "LIGHTNING_STORE_NAMESPACE": namespace}
    status = run_process(["status", "--json"], environment=environment)
    assert status.code == 0, status.err
    assert refusals() == []
    doctor = run_process(["doctor"], environment=environment)
    assert doctor.code == 0, doctor.out
    assert "user algorithm may do all that a store needs" in doctor.out
    assert set(refusals()) <= {"algorithm: config|get", "algorithm: config", "algorithm: acl|whoami", "algorithm: acl"}


def test_doctor_tells_what_a_runner_may_not_do(port, namespace):
    environment = {"LIGHTNING_STORE_URL": url_of("runner", port), "LIGHTNING_STORE_NAMESPACE": namespace}
    result = run_process(["doctor"], environment=environment)
    assert result.code == 1
    assert "user runner may not run" in result.out


@pytest.mark.timeout(40)
async def test_daemon_lives_on_its_rights(port, namespace, store_of, refusals):
    """As the process that it is: a lost worker, a retry after its delay, a silent worker; prunes and evicts."""
    algorithm = store_of("algorithm")
    for name in ("old", "kept"):
        started = await algorithm.start_rollout(name, rollout_id=name)
        await algorithm.add_many_spans([span_of(started), span_of(started, span_id="text")])
        await algorithm.update_rollout(name, status="succeeded")
    first, second = (await algorithm.completions()).items
    await algorithm.acknowledge_completions("trainer", first.cursor)
    await algorithm.enqueue_rollout("task", rollout_id="lost", config=DELAYED)
    await claim(algorithm, "worker-1", lease_seconds=0.05)
    assert await algorithm.dequeue_rollout("worker-2") is None  # and is idle then
    environment = {"LIGHTNING_STORE_URL": url_of("daemon", port), "LIGHTNING_STORE_NAMESPACE": namespace}
    daemon = start_process(
        [
            "healthcheck", "--interval", "0.1", "--silent-seconds", "0.3", "--port", "0", "--prune-consumed",
            "--prune-status", "succeeded,failed", "--prune-interval", "0.1",
        ],
        environment=environment,
    )  # fmt: skip
    try:
        log = await asyncio.to_thread(
            read_until, daemon, ["rollout=lost", "silent worker=worker-2", "pruned rollouts=1"]
        )
        left = [rollout.rollout_id for rollout in await algorithm.query_rollouts()]
        again = await algorithm.dequeue_rollout("worker-3", timeout=10)
    finally:
        daemon.terminate()
        daemon.communicate(timeout=30)
    assert daemon.returncode == 0
    assert "ERROR" not in log
    assert (again.rollout_id, again.attempt.sequence_id) == ("lost", 2)
    assert left == ["kept", "lost"]
    assert second.rollout_id == "kept"
    by_daemon = store_of("daemon")
    assert await by_daemon.evict_spans() == 0
    marked = await algorithm._run("evict_spans", now="", token="a", dropped="", limit=5)
    assert marked[1] == []  # the consumer has not passed it
    await algorithm.forget_consumer("trainer")
    _, rollouts = await by_daemon._run("evict_spans", now="", token="b", dropped="", limit=5)
    await by_daemon._drop_spans(rollouts)
    assert (await algorithm.statistics())["total_spans"] == 0
    assert await by_daemon.prune(older_than_seconds=0, keep_latest=0) == 1
    assert refusals() == []


def read_until(process: "subprocess.Popen[str]", texts: list[str]) -> str:
    """The log up to the line by which all texts have come."""
    log = ""
    for line in process.stderr:
        log += line
        if all(text in log for text in texts):
            return log
    raise AssertionError(log)


async def test_daemon_may_tell_all_its_metrics(store_of, refusals):
    algorithm, daemon = store_of("algorithm"), store_of("daemon")
    await algorithm.enqueue_rollout("task")
    metrics = DaemonMetrics(daemon, lambda: DaemonFacts(0, 0))
    counting = asyncio.ensure_future(metrics.run())
    await claim(algorithm, "w")
    _, page = await metrics.page("")
    counting.cancel()
    await asyncio.wait({counting})
    for name in ("queue_depth", "workers", "rollouts", "namespace_memory_bytes", "namespace_claims_total"):
        assert f"\nlightning_store_{name}".encode() in page
    assert refusals() == []
