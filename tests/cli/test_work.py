"""`lightning-store run` and `lightning-store healthcheck`, as real processes."""

import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lightning_store.contract import LightningStore
from tests.support.command_line import CommandLine, run_process, start_process
from tests.support.factories import claim, requests_for, status_of
from tests.support.places import ALL_PLACES, on_places

AGENT = """
def agent(rollout, resources, tracer):
    with tracer.start_as_current_span("double"):
        return 2.0 * rollout.input

not_an_agent = 1
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module `doubling` in it."""
    (tmp_path / "doubling.py").write_text(AGENT)
    return tmp_path


@pytest.fixture
def start(cli: CommandLine, folder: Path) -> Iterator[Start]:
    """Starts commands in the folder; none outlives the test."""
    processes = []

    def begin(*arguments: str) -> "subprocess.Popen[str]":
        environment = {"LIGHTNING_STORE_URL": cli.url, "LIGHTNING_STORE_NAMESPACE": cli.namespace}
        processes.append(start_process(arguments, environment=environment, cwd=folder))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """The log up to the line that contains the text."""
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def stop(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    return process.returncode


@on_places(*ALL_PLACES)
@pytest.mark.parametrize("options", [[], ["--concurrency", "3", "--processes", "2", "--worker-id", "box"]], ids=len)
def test_run_works_on_rollouts_until_sigterm(cli, start, options):
    ids = [rollout.rollout_id for rollout in cli.on_store(lambda s: s.enqueue_many_rollouts(requests_for([1, 2, 3])))]

    process = start("run", "doubling:agent", *options)

    assert cli("wait", "--all", "--timeout", "60").out == "3 succeeded\n"
    assert stop(process) == 0
    assert list(cli.on_store(lambda store: store.rewards(ids)).values()) == [2.0, 4.0, 6.0]
    assert "double" in cli("spans", ids[0]).out


def test_run_claims_from_the_queues_that_it_is_told(cli, start):
    cli.on_store(lambda store: store.enqueue_rollout(1, rollout_id="other"))
    cli.on_store(lambda store: store.enqueue_rollout(1, rollout_id="mine", queue="slow"))

    process = start(
        "run", "doubling:agent", "--queue", "fast", "--queue", "slow", "--worker-id", "box", "--log-level", "debug"
    )

    assert cli("wait", "mine", "--timeout", "60").code == 0
    assert stop(process) == 0
    assert cli.on_store(lambda store: status_of(store, "other")) == "queuing"
    assert cli("rollouts", "show", "mine", "--json").json["attempts"][0]["worker_id"] == "box"


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ("doubling", "expected package.module:name"),
        ("nowhere:agent", "no module 'nowhere'"),
        ("doubling:nothing", "has no 'nothing'"),
        ("doubling:not_an_agent", "expected a function, got int"),
    ],
)
def test_an_agent_that_cannot_be_found_is_a_mistake_of_use(folder, agent, message):
    environment = {"LIGHTNING_STORE_URL": "redis://:hunter22@127.0.0.1:1/0"}

    result = run_process(["run", agent], environment=environment, cwd=folder)

    assert result.code == 2
    assert result.err.startswith("error: agent")
    assert message in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["run", "doubling:agent"], ["healthcheck"]], ids=lambda words: words[0])
def test_a_server_that_does_not_let_us_in_ends_the_process(cli, folder, arguments):
    url = f"redis://:wrong-password@{cli.url.partition('@')[2]}"

    result = run_process([*arguments, "--store", url], cwd=folder)

    assert result.code == 3
    assert result.err.splitlines()[-1].startswith("error: Redis at redis://***@127.0.0.1")
    assert "Traceback" not in result.err
    assert "wrong-password" not in result.err


@pytest.mark.parametrize("arguments", [["run", "doubling:agent"], ["healthcheck"]], ids=lambda words: words[0])
def test_logs_have_no_secrets_while_the_server_is_away(folder, arguments):
    process = start_process([*arguments, "--store", "redis://:hunter22@127.0.0.1:1/0"], cwd=folder)
    try:
        log = read_until(process, "started")
    finally:
        code = stop(process)

    assert code == 0
    assert "hunter22" not in log


@on_places(*ALL_PLACES)
def test_healthcheck_settles_what_is_late(cli, start):
    async def lose(store: LightningStore) -> str:
        await store.enqueue_rollout(1, rollout_id="lost")
        return (await claim(store, "gone", lease_seconds=0.05)).attempt.attempt_id

    cli.on_store(lose)
    process = start("healthcheck", "--interval", "0.2")

    log = read_until(process, "rollout=lost")

    assert "cause=worker_lost" in log
    assert stop(process) == 0


def test_healthcheck_answers_on_its_port(start):
    process = start("healthcheck", "--port", "0", "--interval", "0.5")
    port = re.search(r"port=(\d+)", read_until(process, "port="))[1]

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
        assert answer.status == 200
    assert stop(process) == 0


def test_a_port_that_is_taken_is_an_error(start):
    first = start("healthcheck", "--port", "0")
    port = re.search(r"port=(\d+)", read_until(first, "port="))[1]

    second = start("healthcheck", "--port", port)
    _, err = second.communicate(timeout=30)

    assert second.returncode == 2
    assert err.splitlines()[-1].startswith(f"error: --port: cannot listen on 127.0.0.1:{port}: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [["run", "a:b", "--processes", "0"], ["run", "a:b", "--log-level", "loud"], ["healthcheck", "--port", "-1"]],
)
def test_options_out_of_bounds_are_mistakes_of_use(offline, arguments):
    result = offline(*arguments)

    assert (result.code, result.err.count("\n")) == (2, 1)


def test_demo_refuses_options_out_of_bounds(offline):
    result = offline("demo", "--runners", "1")

    assert (result.code, result.err.count("\n")) == (2, 1)


def test_demo_on_a_server_out_of_reach_is_one_line(offline, tmp_path):
    pytest.importorskip("numpy")
    pytest.importorskip("matplotlib")
    started = time.monotonic()

    result = offline("demo", "--plain", "--output", str(tmp_path))

    assert result.code == 3
    assert "hunter22" not in result.err + result.out
    assert result.err.count("\n") == 1
    assert time.monotonic() - started < 20
