"""compose.yaml without Docker: what it says parses, the commands it runs exist, its Redis and its users are real."""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
import redis
import typer
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from lightning_store import RedisLightningStore
from lightning_store.cli import app
from tests.support.factories import reward_span, some_resources
from tests.support.processes import all_command_lines
from tests.support.redis_server import binary_under_test

CHECKOUT = Path(__file__).parents[2]
ADMIN_PASSWORD = "admin&p/w\\1"
RUNNER_PASSWORD = "runnerpw"
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((CHECKOUT / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


def with_defaults(word: str) -> str:
    """A word as compose reads it when no variable is set; one that must be set stays as it is."""
    return VARIABLE.sub(lambda match: match["rest"] if match["kind"] == "-" else match[0], str(word))


def strings(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    else:
        yield str(value)


class TestFile:
    def test_has_a_redis_a_healthcheck_daemon_and_runners(self, services):
        assert set(services) == {"redis", "healthcheck", "runner"}

    @pytest.mark.parametrize("service", ["healthcheck", "runner"])
    def test_commands_and_their_options_exist(self, services, service):
        name, *arguments = [with_defaults(word) for word in services[service]["command"]]
        command = typer.main.get_command(app).commands[name]
        with command.make_context(name, arguments) as context:
            assert context.command is command

    def test_agent_that_runs_by_default_can_be_imported(self, services):
        module, name = with_defaults(services["runner"]["command"][1]).split(":")
        assert callable(getattr(__import__(module, fromlist=[name]), name))

    def test_runner_scales(self, services):
        """A container's name or a published port would let only one start."""
        assert not {"container_name", "ports"} & set(services["runner"])

    def test_everything_waits_for_a_redis_that_answers(self, services):
        for service in ("healthcheck", "runner"):
            assert services[service]["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert services["redis"]["healthcheck"]["test"]

    def test_redis_is_published_on_loopback_only(self, services):
        assert all(port.startswith("127.0.0.1:") for port in services["redis"]["ports"])

    def test_data_outlives_the_container(self, compose, services):
        assert "redis-data:/data" in services["redis"]["volumes"]
        assert "redis-data" in compose["volumes"]

    def test_holds_no_password(self, compose):
        words = " ".join(strings(compose))
        passwords = [match for match in VARIABLE.finditer(words) if "PASSWORD" in match["name"]]
        assert passwords
        assert all(match["kind"] == "?" for match in passwords)
        assert not re.search(r"redis://[^$@]*:[^$@]+@", words)

    @pytest.mark.parametrize("service", ["healthcheck", "runner"])
    def test_programs_know_where_the_store_is(self, services, service):
        url = services[service]["environment"]["LIGHTNING_STORE_URL"]
        assert url.startswith("redis://runner:${LIGHTNING_STORE_RUNNER_PASSWORD:?")

    def test_files_that_it_mounts_exist(self, services):
        for service in services.values():
            for volume in service.get("volumes", []):
                source = with_defaults(volume).split(":")[0]
                assert not source.startswith(".") or (CHECKOUT / source).exists()

    def test_image_runs_the_command_line(self):
        lines = (CHECKOUT / "Dockerfile").read_text().splitlines()
        assert 'ENTRYPOINT ["lightning-store"]' in lines


def start_redis(folder: Path, **passwords: str) -> tuple["subprocess.Popen[bytes]", int]:
    """The server as compose starts it, on a free loopback port and with its data in `folder`."""
    (folder / "bin").mkdir()
    (folder / "bin" / "redis-server").symlink_to(binary_under_test().path)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["sh", CHECKOUT / "deploy" / "redis.sh", "--dir", folder, "--port", str(port), "--bind", "127.0.0.1"]
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(folder), **passwords}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log), port


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compose")
    passwords = {
        "LIGHTNING_STORE_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "LIGHTNING_STORE_RUNNER_PASSWORD": RUNNER_PASSWORD,
    }
    server, port = start_redis(folder, **passwords)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port)):
                    break
            except ConnectionRefusedError:
                alive = server.poll() is None and time.monotonic() < deadline
                assert alive, (folder / "log").read_text()
                time.sleep(0.02)
        yield port
    finally:
        server.terminate()
        server.wait(30)


def client(port: int, user: str, password: str | None) -> "redis.Redis":
    once = Retry(NoBackoff(), 0)
    return redis.Redis(
        host="127.0.0.1", port=port, username=user, password=password, protocol=2, decode_responses=True, retry=once
    )


@pytest.fixture
def admin(port):
    with client(port, "default", ADMIN_PASSWORD) as connection:
        yield connection


@pytest.fixture
def runner(port):
    with client(port, "runner", RUNNER_PASSWORD) as connection:
        yield connection


@pytest.fixture
async def runners_store(port, namespace):
    store = RedisLightningStore(f"redis://runner:{RUNNER_PASSWORD}@127.0.0.1:{port}/0", namespace=namespace)
    yield store
    await store.close()


class TestRedis:
    def test_keeps_what_it_acknowledged_and_drops_nothing(self, admin):
        assert admin.config_get("appendonly") == {"appendonly": "yes"}
        assert admin.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}

    def test_passwords_are_on_no_command_line(self, port):
        words = all_command_lines()
        assert ADMIN_PASSWORD not in words
        assert RUNNER_PASSWORD not in words

    def test_nobody_enters_without_password(self, port):
        with client(port, "default", None) as connection, pytest.raises(redis.AuthenticationError):
            connection.ping()

    @pytest.mark.parametrize("missing", ["LIGHTNING_STORE_ADMIN_PASSWORD", "LIGHTNING_STORE_RUNNER_PASSWORD"])
    def test_refuses_to_start_without_passwords(self, tmp_path, missing):
        passwords = {"LIGHTNING_STORE_ADMIN_PASSWORD": "a", "LIGHTNING_STORE_RUNNER_PASSWORD": "b", missing: ""}
        server, _ = start_redis(tmp_path, **passwords)
        assert server.wait(30) == 2
        assert f"{missing} is not set" in (tmp_path / "log").read_text()


class TestRunnersRights:
    SCRIPT = "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])"

    @pytest.mark.parametrize("key", ["{ls:team-1}:rollout:ro-1", "ls:team-1:spans:{ro-1}"])
    def test_scripts_run_on_keys_of_stores(self, runner, key):
        digest = runner.script_load(self.SCRIPT)
        assert runner.evalsha(digest, 1, key, "value") == "value"

    def test_scripts_do_not_run_on_other_keys(self, runner):
        with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
            runner.eval(self.SCRIPT, 1, "sessions:1", "value")

    def test_scripts_cannot_reach_other_keys_undeclared(self, runner):
        with pytest.raises(redis.ResponseError, match="can't access"):
            runner.eval("return redis.call('GET', 'sessions:1')", 0)

    @pytest.mark.parametrize(
        "command",
        ["CONFIG GET *", "KEYS *", "FLUSHALL", "FLUSHDB", "SCAN 0", "SHUTDOWN", "SCRIPT FLUSH", "ACL LIST",
         "MONITOR", "CLIENT KILL TYPE normal", "REPLICAOF no one", "RANDOMKEY", "SAVE"],
    )  # fmt: skip
    def test_dangerous_commands_are_refused(self, runner, command):
        with pytest.raises(redis.exceptions.NoPermissionError):
            runner.execute_command(*command.split())

    @pytest.mark.parametrize("command", ["PING", "INFO server", "TIME", "CLIENT ID", "CLIENT SETNAME worker"])
    def test_what_clients_need_besides_is_allowed(self, runner, command):
        assert runner.execute_command(*command.split())

    async def test_rights_are_enough_for_a_rollout_from_end_to_end(self, runners_store):
        store = runners_store
        await store.update_resources("policy", some_resources())
        rollout = await store.enqueue_rollout(input={"question": "6 * 7"}, group_id="task-1")
        claimed = await store.dequeue_rollout(worker_id="worker-1", lease_seconds=60)
        await store.renew("worker-1", [(claimed.rollout_id, claimed.attempt.attempt_id)], {"cpu": 0.5})
        assert await store.add_many_spans([reward_span(claimed, 0.5)], renumber=True)
        await store.update_attempt(rollout.rollout_id, claimed.attempt.attempt_id, status="succeeded")
        (done,) = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=30)
        assert done.status == "succeeded"
        assert await store.rewards([rollout.rollout_id]) == {rollout.rollout_id: 0.5}
        assert len((await store.completions(group_id="task-1")).items) == 1

    async def test_rights_are_enough_for_waiting_looking_and_clearing_up(self, runners_store):
        store = runners_store
        assert await store.dequeue_rollout(worker_id="worker-1", timeout=0.2) is None
        started = await store.start_rollout(input={}, worker_id="worker-1")
        await store.release_attempt(started.rollout_id, started.attempt.attempt_id)
        assert (await store.query_rollouts(status_in=["requeuing"])).total == 1
        assert (await store.query_workers()).total == 1
        assert await store.query_queues()
        assert await store.query_events()
        await store.expire_attempts()
        await store.cancel_rollouts([started.rollout_id])
        assert await store.delete_rollouts([started.rollout_id]) == [started.rollout_id]


def test_documented_check_is_a_real_command():
    """`docker compose config --quiet` is what the documents tell people to run; here only where Docker has it."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("this machine's docker has no compose")
    passwords = {"LIGHTNING_STORE_ADMIN_PASSWORD": "a", "LIGHTNING_STORE_RUNNER_PASSWORD": "b"}
    subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=CHECKOUT, env={**os.environ, **passwords}, check=True, timeout=60
    )
