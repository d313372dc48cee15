"""Passwords: in no process list, log, error or `repr`, whatever goes wrong.

`up` and the embedded server are looked at where they are tested (tests/cli/test_up.py, tests/unit/test_embedded.py).
"""

import asyncio
import logging
import re
import time
import traceback
from urllib.parse import quote

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_store import RedisLightningStore, Runner
from lightning_store.connect import check_url, open_store
from lightning_store.errors import AccessDeniedError, InvalidRequestError, StoreUnavailableError
from lightning_store.healthcheck import HealthCheck, HealthCheckOptions
from lightning_store.reachable import check_reachable
from lightning_store.runner.options import RunnerOptions
from tests.support.command_line import start_process

PASSWORD = "hunter22&p@ss"
WRONG = "swordfish-7"
DOUBLING = "def agent(rollout, resources, tracer):\n    return 2.0\n"


@pytest.fixture
def server(private_redis):
    return private_redis(password=PASSWORD)


def shown(text):
    """Which of the passwords a text shows, as meant or as a URL writes them."""
    return [word for secret in (PASSWORD, WRONG) for word in (secret, quote(secret, safe="")) if word in text]


def texts_of(error):
    """All that a log could say of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)


@pytest.mark.parametrize(
    ("arguments", "started", "program"),
    [
        (["run", "doubling:agent", "--processes", "2"], ["runner started"] * 2, "lightning_store.runner.child"),
        (["healthcheck", "--port", "0"], ["started"], "healthcheck"),
        pytest.param(
            ["demo", "--plain", "--runners", "2", "--output", "."], ["version 1: mean reward"], "trainer",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["run", "healthcheck", "demo"],
)  # fmt: skip
def test_process_lists_and_output_show_no_password(server, namespace, tmp_path, arguments, started, program):
    if arguments[0] == "demo":
        pytest.importorskip("numpy")
        pytest.importorskip("matplotlib")
    (tmp_path / "doubling.py").write_text(DOUBLING)
    output = tmp_path / "output"
    environment = {"LIGHTNING_STORE_URL": server.url, "LIGHTNING_STORE_NAMESPACE": namespace}
    seen = set()
    with output.open("wb") as out:
        process = start_process(arguments, environment=environment, cwd=tmp_path, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 45
        while any(output.read_text().count(text) < started.count(text) for text in started):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            seen |= command_lines(process.pid)
            time.sleep(0.01)
    finally:
        process.terminate()
        process.wait(30)
    assert any(program in line for line in seen), seen
    assert shown("\n".join(seen)) == []
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "redis-" not in str(path.parent)]
    assert output in files
    assert {path.name: words for path in files if (words := shown(path.read_bytes().decode(errors="replace")))} == {}


def command_lines(pid):
    """Of a process and all below it."""
    lines = set()
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            lines.add(" ".join(process.cmdline()))
    except psutil.Error:
        pass  # one has ended meanwhile
    return lines


async def test_logs_of_every_level_show_no_password(server, namespace, caplog):
    """A store, a runner and a daemon at work, on a loop in debug mode, through an outage, and when refused."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    asyncio.get_running_loop().slow_callback_duration = 60
    store = RedisLightningStore(server.url, namespace=namespace)
    runner = Runner(store, lambda rollout, resources, tracer: 1.0, concurrency=2, grace_seconds=0)
    daemon = HealthCheck(store, 0.1)
    running = [asyncio.create_task(part.run()) for part in (runner, daemon)]
    ids = [(await store.enqueue_rollout("task")).rollout_id]
    await store.wait_for_rollouts(rollout_ids=ids, timeout=30)
    server.kill()
    await asyncio.sleep(0.3)
    await asyncio.to_thread(server.start)
    ids.append((await store.enqueue_rollout("task")).rollout_id)
    await store.wait_for_rollouts(rollout_ids=ids, timeout=30)
    runner.stop()
    daemon.stop()
    await asyncio.gather(*running)
    await store.close()
    stranger = RedisLightningStore(wrong(server.url), namespace=namespace)
    with pytest.raises(AccessDeniedError):
        await HealthCheck(stranger).run()
    await stranger.close()
    assert "runner started" in caplog.text
    assert shown(caplog.text) == []
    assert shown(repr([vars(record) for record in caplog.records])) == []


def wrong(url):
    """The same server with a password that is not its own."""
    return re.sub(r":[^:@]*@", f":{WRONG}@", url)


async def test_errors_of_the_server_show_no_password(server):
    stores = [
        RedisLightningStore(wrong(server.url)),
        RedisLightningStore(wrong("redis://user:x@127.0.0.1:1/0"), retry_seconds=0.1),
        RedisLightningStore(f"unix:///nowhere/redis.sock?password={WRONG}", retry_seconds=0.1),
        RedisLightningStore(wrong(server.url.replace("redis:", "rediss:")), socket_seconds=0.3, retry_seconds=0.1),
    ]
    for store in stores:
        with pytest.raises((AccessDeniedError, StoreUnavailableError)) as caught:
            await store.enqueue_rollout("task")
        assert shown(texts_of(caught.value)) == []
        await store.close()


def test_first_look_at_a_server_shows_no_password(server):
    urls = (
        wrong(server.url), wrong("redis://user:x@127.0.0.1:1/0"), f"redis://user:{WRONG}@127.0.0.1:1/0?nonsense=1",
        f"redis://user:a?{WRONG}=1@127.0.0.1:1/0",
    )  # fmt: skip
    for url in urls:
        with pytest.raises((AccessDeniedError, StoreUnavailableError, InvalidRequestError)) as caught:
            check_reachable(url)
        assert shown(texts_of(caught.value)) == []


def test_repr_shows_no_password(server):
    store = RedisLightningStore(server.url)
    connection = store._connection_settings.connection()
    options = RunnerOptions("package.module:agent", server.url), HealthCheckOptions(server.url)
    assert (
        shown(repr([store, vars(store), store._connections, connection, Runner(store, print), options, server])) == []
    )


@settings(max_examples=200, database=None)
@given(
    st.sampled_from(["redis://", "rediss://", "unix://", "redis+sentinel://", "http://", "redis:", "", "://"]),
    st.sampled_from(["", ":", "user:", "user:p@", "us er:", "[:", "user:%"]),
    st.text("a@:/?#[]%& \n\\\x00é", max_size=4),
    st.sampled_from(["", "@", "@host", "@host:99999", "@host:port/0", "@[::1", "@host/db", "@/run/x", "@host?db=x"]),
)
def test_urls_that_are_refused_show_no_password(scheme, user, junk, rest):
    url = f"{scheme}{user}{junk}{WRONG}{junk}{rest}"
    for read in (check_url, RedisLightningStore, lambda url: open_store(url, "default")):
        try:
            read(url)
        except InvalidRequestError as error:
            said = texts_of(error)
        else:
            said = ""
        assert shown(said) == []


@pytest.mark.parametrize("option", ["password", "ssl_password", "username", "ssl_ca_data", "nonsense"])
def test_options_that_are_refused_show_no_password(option):
    for url in (f"redis://host?{option}={WRONG}&nothing=1", f"redis://host?db=x&{option}={WRONG}"):
        with pytest.raises(InvalidRequestError) as caught:
            RedisLightningStore(url)
        assert shown(texts_of(caught.value)) == []
