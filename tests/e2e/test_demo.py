"""The demo: its algorithm on any store, and the whole of it on real processes."""

import asyncio
import re
import signal
from contextlib import asynccontextmanager

import psutil
import pytest

from lightning_store import InMemoryLightningStore, LightningStoreThreaded, RedisLightningStore, Runner
from lightning_store.demo import trainer
from lightning_store.demo.agent import agent
from lightning_store.demo.algorithm import NoProgressError, train
from lightning_store.demo.orchestrate import DemoError, DemoOptions, run_demo
from lightning_store.demo.tasks import TaskSet, load_tasks
from lightning_store.demo.training import BatchReport, TrainingResult, TrainingSettings, decode
from tests.support.command_line import run_process, start_process
from tests.support.processes import wait_until_gone

SMALL = TrainingSettings(iterations=4, tasks_per_batch=10, group_size=6, learning_rate=2.0, measurements=1)
SECONDS = 90.0


def some_tasks():
    tasks = load_tasks()
    return TaskSet(training=tasks.training, held_out=tasks.held_out[:40])


@asynccontextmanager
async def at_work(store, *runners):
    """Runners that work on the store, and stop at the end."""
    running = [asyncio.create_task(runner.run()) for runner in runners]
    try:
        yield
    finally:
        for runner in runners:
            runner.stop()
        await asyncio.gather(*running)


@asynccontextmanager
async def memory_store():
    store = LightningStoreThreaded(InMemoryLightningStore())
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def redis_store(url, namespace):
    store = RedisLightningStore(url, namespace=namespace)
    try:
        yield store
    finally:
        await store.close()


async def test_the_algorithm_learns_on_the_memory_store():
    reports = []
    async with memory_store() as store:
        async with at_work(store, Runner(store, agent, concurrency=4)):
            result = await train(store, some_tasks(), SMALL, reports.append)
        resources = await store.get_latest_resources()
        rollouts = await store.query_rollouts()
    assert result.last >= 1.5 * result.first
    assert result.versions == resources.version == 5
    assert [report.version for report in reports if report.phase == "finished"] == [1, 1, 2, 3, 4, 5]
    assert {rollout.status for rollout in rollouts} == {"succeeded"}
    assert rollouts.total == result.rollouts == 4 * 10 * 6 + 2 * 40


@pytest.mark.wide
async def test_the_same_seed_gives_the_same_curve_on_redis_whoever_runs_the_rollouts(redis_url, namespace):
    results = []
    async with memory_store() as store, at_work(store, Runner(store, agent)):
        results.append(await train(store, some_tasks(), SMALL, lambda report: None))
    async with redis_store(redis_url, namespace) as store:
        runners = [Runner(store, agent, concurrency=2, worker_id=name) for name in ("one", "two")]
        async with at_work(store, *runners):
            results.append(await train(store, some_tasks(), SMALL, lambda report: None))
    assert results[0] == results[1]


async def test_an_algorithm_without_runners_gives_up():
    settings = TrainingSettings(stall_seconds=0.1)
    async with memory_store() as store:
        with pytest.raises(NoProgressError, match=r"128 rollouts did not finish within 0\.1 s"):
            await train(store, load_tasks(), settings, lambda report: None)


async def test_the_process_of_the_algorithm_tells_what_happens_line_by_line(redis_url, namespace, monkeypatch, capsys):
    monkeypatch.setenv("LIGHTNING_STORE_URL", redis_url)
    monkeypatch.setenv("LIGHTNING_STORE_NAMESPACE", namespace)
    settings = TrainingSettings(iterations=1, tasks_per_batch=2, group_size=2, measurements=1)
    async with redis_store(redis_url, namespace) as store, at_work(store, Runner(store, agent, concurrency=4)):
        await trainer.main(settings)
    messages = [decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [type(message) for message in messages] == [BatchReport] * 6 + [TrainingResult]
    assert messages[-1].rollouts == 2 * 64 + 4


@pytest.mark.wide
def test_the_demo_on_a_redis_that_is_there_leaves_nothing_behind(redis_server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    options = DemoOptions(store_url=redis_server.url, iterations=3, group_size=6, runners=2, output_dir=tmp_path)

    code = run_demo(options)

    out = capsys.readouterr().out
    assert code == 0, out
    assert "The numbers game" in out
    assert figure(out, "succeeded") == options.planned_rollouts
    with redis_server.client() as client:
        assert client.keys("*ls:demo-*") == []


@pytest.mark.wide
def test_a_process_that_fails_ends_the_demo_and_all_others(redis_url, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_store.demo.supervisor.AGENT", "lightning_store.demo.agent:nobody")
    before = set(psutil.Process().children())
    with pytest.raises(DemoError, match=r"runner-\d ended with \d+: .*nobody"):
        run_demo(DemoOptions(store_url=redis_url, output_dir=tmp_path))
    assert set(psutil.Process().children()) == before


def test_a_missing_package_is_told_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DemoError, match=r"pip install 'lightning-store\[demo\]'"):
        run_demo(DemoOptions(output_dir=tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_the_demo_loses_nothing_and_learns(tmp_path):
    result = run_process(["demo", "--plain", "--iterations", "4", "--output", str(tmp_path)], timeout=SECONDS)

    assert result.code == 0, result.out + result.err
    assert figure(result.out, "rollouts enqueued") == figure(result.out, "succeeded") == 4 * 16 * 8 + 2 * 128
    assert figure(result.out, "retried after the kill") > 0
    assert figure(result.out, "lost") == figure(result.out, "finished twice") == 0
    assert figure(result.out, "rollouts per second") > 0
    assert figure(result.out, "mean reward, last version") >= 1.5 * figure(result.out, "mean reward, first version")
    assert re.search(r"killed runner-\d \(\d+\) with SIGKILL while it held \d+ rollouts", result.out)
    assert (tmp_path / "learning_curve.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_leaves_no_process(number, expected, tmp_path):
    with start_process(["demo", "--plain", "--output", str(tmp_path)]) as demo:
        lines = []
        while not any("version 1: mean reward" in line for line in lines[-1:]):
            line = demo.stdout.readline()
            assert line, demo.stderr.read()
            lines.append(line)
        demo.send_signal(number)
        code = demo.wait(30)
        assert code == expected, demo.stderr.read()
    pids = [int(pid) for line in lines if "started" in line for pid in re.findall(r"(?<=[ (])\d+(?=[),\n])", line)]
    assert len(pids) == 7, lines
    assert all(wait_until_gone(pid) for pid in pids)


def figure(text, name):
    """The number behind a name in the closing lines."""
    return float(re.search(rf"^{name} +([\d.]+)", text, re.MULTILINE)[1])
