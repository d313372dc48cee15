"""Daemon and runner as processes on a real Redis: what they tell is what has happened."""

import asyncio
import re
import socket
import subprocess
import sys
import urllib.error
from pathlib import Path

import psutil
import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.metrics.families import FAMILIES
from lightning_store.records import EnqueueRolloutRequest, RolloutConfig
from tests.support.processes import wait_until_gone
from tests.support.run_process import ROOT, start
from tests.support.scraping import OPENMETRICS, page_of, scrape, scrape_text
from tests.support.shipped_redis import free_port
from tests.support.until import until, wait_until

pytestmark = pytest.mark.wide

RETRIED = RolloutConfig(max_attempts=2, retry_condition=["failed"])
TIMED = RolloutConfig(timeout_seconds=0.5)
PORT = {"daemon": re.compile(r"started .*port=(\d+)"), "runner": re.compile(r"metrics at http://127\.0\.0\.1:(\d+)/")}

WITHOUT_EXTRA = """
import sys
sys.modules["prometheus_client"] = None
from lightning_store.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Launched:
    """A process and what it has logged."""

    def __init__(self, kind: str, log: Path, **options) -> None:
        self.kind = kind
        self.log = log
        self.process = start("runner" if kind == "runner" else "daemon", log, **options)

    @property
    def ports(self) -> list[int]:
        return [int(port) for port in PORT[self.kind].findall(self.log.read_text())]

    async def port(self) -> int:
        await until(lambda: bool(self.ports))
        return self.ports[0]

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(40)


@pytest.fixture
def launch(tmp_path):
    launched: list[Launched] = []

    def launch(kind: str, **options) -> Launched:
        log = tmp_path / f"{kind}-{len(launched)}.log"
        log.touch()
        launched.append(Launched(kind, log, **options))
        return launched[-1]

    yield launch
    for each in launched:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait(10)
        sys.stdout.write(each.log.read_text())


@pytest.fixture
def place(redis_url, namespace):
    return {"store_url": redis_url, "namespace": namespace}


@pytest.fixture
async def store(redis_url, namespace):
    store = RedisLightningStore(redis_url, namespace=namespace)
    yield store
    await store.close()


@pytest.fixture
def daemon(launch, place):
    return launch("daemon", port=0, interval=0.2, **place)


@pytest.fixture
def runner(launch, place):
    return launch(
        "runner", agent="tests.support.agents:as_told", metrics_port=0, concurrency=3, lease_seconds=6.0, **place
    )


async def counting(daemon: Launched) -> int:
    """The daemon's port once it counts what happens."""
    port = await daemon.port()

    async def has_begun() -> bool:
        return ((await scrape(port))("operation_duration_seconds_count", operation="expire_attempts") or 0) > 0

    await until(has_begun)
    return port


async def enqueue(store, inputs, config=None, **fields):
    requests = [EnqueueRolloutRequest(input=each, config=config, **fields) for each in inputs]
    return [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]


async def test_numbers_are_those_of_what_happened(launch, place, store, daemon, runner):
    daemon_port, runner_port = await counting(daemon), await runner.port()
    warm_up = await enqueue(store, ["succeed"])  # the daemon counts from when it first reads the log
    await store.wait_for_rollouts(rollout_ids=warm_up, timeout=60)
    before = await settled_scrape(daemon_port)

    ids = await enqueue(store, ["succeed"] * 6)
    ids += await enqueue(store, ["fail"] * 3, RETRIED)
    ids += await enqueue(store, ["hang"] * 2, TIMED)
    mortal = launch("runner", agent="tests.support.agents:mortal", queues=["poison"], lease_seconds=1.0, **place)
    ids += await enqueue(store, ["SIGKILL"], queue="poison")
    assert len(await store.wait_for_rollouts(rollout_ids=ids, timeout=90)) == 12
    assert wait_until_gone(mortal.process.pid)

    async def has_told_all() -> bool:
        found = await scrape(runner_port)
        return sum(found.all("runner_attempts_total").values()) == 15

    await until(has_told_all)
    now = await settled_scrape(daemon_port)

    check_daemon(before, now, daemon.log.read_text())
    check_runner(await scrape(runner_port))
    statistics = await store.statistics()
    assert (await scrape(runner_port))("stored_spans_total") == statistics["total_spans"] == now("spans")
    assert (daemon.end(), runner.end()) == (0, 0)


def check_daemon(before, now, log):
    def increase(name: str) -> dict[tuple[str, ...], float]:
        old = before.all(name)
        return {key: value - old.get(key, 0) for key, value in now.all(name).items() if value != old.get(key, 0)}

    assert increase("namespace_claims_total") == {(): 15}
    assert increase("namespace_attempts_ended_total") == {
        ("agent", "succeeded"): 6, ("agent", "failed"): 6,
        ("timeout", "timeout"): 2, ("worker_lost", "unresponsive"): 1,
    }  # fmt: skip
    assert increase("namespace_requeues_total") == {("agent",): 3}
    assert now("namespace_event_gaps_total") == 0
    assert now.all("rollouts") == {("succeeded",): 7, ("failed",): 6}
    assert (now("queue_depth", queue="default"), now("queue_depth", queue="poison")) == (0, 0)
    transitions = re.findall(r"transition .* cause=(\w+) late_seconds=([\d.]+)", log)
    for cause in ("timeout", "worker_lost"):
        late = [float(seconds) for each, seconds in transitions if each == cause]
        assert (now("deadline_lateness_seconds_count", cause=cause) or 0) == len(late)
        assert (now("deadline_lateness_seconds_sum", cause=cause) or 0) == pytest.approx(sum(late), abs=0.01)


def check_runner(told):
    assert told.all("runner_attempts_total") == {("succeeded",): 7, ("failed",): 6, ("interrupted",): 2}
    assert told("claimed_rollouts_total", queue="default") == 15
    assert told("queue_wait_seconds_count") == 12, "first attempts"
    assert told.all("runner_workers") == {("waiting",): 3}
    assert told("stored_span_bytes_total") > 100 * told("stored_spans_total")
    assert told("buffered_spans") == 0
    assert told.all("lost_spans_total") == {}
    assert told.all("waits_in_progress") == {("dequeue_rollout",): 3}
    assert told("up") == 1
    assert told("process_resident_memory_bytes") > 1 << 20


async def settled_scrape(port: int):
    """A scrape after the daemon has counted all that has happened: two of its looks at the log later."""
    first = await scrape(port)
    await asyncio.sleep(1.2)  # nothing tells that nothing is left to be counted
    found = await scrape(port)
    while found.all("namespace_events_total") != first.all("namespace_events_total"):
        first = found
        await asyncio.sleep(1.2)
        found = await scrape(port)
    return found


async def test_each_metric_is_told_by_whom_the_table_says(store, daemon, runner):
    ports = {"daemon": await counting(daemon), "runner": await runner.port()}
    ids = await enqueue(store, ["succeed", "fail"])
    await store.wait_for_rollouts(rollout_ids=ids, timeout=60)
    for teller, port in ports.items():
        for found in (await scrape(port), await scrape_text(port)):
            names = {name.removesuffix("_total").removesuffix("_info") for name in found.families}
            ours = {name for name in names if name.startswith("lightning_store_") and not name.endswith("_created")}
            expected = {
                family.name.removesuffix("_total").removesuffix("_info")
                for family in FAMILIES.values()
                if teller in family.by and "redis" in family.stores
            }
            assert ours == expected, teller
            for family in FAMILIES.values():
                for series in set(family.series) & found.series:
                    more = {"le"} if series.endswith("_bucket") else set()
                    assert found.labels(series) == set(family.labels) | more


async def test_daemon_answers_in_time_while_redis_does_not(private_redis, launch):
    server = private_redis()
    daemon = launch("daemon", port=0, interval=0.2, store_url=server.url)
    port = await counting(daemon)
    assert (await scrape(port))("up") == 1
    server.pause()
    try:

        async def is_down() -> bool:
            found = await asyncio.wait_for(scrape(port), 20)
            return found("up") == 0 and "lightning_store_queue_depth" not in found.series

        await until(is_down)
        content_type, _ = await page_of(port, "/metrics", {"Accept": OPENMETRICS})
        assert content_type.startswith("application/openmetrics-text")
    finally:
        server.resume()

    async def is_up() -> bool:
        return (await scrape(port))("up") == 1

    await until(is_up)
    assert daemon.end() == 0


async def test_each_process_of_a_runner_has_a_port_which_it_keeps(launch, place):
    first = free_port()
    while not is_free(first + 1):
        first = free_port()
    runner = launch("runner", agent="tests.support.agents:quick", processes=2, metrics_port=first, **place)
    await until(lambda: set(runner.ports) == {first, first + 1})
    started = {port: (await scrape(port))("process_start_time_seconds") for port in (first, first + 1)}
    (victim,) = (child for child in psutil.Process(runner.process.pid).children() if is_listening(child.pid, first + 1))
    victim.kill()
    await until(lambda: runner.ports.count(first + 1) == 2)
    assert (await scrape(first + 1))("process_start_time_seconds") > started[first + 1]
    assert (await scrape(first))("process_start_time_seconds") == started[first]
    assert runner.end() == 0


def is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def is_listening(pid: int, port: int) -> bool:
    return any(each.laddr.port == port for each in psutil.Process(pid).net_connections() if each.status == "LISTEN")


async def test_port_that_is_taken_is_told_and_nothing_is_claimed(launch, place, store, daemon):
    taken = await daemon.port()
    (rollout_id,) = await enqueue(store, ["succeed"])
    runner = launch("runner", agent="tests.support.agents:quick", metrics_port=taken, **place)
    assert await asyncio.to_thread(runner.process.wait, 30) == 2
    assert f"--metrics-port: cannot listen on 127.0.0.1:{taken}" in runner.log.read_text()
    assert (await store.get_rollout_by_id(rollout_id)).status == "queuing"


def command(*arguments: str, url: str) -> "subprocess.Popen[str]":
    """The command line on a machine without prometheus-client."""
    return subprocess.Popen(
        [sys.executable, "-c", WITHOUT_EXTRA, *arguments, "--store", url],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_runner_without_the_extra_says_how_to_install_it(redis_url):
    process = command("run", "tests.support.agents:quick", "--metrics-port", "0", url=redis_url)
    output, _ = process.communicate(timeout=60)
    assert output.strip().splitlines()[-1] == (
        "error: --metrics-port needs more packages: pip install 'lightning-store[metrics]'"
    )
    assert process.returncode != 0


def test_runner_without_the_extra_runs_without_metrics(redis_url, namespace):
    process = command("run", "tests.support.agents:quick", "--namespace", namespace, url=redis_url)
    assert process.stdout is not None
    for line in process.stdout:
        if "runner started" in line:
            break
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0


async def test_daemon_without_the_extra_is_healthy_and_says_why_it_has_no_metrics(redis_url, tmp_path):
    port = free_port()
    process = command("healthcheck", "--port", str(port), url=redis_url)
    try:
        wait_until(lambda: not is_free(port))
        content_type, text = await page_of(port, "/healthz", {})
        assert (content_type, '"status": "ok"' in text) == ("application/json", True)
        with pytest.raises(urllib.error.HTTPError) as refused:
            await page_of(port, "/metrics", {})
        assert refused.value.code == 404
        assert b"pip install 'lightning-store[metrics]'" in refused.value.read()
        refused.value.close()
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0
