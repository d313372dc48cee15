"""`lightning-store serve`, as real processes."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from lightning_store.http.client import LightningStoreClient
from tests.support.command_line import ROOT, CommandLine, run_process, start_process
from tests.support.processes import all_command_lines, is_gone, wait_until, wait_until_gone
from tests.support.serving import TOKEN_OF, ask

pytestmark = pytest.mark.wide

Start = Callable[..., "subprocess.Popen[str]"]
DEQUEUE = "/v1/agl/queues/rollouts/dequeue"


@pytest.fixture
def start(cli: CommandLine) -> Iterator[Start]:
    """Starts servers on free ports; none outlives the test."""
    processes = []

    def begin(*arguments: str, port: str = "0", **environment: str) -> "subprocess.Popen[str]":
        settings = {"LIGHTNING_STORE_URL": cli.url, "LIGHTNING_STORE_NAMESPACE": cli.namespace, **environment}
        processes.append(start_process(("serve", "--port", port, *arguments), environment=settings))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def url_of(process: "subprocess.Popen[str]") -> str:
    """Where it answers, once it says so."""
    line = process.stdout.readline()
    assert line, process.communicate()
    return re.search(r"https?://\S+$", line.strip())[0]


def get(url: str, path: str, **options):
    return asyncio.run(ask(url, path, **options))


def children_of(process: "subprocess.Popen[str]") -> list[int]:
    return [child.pid for child in psutil.Process(process.pid).children()]


def stop(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> tuple[int, str]:
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def refuses(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_it_is_told_to_stop(cli, start, workers, number):
    cli.on_store(lambda store: store.enqueue_rollout(5))
    process = start("--workers", workers)
    url = url_of(process)
    children = children_of(process)
    assert len(children) == (0 if workers == "1" else 3)

    assert get(url, DEQUEUE, json={"limit": 1}).json[0]["input"] == 5
    code, err = stop(process, number)

    assert (code, "Traceback" in err) == (0, False), err
    assert refuses(url)
    assert all(is_gone(pid) for pid in children)


TELL_OF_SWEEPS = """
import os
class Garbage:
    def __init__(self):
        self.itself = self
    def __del__(self):
        os.write(2, b"swept at the end\\n")
garbage = Garbage()
"""
"""What an interpreter carries out at its start: it holds what only a search for garbage at its end frees."""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ends_without_a_search_for_garbage(start, tmp_path, workers):
    """Which takes longer than all else of the end: in each process, and in their parent."""
    (tmp_path / "sitecustomize.py").write_text(TELL_OF_SWEEPS)
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    usual = subprocess.run(
        [sys.executable, "-c", ""], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert usual.stderr.count("swept at the end") == 1

    process = start("--workers", workers, **environment)
    url_of(process)
    code, err = stop(process)

    assert (code, err.count("swept at the end")) == (0, 0), err


def test_ready_line_names_store_and_url_without_secrets(cli, start):
    process = start()
    line = process.stdout.readline()
    assert re.fullmatch(
        rf"serving redis://\*\*\*@127\.0\.0\.1:\d+/0 \(namespace {cli.namespace}\) at http://127\.0\.0\.1:\d+\n", line
    )
    process = start("--store", "memory://", LIGHTNING_STORE_NAMESPACE="default")
    assert process.stdout.readline().startswith("serving memory:// at http://"), "there is one store only"
    process = start("--json")
    answer = json.loads(process.stdout.readline())
    assert answer["namespace"] == cli.namespace
    assert get(answer["url"], "/ready").status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_waits_end_and_requests_in_flight_are_answered(start, workers):
    process = start("--workers", workers)
    url = url_of(process)

    async def wait_and_stop():
        waiting = [asyncio.create_task(ask(url, DEQUEUE, json={"timeout": 50})) for _ in range(4)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in waiting)
        process.terminate()
        return [await task for task in waiting]

    started = time.monotonic()
    replies = asyncio.run(wait_and_stop())
    process.communicate(timeout=60)
    assert [(reply.status, reply.json) for reply in replies] == [(200, [])] * 4
    assert process.returncode == 0
    assert time.monotonic() - started < 40


def test_several_processes_share_the_work_of_one_port(cli, start):
    url = url_of(start("--workers", "2"))

    async def enqueue_all():
        replies = await asyncio.gather(
            *(
                ask(url, "/v1/agl/queues/rollouts/enqueue", json={"rollouts": [{"input": number}]})
                for number in range(40)
            )
        )
        return {reply.status for reply in replies}

    assert asyncio.run(enqueue_all()) == {201}
    assert cli.on_store(lambda store: store.statistics())["total_rollouts"] == 40


def test_process_that_dies_is_started_again_and_nobody_is_turned_away(start):
    process = start("--workers", "2")
    url = url_of(process)
    first = children_of(process)
    for pid in first:
        psutil.Process(pid).kill()
    # The socket stays with the parent: who connects now waits for the next process, and is not refused.
    assert get(url, "/v1/agl/statistics").status == 200
    assert wait_until(lambda: len(children_of(process)) == 2 and not set(first) & set(children_of(process)))
    code, err = stop(process)
    assert code == 0
    assert err.count("ended with -9") == 2


def test_processes_end_with_their_parent(start):
    process = start("--workers", "2")
    url = url_of(process)
    children = children_of(process)
    process.kill()
    assert all(wait_until_gone(pid, 60) for pid in children)
    assert refuses(url)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_second_signal_ends_it_at_once(start, workers):
    process = start("--workers", workers, "--drain-seconds", "50")
    url = url_of(process)
    children = children_of(process)
    slow = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    slow.sendall(b"POST /v1/agl/rollouts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n{")
    time.sleep(0.5)  # so that it is in flight
    process.terminate()
    assert wait_until(lambda: refuses(url), 30)
    code, _ = stop(process, signal.SIGINT)
    slow.close()
    assert code == 130
    assert all(wait_until_gone(pid, 30) for pid in children)


def test_serves_a_store_in_its_own_memory(start):
    process = start("--store", "memory://", LIGHTNING_STORE_NAMESPACE="default")
    url = url_of(process)
    assert get(url, "/v1/agl/queues/rollouts/enqueue", json={"rollouts": [{"input": 5}]}).status == 201
    assert get(url, DEQUEUE, json={"limit": 1}).json[0]["input"] == 5
    assert stop(process)[0] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serves_a_file(start, tmp_path, workers):
    store = f"sqlite:///{tmp_path}/store.db"
    url = url_of(start("--store", store, "--workers", workers, LIGHTNING_STORE_NAMESPACE="default"))
    assert get(url, "/v1/agl/queues/rollouts/enqueue", json={"rollouts": [{"input": 5}]}).status == 201
    assert get(url, DEQUEUE, json={"limit": 1}).json[0]["input"] == 5


class TestTokens:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "tokens"
        path.write_text("".join(f"{role} {token}\n" for role, token in TOKEN_OF.items()))
        path.chmod(0o600)
        return path

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_come_from_a_file_and_show_nowhere(self, cli, start, file, workers):
        process = start("--workers", workers, "--host", "0.0.0.0", "--tokens-file", str(file), "--log-level", "debug")
        url = url_of(process)
        assert get(url, "/v1/agl/statistics").status == 401
        for token in TOKEN_OF.values():
            assert get(url, "/v1/agl/statistics", token=token).status == 200
        seen = all_command_lines()
        _, err = stop(process)
        assert "status=401" in err
        for secret in (*TOKEN_OF.values(), cli.url.partition("@")[0].rpartition(":")[2]):
            assert secret not in err + seen

    def test_come_from_the_environment(self, start):
        process = start(LIGHTNING_STORE_TOKENS=f"read:{TOKEN_OF['read']}")
        url = url_of(process)
        assert get(url, "/v1/agl/statistics", token=TOKEN_OF["read"]).status == 200
        assert get(url, "/v1/agl/statistics").status == 401

    @pytest.mark.parametrize("workers", ["1", "2"])
    def test_are_rotated_without_a_restart(self, start, file, workers):
        process = start("--workers", workers, "--tokens-file", str(file))
        url = url_of(process)
        new = "admin-token-of-tomorrow"
        file.write_text(f"admin {new}\n")
        process.send_signal(signal.SIGHUP)
        assert wait_until(lambda: get(url, "/v1/agl/statistics", token=new).status == 200)
        assert wait_until(lambda: get(url, "/v1/agl/statistics", token=TOKEN_OF["admin"]).status == 401)
        assert stop(process)[0] == 0

    def test_are_used_by_the_client(self, cli, start, file):
        url = url_of(start("--tokens-file", str(file)))

        async def enqueue():
            client = LightningStoreClient(url, token=TOKEN_OF["admin"])
            rollout = await client.enqueue_rollout("task")
            await client.close()
            return rollout.rollout_id

        rollout_id = asyncio.run(enqueue())
        assert cli.on_store(lambda store: store.get_rollout_by_id(rollout_id)).input == "task"


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines, which needs tokens"),
            (["--workers", "0"], "--workers"),
            (["--port", "70000"], "--port"),
            (["--tokens-file", "/nowhere/tokens"], "tokens file /nowhere/tokens: No such file"),
            (["--tls-cert", "/nowhere/cert.pem"], "tls_cert and tls_key: expected both or none"),
            (["--tls-cert", "/nowhere/c", "--tls-key", "/nowhere/k"], "tls_cert /nowhere/c"),
            (["--log-level", "loud"], "--log-level"),
        ],
    )
    @pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
    def test_are_told_in_one_line(self, cli, arguments, message, workers):
        result = cli("serve", "--port", "0", *workers, *arguments)
        assert (result.code, result.out) == (2, "")
        assert message in result.err
        assert result.err.startswith("error: ")
        assert result.err.count("\n") == 1

    def test_memory_of_one_process_cannot_be_served_by_several(self):
        result = run_process(["serve", "--port", "0", "--store", "memory://", "--workers", "2"])
        assert (result.code, result.out) == (2, "")
        assert "workers: InMemoryLightningStore is in the memory of one process" in result.err
        assert result.err.count("\n") == 1

    def test_port_in_use_is_told_with_what_to_do(self, start):
        port = url_of(start()).rpartition(":")[2]
        second = start(port=port)
        _, err = second.communicate(timeout=60)
        assert second.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}: another program listens there" in err
        assert err.count("\n") == 1

    def test_wrong_password_of_the_store_ends_it(self, cli):
        url = f"redis://:wrong-password@{cli.url.partition('@')[2]}"
        result = run_process(["serve", "--port", "0", "--store", url])
        assert result.code == 3
        assert result.err.splitlines()[-1].startswith("error: Redis at redis://***@127.0.0.1")
        assert "wrong-password" not in result.err + result.out

    def test_store_that_is_away_is_waited_for(self, start):
        process = start("--store", "redis://:hunter22@127.0.0.1:1/0")
        url = url_of(process)
        assert get(url, "/health").status == 200
        assert get(url, "/ready").status == 503
        code, err = stop(process)
        assert code == 0
        assert "WARNING" in err.splitlines()[0]
        assert "the store is waited for: no answer from Redis at redis://***@127.0.0.1:1/0" in err.splitlines()[0]
        assert "hunter22" not in err

    def test_folder_that_is_not_there_is_told(self, start, tmp_path):
        process = start("--namespace", "default", "--store", f"sqlite:///{tmp_path}/nowhere/store.db")
        url_of(process)
        code, err = stop(process)
        assert code == 0
        assert f"the store is waited for: there is no folder {tmp_path}/nowhere" in err

    def test_store_has_to_be_named(self):
        result = run_process(["serve", "--port", "0"])
        assert result.code == 2
        assert "no store given" in result.err

    @pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
    def test_packages_that_are_not_there_are_named(self, cli, package, tmp_path):
        """As after an installation without the extra."""
        (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
        environment = {"LIGHTNING_STORE_URL": cli.url, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
        result = run_process(["serve", "--port", "0"], environment=environment)
        assert result.code == 5
        assert result.err == "error: `serve` needs FastAPI and uvicorn: pip install 'lightning-store[server]'\n"
