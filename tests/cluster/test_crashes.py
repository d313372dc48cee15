"""What takes several steps on a Cluster is broken off after each: nothing acknowledged is lost, the rest is mended."""

import pytest

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import StoreUnavailableError
from lightning_store.rewards import ANNOTATION_SPAN
from tests.support.clock import START_TIME
from tests.support.crashing import on_clock, run_and_die
from tests.support.factories import span_of
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace
from tests.support.long_operations import DeleteWithSpans, SpansInSteps

LATER_SECONDS = 300.0
"""When nobody waits any more for the steps of a call that was broken off."""


@pytest.mark.parametrize("operation", [SpansInSteps, DeleteWithSpans], ids=lambda operation: operation.__name__)
def test_process_that_is_killed_after_any_step_leaves_what_the_audit_mends(operation, redis_cluster, namespace):
    it, url = operation(), redis_cluster.url

    def attempt(name, commands):
        """Kill a process after so many commands; whether it came to that, and the outcome after a repeat."""
        on_clock(url, name, 0, it.prepare)
        killed = run_and_die(url, name, START_TIME, operation.work, commands)
        mended = on_clock(url, name, LATER_SECONDS, lambda store: store.audit(repair=True))
        assert (mended.unrepaired, mended.unchecked) == (0, []), f"after {commands} commands"
        on_clock(url, name, LATER_SECONDS, operation.work)  # by another process, this one
        clean = on_clock(url, name, LATER_SECONDS, lambda store: store.audit())
        assert (clean.findings, clean.unchecked) == ([], []), f"after {commands} commands and a repeat"
        with redis_cluster.client() as raw:
            assert findings(read_keyspace(raw, name)) == [], f"after {commands} commands and a repeat"
        return killed, on_clock(url, name, LATER_SECONDS, it.outcome)

    _, undisturbed = attempt(f"{namespace}-calm", 10**6)
    commands, killed = 0, True
    while killed:
        commands += 1
        killed, outcome = attempt(f"{namespace}-{commands}", commands)
        assert outcome == undisturbed, f"after {commands} commands"
    assert commands > it.least_commands


async def test_reward_of_a_broken_off_call_is_noted_when_it_is_sent_again(store):
    """Its span is a duplicate then, which on a single server tells of no reward, because there it was noted before."""
    started = await store.start_rollout("task")
    early, late = (
        span_of(started, name=ANNOTATION_SPAN, sequence_id=number, attributes={"reward": float(number)})
        for number in (1, 2)
    )
    await store.add_span(early)
    send, steps = store._connections.run_many, iter((True, True, False))

    async def break_off(calls):
        if not next(steps):
            raise StoreUnavailableError("broken off")
        return await send(calls)

    store._connections.run_many = break_off
    with pytest.raises(StoreUnavailableError):
        await store.add_span(late)
    store._connections.run_many = send
    assert await store.rewards([started.rollout_id]) == {started.rollout_id: 1.0}

    assert await store.add_span(late) is None

    assert await store.rewards([started.rollout_id]) == {started.rollout_id: 2.0}


async def test_spans_of_a_rollout_that_is_deleted_meanwhile_are_refused_and_leave_nothing(
    store, redis_cluster, namespace
):
    """Between the steps of storing them."""
    started = await store.start_rollout("task", rollout_id="mine")
    await store.update_attempt("mine", "latest", status="succeeded")
    other = RedisLightningStore(redis_cluster.url, namespace=namespace)
    send = store._connections.run_many

    async def overtaken(calls):
        if calls[0].script.name == "append_spans":
            assert await other.delete_rollouts(["mine"]) == ["mine"]
        return await send(calls)

    store._connections.run_many = overtaken
    with pytest.raises(ValueError, match="Rollout mine not found"):
        await store.add_span(span_of(started))
    store._connections.run_many = send
    again = await store.start_rollout("task", rollout_id="mine")
    await store.add_span(span_of(again))
    await other.close()

    with redis_cluster.client() as raw:
        assert findings(read_keyspace(raw, namespace)) == []
    assert len((await store.query_spans("mine")).items) == 1
