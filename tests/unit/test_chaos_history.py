"""Every call of a client is in its journal: what was asked, what was answered, and what nobody knows."""

import asyncio
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.history import Journal, read_folder
from chaos.logged import LoggedStore
from lightning_store.backends.memory.store import InMemoryLightningStore
from lightning_store.errors import AttemptNotFoundError, StoreFullError, StoreUnavailableError
from lightning_store.records import EnqueueRolloutRequest
from tests.support.factories import span_of
from tests.support.faulty import FaultyStore

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def faulty():
    return FaultyStore(InMemoryLightningStore())


@pytest.fixture
def store(faulty, tmp_path):
    return LoggedStore(faulty, Journal(tmp_path / "runner-1.1.jsonl"))


async def enqueue(store):
    request = EnqueueRolloutRequest(input={"task": 7}, rollout_id="ro-own")
    return (await store.enqueue_many_rollouts([request]))[0]


async def test_calls_are_noted_with_their_ids_and_answers(store, tmp_path):
    await enqueue(store)
    claimed = await store.dequeue_rollout("w")
    rollout_id, attempt_id = claimed.rollout_id, claimed.attempt.attempt_id
    span = span_of(claimed)
    await store.add_many_spans([span])
    await store.renew("w", [(rollout_id, attempt_id)])
    await store.update_attempt(rollout_id, attempt_id, status="succeeded")
    await store.completions()
    await store.update_resources("rs", {})
    assert await store.dequeue_rollout("w") is None

    calls = read_folder(tmp_path)
    triple = [rollout_id, attempt_id, span.span_id]
    assert [call.operation for call in calls] == [
        "enqueue_many_rollouts", "dequeue_rollout", "add_many_spans", "renew", "update_attempt", "completions",
        "update_resources", "dequeue_rollout",
    ]  # fmt: skip
    assert {(call.process, call.outcome) for call in calls} == {("runner-1.1", "ok")}
    assert all(call.invoked_at <= call.ended_at < math.inf for call in calls)
    enqueued, dequeued, added, renewed, reported, read, updated, empty = calls
    assert (enqueued.asked, enqueued.answer) == ({"tasks": [[7, "ro-own"]]}, ["ro-own"])
    assert dequeued.asked == {"worker": "w"}
    assert (dequeued.answer["rollout"], dequeued.answer["attempt"]) == (rollout_id, attempt_id)
    assert (dequeued.answer["task"], dequeued.answer["sequence"]) == (7, 1)
    assert (added.asked, added.answer) == ({"spans": [triple]}, [triple])
    assert (renewed.asked["attempts"], renewed.answer) == ([[rollout_id, attempt_id]], ["current"])
    assert reported.asked == {"rollout": rollout_id, "attempt": attempt_id, "status": "succeeded"}
    assert reported.answer["status"] == "succeeded"
    assert [entry[1:] for entry in read.answer] == [[rollout_id, "succeeded"]]
    assert (updated.asked, updated.answer) == ({"resources": "rs"}, {"version": 1})
    assert empty.answer is None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (StoreUnavailableError("gone"), "unknown"),
        (StoreFullError("full"), "failed"),
        (AttemptNotFoundError("none"), "failed"),
        (RuntimeError("any"), "unknown"),
        (asyncio.CancelledError(), "unknown"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_error_tells_whether_the_call_may_have_taken_effect(store, faulty, tmp_path, error, outcome):
    faulty.errors["enqueue_many_rollouts"] = error

    with pytest.raises(type(error)):
        await enqueue(store)

    [call] = read_folder(tmp_path)
    assert (call.outcome, call.error, call.answer) == (outcome, type(error).__name__, None)


KILLED_IN_A_CALL = """
import asyncio, os, signal, sys
from pathlib import Path
from chaos.history import Journal
journal = Journal(Path(sys.argv[1]))
journal.ended(journal.invoked("renew", {}), "ok")
journal.invoked("dequeue_rollout", {"worker": "w"})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_call_of_a_killed_process_is_known_and_its_end_is_not(tmp_path):
    file = tmp_path / "runner-1.1.jsonl"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", KILLED_IN_A_CALL, str(file)], env=environment, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL

    known, unknown = read_folder(tmp_path)
    assert (known.outcome, unknown.outcome, unknown.ended_at) == ("ok", "unknown", math.inf)
    assert unknown.asked == {"worker": "w"}


def test_no_two_lives_share_a_journal(tmp_path):
    Journal(tmp_path / "runner-1.1.jsonl")
    with pytest.raises(FileExistsError):
        Journal(tmp_path / "runner-1.1.jsonl")
