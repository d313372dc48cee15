"""Real processes: the embedded Redis answers, keeps its data and its secrets, and never outlives its owner."""

import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import redis

from lightning_store import embedded, embedded_server
from lightning_store.embedded import EmbeddedRedis, EmbeddedRedisError, find_server, read_binary
from tests.support.processes import is_gone, wait_until, wait_until_gone
from tests.support.redis_server import RedisUnderTest, binary_under_test

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def server(private_redis):
    return private_redis()


def fake_server(folder: Path, version_line: str, body: str = "exit 1") -> Path:
    """A program that tells a version, and does `body` when started as a server."""
    program = folder / "redis-server"
    program.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{version_line}" && exit\n{body}\n')
    program.chmod(0o755)
    return program


def without_server(monkeypatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def redis_runtime_folders(folder: Path) -> list[Path]:
    return list(folder.glob("lightning-store-redis-*"))


class TestWhatItServes:
    def test_answers_with_its_password(self, server):
        with server.client() as client:
            assert client.ping()

    def test_refuses_clients_without_password(self, server):
        with server.client(password=None) as client, pytest.raises(redis.AuthenticationError):
            client.ping()

    def test_listens_on_loopback_only(self, server):
        listening = {c.laddr.ip for c in psutil.Process(server.pid).net_connections("tcp") if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}

    def test_never_drops_keys_and_writes_an_append_only_file(self, server):
        with server.client() as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
            assert client.config_get("protected-mode") == {"protected-mode": "yes"}

    def test_syncs_each_write_when_asked(self, private_redis):
        with private_redis(appendfsync="always").client() as client:
            assert client.config_get("appendfsync") == {"appendfsync": "always"}

    def test_takes_further_settings(self, private_redis):
        with private_redis(settings={"maxmemory": "50mb"}).client() as client:
            assert client.config_get("maxmemory") == {"maxmemory": str(50 * 1024 * 1024)}

    def test_unix_socket_opens_no_port(self, private_redis):
        server = private_redis(unix_socket=True)
        with server.client() as client:
            path = Path(client.config_get("unixsocket")["unixsocket"])
        assert server.url.startswith("unix://")
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert not psutil.Process(server.pid).net_connections("tcp")

    def test_tells_the_version_of_its_program(self, server):
        with server.client() as client:
            assert client.info("server")["redis_version"] or client.info("server")["valkey_version"]
        assert server.binary.version >= (6, 2, 0)


class TestData:
    def test_given_folder_keeps_data_over_restarts(self, server):
        with server.client() as client:
            client.set("key", "kept")
        server.restart()
        with server.client() as client:
            assert client.get("key") == "kept"

    def test_given_folder_keeps_data_over_a_kill(self, private_redis):
        server = private_redis(appendfsync="always")
        with server.client() as client:
            client.set("key", "kept")
        server.kill()
        server.start()
        with server.client() as client:
            assert client.get("key") == "kept"

    def test_temporary_folder_goes_with_stop(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with RedisUnderTest():
            assert len(redis_runtime_folders(tmp_path)) == 1
        assert not redis_runtime_folders(tmp_path)

    def test_port_and_password_stay_when_started_again(self, server):
        before = server.url
        server.restart()
        assert server.url == before

    def test_one_folder_serves_one_server(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr(embedded_server, "LOCK_SECONDS", 0.1)
        with pytest.raises(EmbeddedRedisError, match="in use by another server"):
            RedisUnderTest(tmp_path / "redis-0").start()
        with server.client() as client:
            assert client.ping()

    def test_older_server_does_not_hide_newer_data(self, tmp_path):
        (tmp_path / "data" / "appendonlydir").mkdir(parents=True)
        old = fake_server(tmp_path, "Redis server v=6.2.14 sha=0")
        with pytest.raises(EmbeddedRedisError, match="written by Redis 7 or newer"):
            EmbeddedRedis(tmp_path / "data", binary=old).start()


class TestSecrets:
    def test_password_is_on_no_command_line_and_in_no_environment(self, server):
        password = server.url.split(":")[2].split("@")[0]
        for process in psutil.process_iter():
            try:
                seen = " ".join([*process.cmdline(), *process.environ().values()])
            except psutil.Error:
                continue
            assert password not in seen

    def test_password_is_not_in_repr_or_messages(self, tmp_path):
        server = RedisUnderTest(tmp_path, password="hunter22", settings={"no-such-setting": "hunter22"})
        with pytest.raises(EmbeddedRedisError) as caught:
            server.start()
        assert "no-such-setting" in str(caught.value)
        assert "hunter22" not in str(caught.value) + repr(caught.value) + repr(server)

    def test_password_is_in_no_file_of_its_folders(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with RedisUnderTest(tmp_path / "data") as server:
            password = server.url.split(":")[2].split("@")[0]
            files = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert files
            assert not [path for path in files if password.encode() in path.read_bytes()]

    def test_two_servers_have_different_passwords(self, private_redis):
        first, second = private_redis(), private_redis()
        assert first.url.split("@")[0] != second.url.split("@")[0]

    @pytest.mark.parametrize("password", ["with space", "quote\"'\\", "a@b:c/d?e#f%41", "grün", "\\x41"])
    def test_any_password_works(self, private_redis, password):
        with private_redis(password=password).client() as client:
            assert client.ping()

    def test_is_not_pickled(self):
        with pytest.raises(TypeError, match="hand its url"):
            pickle.dumps(EmbeddedRedis())


class TestStarting:
    def test_says_what_to_install_before_anything_is_started(self, tmp_path, monkeypatch):
        children = psutil.Process().children()
        without_server(monkeypatch, tmp_path)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with pytest.raises(
            EmbeddedRedisError, match=r"apt install redis-server.*pip install 'lightning-store\[embedded"
        ):
            EmbeddedRedis(tmp_path / "data").start()
        assert not list(tmp_path.iterdir())
        assert not set(psutil.Process().children()) - set(children)

    def test_finds_a_server_on_the_path_first(self, tmp_path, monkeypatch):
        program = fake_server(tmp_path, "Redis server v=7.4.1 sha=0")
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert find_server().path == program
        assert find_server().version_text == "7.4.1"

    def test_finds_valkey(self, tmp_path, monkeypatch):
        without_server(monkeypatch, tmp_path)
        fake_server(tmp_path, "Valkey server v=8.0.1 sha=0").rename(tmp_path / "valkey-server")
        assert find_server().name == "valkey"

    def test_passes_over_a_server_that_is_too_old(self, tmp_path, monkeypatch):
        without_server(monkeypatch, tmp_path)
        fake_server(tmp_path, "Redis server v=5.0.7 sha=0")
        with pytest.raises(EmbeddedRedisError, match=r"Redis 5\.0\.7, 6\.2 or newer is needed"):
            find_server()

    def test_names_a_program_without_the_right_to_run(self, tmp_path):
        program = fake_server(tmp_path, "Redis server v=7.4.1 sha=0")
        program.chmod(0o644)
        with pytest.raises(EmbeddedRedisError, match="chmod"):
            read_binary(program)

    def test_names_a_program_that_is_no_server(self, tmp_path):
        with pytest.raises(EmbeddedRedisError, match="does not answer --version"):
            read_binary(fake_server(tmp_path, "something else"))

    def test_names_a_missing_program(self, tmp_path):
        with pytest.raises(EmbeddedRedisError, match="does not exist"):
            read_binary(tmp_path / "redis-server")

    def test_tries_another_free_port_when_somebody_took_it(self, tmp_path, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            ports = iter([taken.getsockname()[1], embedded._free_port()])
            monkeypatch.setattr(embedded, "_free_port", lambda: next(ports))
            with RedisUnderTest(tmp_path) as server, server.client() as client:
                assert client.ping()
                assert str(taken.getsockname()[1]) not in server.url

    def test_says_that_a_given_port_is_taken(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = RedisUnderTest(tmp_path, port=taken.getsockname()[1])
            with pytest.raises(EmbeddedRedisError, match="Address already in use"):
                server.start()
        assert not server.is_running

    def test_does_not_take_another_server_for_its_own(self, server, tmp_path, monkeypatch):
        """A server with the same port and password answers while ours cannot start."""
        port = int(server.url.rsplit(":", 1)[1].split("/")[0])
        other = RedisUnderTest(tmp_path / "other", port=port, password=server._password)
        with pytest.raises(EmbeddedRedisError, match="Address already in use"):
            other.start()

    def test_silent_server_is_reported_and_stopped(self, tmp_path, monkeypatch):
        program = fake_server(
            tmp_path,
            "Redis server v=7.4.1 sha=0",
            f"echo last words; echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 600",
        )
        wait = embedded_server.HeldServer._wait_for_answer

        def speak_and_wait(*arguments):
            """Its time begins with its last words, however long a shell takes to begin here."""
            wait_until((tmp_path / "pid").exists)
            wait(*arguments)

        monkeypatch.setattr(embedded_server.HeldServer, "_wait_for_answer", speak_and_wait)
        with pytest.raises(EmbeddedRedisError, match=r"did not answer within 0\.2 s.*\n  last words"):
            EmbeddedRedis(tmp_path / "data", binary=program, start_timeout_seconds=0.2).start()
        assert is_gone(int((tmp_path / "pid").read_text()))

    def test_starting_twice_starts_one(self, server):
        pid = server.pid
        assert server.start().pid == pid

    def test_folder_that_cannot_be_made_is_an_error(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(EmbeddedRedisError, match="cannot be started"):
            RedisUnderTest(tmp_path / "file" / "data").start()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"appendfsync": "sometimes"}, "appendfsync"),
            ({"port": 0}, "port"),
            ({"port": 6379, "unix_socket": True}, "port"),
            ({"password": ""}, "password"),
            ({"settings": {"Bind": "0.0.0.0"}}, "settings may not contain 'bind'"),
            ({"settings": {"maxmemory 1gb\nbind": "0.0.0.0"}}, "settings may not contain 'maxmemory"),
            ({"settings": {" bind": "0.0.0.0"}}, "settings may not contain ' bind'"),
        ],
    )
    def test_bad_arguments_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            EmbeddedRedis(**arguments)

    def test_not_started_has_no_url(self):
        with pytest.raises(EmbeddedRedisError, match="not started"):
            _ = EmbeddedRedis().url


class TestEnding:
    def test_stop_ends_server_and_watchdog(self, server):
        pid, watchdog = server.pid, psutil.Process(server.pid).ppid()
        server.stop()
        assert is_gone(pid)
        assert is_gone(watchdog)
        assert not server.is_running

    def test_stop_twice_is_fine(self, server):
        server.stop()
        server.stop()

    def test_suspended_server_is_stopped(self, server):
        pid = server.pid
        server.pause()
        server.stop()
        assert is_gone(pid)

    def test_server_that_ended_by_itself_is_noticed(self, server):
        watchdog = psutil.Process(server.pid).ppid()
        server.check()
        with server.client() as client:
            client.shutdown()
        assert wait_until_gone(watchdog)
        assert not server.is_running
        with pytest.raises(EmbeddedRedisError, match=r"(?s)has ended \(exit code 0\):\n.*bye bye"):
            server.check()

    def test_server_goes_when_its_watchdog_is_killed(self, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with RedisUnderTest() as server:
            os.kill(psutil.Process(server.pid).ppid(), signal.SIGKILL)
            assert wait_until_gone(server.pid)
        assert not redis_runtime_folders(tmp_path)

    def test_server_stays_when_the_thread_that_started_it_ends(self, tmp_path):
        server = RedisUnderTest(tmp_path)
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()
        with server, server.client() as client:
            assert client.ping()

    def test_server_started_with_blocked_signals_still_stops(self, tmp_path):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            server = RedisUnderTest(tmp_path).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with server.client() as client:
            client.set("key", "kept")
        server.stop()
        assert server.start().is_running
        server.stop()

    def test_forked_process_cannot_stop_it(self, server):
        child = os.fork()
        if child == 0:
            try:
                server.stop()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        with server.client() as client:
            assert client.ping()


PARENT = """
import os, signal, sys, threading, time
from pathlib import Path
from lightning_store.embedded import EmbeddedRedis

def start():
    return EmbeddedRedis({data!r}, binary={binary!r}).start()

{body}
"""
FROM_THREAD = """
started = []
thread = threading.Thread(target=lambda: started.append(start()))
thread.start(); thread.join()
print(started[0].pid, flush=True)
time.sleep(600)
"""
WITH_FORKED_CHILD = """
server = start()
if os.fork() == 0:
    Path({child!r}).write_text(str(os.getpid()))
    time.sleep(20)
    os._exit(0)
while not Path({child!r}).exists():
    time.sleep(0.01)
print(server.pid, flush=True)
time.sleep(600)
"""
PLAIN = """
server = start()
print(server.pid, flush=True)
time.sleep(600)
"""
WRITES = """
import redis
server = start()
redis.Redis.from_url(server.url).set("key", "kept")
print(server.pid, flush=True)
time.sleep(600)
"""
EXITS = """
print(start().pid, flush=True)
"""
INTERRUPTED = """
server = start()
try:
    print(server.pid, flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(0.2)
    server.check()
    import redis
    print(redis.Redis.from_url(server.url).ping(), flush=True)
    server.stop()
"""


def start_parent(tmp_path: Path, body: str, data: Path | None = None) -> tuple["subprocess.Popen[str]", int]:
    """A program in a session of its own that starts a server; also the server's process id."""
    program = PARENT.format(
        data=data and str(data),
        binary=str(binary_under_test().path),
        body=body.format(child=str(tmp_path / "child")) if "{child" in body else body,
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    return parent, int(parent.stdout.readline())


class TestParentsEnd:
    @pytest.mark.parametrize("body", [PLAIN, FROM_THREAD, WITH_FORKED_CHILD], ids=["plain", "thread", "forked"])
    def test_killed_parent_leaves_nothing(self, tmp_path, body):
        parent, pid = start_parent(tmp_path, body)
        with parent:
            assert not is_gone(pid)
            watchdog = psutil.Process(pid).ppid()
            parent.kill()
            parent.wait()
            assert wait_until_gone(pid)
            assert wait_until_gone(watchdog)
        if (tmp_path / "child").exists():
            os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
        assert not redis_runtime_folders(tmp_path)

    def test_data_of_a_killed_parent_is_there_for_the_next(self, tmp_path):
        data = tmp_path / "data"
        parent, pid = start_parent(
            tmp_path,
            PLAIN.replace("print(", "import redis; redis.Redis.from_url(server.url).set('key', 'kept'); print("),
            data,
        )
        with parent:
            parent.kill()
            with EmbeddedRedis(data, binary=binary_under_test().path) as server:
                assert is_gone(pid)
                with redis.Redis.from_url(server.url, protocol=2) as client:
                    assert client.get("key") == b"kept"

    def test_parent_that_exits_takes_the_server_along(self, tmp_path):
        parent, pid = start_parent(tmp_path, EXITS)
        with parent:
            assert parent.wait(timeout=15) == 0
            assert wait_until_gone(pid)

    def test_interrupt_from_the_terminal_leaves_the_server_to_its_parent(self, tmp_path):
        parent, pid = start_parent(tmp_path, INTERRUPTED)
        with parent:
            os.killpg(parent.pid, signal.SIGINT)
            assert parent.stdout.readline().strip() == "True"
            assert parent.wait(timeout=15) == 0
            assert is_gone(pid)


def test_watchdog_without_an_order_ends():
    watchdog = Path(embedded.__file__).with_name("embedded_watchdog.py")
    command = [sys.executable, "-I", "-S", watchdog]
    assert subprocess.check_output(command, stdin=subprocess.DEVNULL, timeout=15) == b""
