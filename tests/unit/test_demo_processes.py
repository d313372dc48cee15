"""Child processes of the demo: read, frozen, killed, ended in any case."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lightning_store import InMemoryLightningStore
from lightning_store.demo.accident import Accident, kill_busy_runner
from lightning_store.demo.processes import Children
from tests.support.factories import claim, requests_for
from tests.support.processes import is_gone, wait_until_gone

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(60)"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module that the children can run."""

    def make(name, code):
        (tmp_path / f"{name}.py").write_text(code)
        return name

    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}")
    return make


@pytest.fixture
def children(tmp_path, module):
    with Children(tmp_path / "logs", {"DEMO_SECRET": "hidden"}) as all_of_them:
        yield all_of_them


def lines_of(child, count):
    lines = []
    deadline = time.monotonic() + 15
    while len(lines) < count and time.monotonic() < deadline:
        lines += child.read_lines()
        time.sleep(0.01)
    return lines


def test_a_child_is_read_line_by_line(children, module):
    code = "import os; print('one'); print('tw', end='', flush=True); print('o', os.environ['DEMO_SECRET'])"
    child = children.start("reader", module("talks", code), is_read=True)
    assert lines_of(child, 2) == ["one", "two hidden"]
    assert child.wait(15)
    assert child.exit_code == 0
    assert child.read_lines() == []


def test_what_a_child_says_last_is_found_in_its_log(children, module):
    child = children.start("fails", module("fails", "raise SystemExit('no way out')"))
    assert child.wait(15)
    assert child.exit_code == 1
    assert child.last_words() == "no way out"
    assert child.read_lines() == []


def test_a_child_that_said_nothing_has_no_last_words(children, module):
    child = children.start("silent", module("silent", ""))
    assert child.wait(15)
    assert child.last_words() == ""


def test_a_frozen_child_can_be_killed(children, module):
    child = children.start("frozen", module("sleeps", SLEEP))
    child.freeze()
    assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
    child.kill()
    assert child.exit_code == -signal.SIGKILL


def test_a_resumed_child_goes_on(children, module):
    child = children.start("resumed", module("says", "input('') if 0 else print('here')"), is_read=True)
    child.freeze()
    child.resume()
    assert lines_of(child, 1) == ["here"]


async def test_a_runner_that_holds_nothing_is_not_killed(children, module):
    store = InMemoryLightningStore()
    await store.enqueue_many_rollouts(requests_for([1]))
    child = children.start("idle", module("sleeps", SLEEP))
    await store.update_worker("worker-1", {"pid": child.pid})
    await claim(store, "worker-of-another")
    assert await kill_busy_runner(store, [child]) is None
    assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
    assert child.exit_code is None


async def test_the_first_runner_that_holds_rollouts_is_killed(children, module):
    store = InMemoryLightningStore()
    await store.enqueue_many_rollouts(requests_for([1, 2, 3]))
    idle, busy = (children.start(name, module("sleeps", SLEEP)) for name in ("idle", "busy"))
    for number, child in enumerate((idle, busy, busy)):
        await store.update_worker(f"worker-{number}", {"pid": child.pid})
    held = [(await claim(store, worker)).rollout_id for worker in ("worker-1", "worker-2")]
    accident = await kill_busy_runner(store, [idle, busy])
    assert accident == Accident("busy", busy.pid, tuple(held), frozenset({"worker-1", "worker-2"}))
    assert idle.exit_code is None
    assert busy.exit_code == -signal.SIGKILL


def test_leaving_the_block_ends_every_child(tmp_path, module, monkeypatch):
    monkeypatch.setattr("lightning_store.demo.processes.STOP_SECONDS", 2.0)  # for the others, who end when asked
    with Children(tmp_path / "logs", {}) as children:
        quiet = children.start("quiet", module("sleeps", SLEEP))
        stubborn = children.start("stubborn", module("stays", STUBBORN), is_read=True)
        frozen = children.start("frozen", module("sleeps", SLEEP))
        assert lines_of(stubborn, 1) == ["ready"]
        frozen.freeze()
    assert [is_gone(child.pid) for child in (quiet, stubborn, frozen)] == [True] * 3
    assert quiet.exit_code == frozen.exit_code == -signal.SIGTERM
    assert stubborn.exit_code == -signal.SIGKILL


def test_children_are_in_sessions_of_their_own(children, module):
    child = children.start("apart", module("sleeps", SLEEP))
    assert os.getsid(child.pid) == child.pid


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_children_end_with_a_demo_that_is_killed(tmp_path, module):
    module("sleeps", SLEEP + "\n")
    code = (
        "import sys, time; from pathlib import Path; from lightning_store.demo.processes import Children\n"
        "children = Children(Path('logs'), {})\n"
        "print(children.start('left', 'sleeps').pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        child = int(parent.stdout.readline())
        wait_until_running_python(child)
        parent.kill()
    assert wait_until_gone(child)


def wait_until_running_python(pid):
    """Wait until the leash has become the program: from then on the kernel knows what to do."""
    deadline = time.monotonic() + 15
    while "-m" not in psutil.Process(pid).cmdline()[:2] and time.monotonic() < deadline:
        time.sleep(0.01)
