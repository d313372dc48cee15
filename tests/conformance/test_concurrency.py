"""Calls at once, on one event loop: atomic steps, numbers handed out once, completions exactly once."""

import asyncio

from lightning_store.records import RolloutConfig
from tests.support.factories import attempt_of, claim, requests_for, span_of, status_of
from tests.support.stores import CALLED_ONCE, only_stores


async def test_producers_and_consumers_at_once_lose_nothing(store):
    async def produce(number):
        return [r.rollout_id for r in await store.enqueue_many_rollouts(requests_for([number] * 5))]

    async def consume():
        found = []
        for _ in range(12):
            found += [rollout.rollout_id for rollout in await store.dequeue_many_rollouts(limit=2)]
        return found

    results = await asyncio.gather(*(produce(n) for n in range(6)), *(consume() for _ in range(4)))
    created = [rollout_id for result in results[:6] for rollout_id in result]
    claimed = [rollout_id for result in results[6:] for rollout_id in result]
    claimed += [rollout.rollout_id for rollout in await store.dequeue_many_rollouts(limit=100)]

    assert len(created) == 30
    assert sorted(claimed) == sorted(created)


async def test_unnumbered_spans_at_once_get_one_to_n(store):
    started = await store.start_rollout("task")
    second = await store.start_attempt(started.rollout_id)

    numbers = await asyncio.gather(
        *(store.get_next_span_sequence_id(started.rollout_id, "x") for _ in range(10)),
        *(store.get_next_span_sequence_id(second.rollout_id, second.attempt.attempt_id) for _ in range(10)),
    )

    assert sorted(numbers) == list(range(1, 21))


async def test_renumbered_spans_at_once_get_one_to_n_without_gaps(store):
    started = await store.start_rollout("task")
    spans = [span_of(started) for _ in range(20)]

    await asyncio.gather(*(store.add_many_spans(spans[n : n + 2], renumber=True) for n in range(0, 20, 2)))

    page = await store.query_spans(started.rollout_id)
    assert [span.sequence_id for span in page] == list(range(1, 21))


async def test_same_span_at_once_is_stored_once(store):
    started = await store.start_rollout("task")

    answers = await asyncio.gather(*(store.add_span(span_of(started, span_id="s")) for _ in range(6)))

    assert sum(answer is not None for answer in answers) == 1
    assert (await store.query_spans(started.rollout_id)).total == 1


async def test_spans_do_not_undo_what_others_write_at_the_same_time(store):
    started = await store.start_rollout("task")
    rollout_id = started.rollout_id

    async def speak():
        for _ in range(10):
            await store.add_span(span_of(started))

    async def write():
        for number in range(10):
            await store.update_attempt(rollout_id, "latest", metadata={"n": number}, worker_id=f"w{number}")
            await store.update_rollout(rollout_id, metadata={"n": number}, mode="val")
        await store.update_attempt(rollout_id, "latest", status="succeeded")

    await asyncio.gather(speak(), write(), speak())

    rollout = await store.get_rollout_by_id(rollout_id)
    assert (rollout.status, rollout.metadata, rollout.mode) == ("succeeded", {"n": 9}, "val")
    assert (rollout.attempt.status, rollout.attempt.metadata) == ("succeeded", {"n": 9})
    assert rollout.attempt.worker_id == "w9"
    assert (await store.query_spans(rollout_id)).total == 20


async def test_updates_of_different_fields_at_once_are_all_kept(store):
    started = await store.start_rollout("task")
    rollout_id = started.rollout_id

    await asyncio.gather(
        store.update_rollout(rollout_id, mode="train"),
        store.update_rollout(rollout_id, metadata={"a": 1}),
        store.update_rollout(rollout_id, resources_id="rs"),
        store.update_attempt(rollout_id, "latest", metadata={"b": 1}),
        store.update_attempt(rollout_id, "latest", worker_id="w"),
        store.update_attempt(rollout_id, "latest", resources_id="rs", resources_version=1),
    )

    rollout = await store.get_rollout_by_id(rollout_id)
    assert (rollout.mode, rollout.metadata, rollout.resources_id) == ("train", {"a": 1}, "rs")
    attempt = rollout.attempt
    assert (attempt.metadata, attempt.worker_id, attempt.resources_version) == ({"b": 1}, "w", 1)


async def test_ends_reported_at_once_complete_a_rollout_once(store):
    started = await store.start_rollout("task")
    pair = (started.rollout_id, started.attempt.attempt_id)

    await asyncio.gather(
        *(store.update_attempt(*pair, status=status) for status in ("succeeded", "failed", "succeeded", "failed")),
        store.cancel_rollouts([started.rollout_id]),
        store.cancel_rollouts([started.rollout_id]),
    )

    assert len((await store.completions()).items) == 1


async def test_retries_at_once_queue_a_rollout_once(store):
    config = RolloutConfig(max_attempts=5, retry_condition=["failed", "unresponsive"])
    started = await store.start_rollout("task", config=config)
    pair = (started.rollout_id, started.attempt.attempt_id)

    await asyncio.gather(
        *(store.update_attempt(*pair, status=status) for status in ("failed", "unresponsive", "failed")),
        store.release_attempt(*pair),
        store.update_rollout(started.rollout_id, status="requeuing"),
    )

    claimed = await store.dequeue_many_rollouts(limit=10)
    assert [rollout.rollout_id for rollout in claimed] == [started.rollout_id]


async def test_settling_at_once_ends_each_attempt_once(store, clock):
    config = RolloutConfig(timeout_seconds=5, max_attempts=2, retry_condition=["timeout"])
    for number in range(12):
        await store.start_rollout(number, config=config)
    clock.advance(6)

    reports = await asyncio.gather(*(store.expire_attempts(limit=5) for _ in range(6)), store.query_rollouts())

    ended = [t.attempt_id for report in reports[:6] for t in report.transitions]
    assert len(ended) == len(set(ended)) <= 12
    claimed = await store.dequeue_many_rollouts(limit=100)
    assert len(claimed) == 12
    assert {rollout.attempt.sequence_id for rollout in claimed} == {2}


async def test_cancel_and_claim_at_once_never_leave_a_rollout_queued(store):
    created = await store.enqueue_many_rollouts(requests_for(range(20), group_id="g"))

    results = await asyncio.gather(
        *(store.dequeue_rollout("w") for _ in range(10)),
        store.cancel_rollouts(group_id="g"),
        *(store.dequeue_rollout("w") for _ in range(10)),
    )

    assert sorted(results[10]) == sorted(rollout.rollout_id for rollout in created)
    assert {rollout.status for rollout in await store.query_rollouts()} == {"cancelled"}
    assert await store.dequeue_rollout() is None


@only_stores(*CALLED_ONCE)
async def test_resources_updated_at_once_count_every_version(store):
    """A repeat answers with the current record, so it may tell a later version than its own."""
    answers = await asyncio.gather(*(store.update_resources("rs", {}) for _ in range(10)))

    assert sorted(answer.version for answer in answers) == list(range(1, 11))
    assert (await store.get_latest_resources()).version == 10
    assert (await store.query_resources()).total == 1


async def test_whole_life_of_many_rollouts_at_once(store):
    await store.enqueue_many_rollouts(
        requests_for(range(12), config=RolloutConfig(max_attempts=2, retry_condition=["failed"]))
    )

    async def work(worker_id):
        done = 0
        while claimed := await store.dequeue_rollout(worker_id, lease_seconds=60):
            await store.add_many_spans([span_of(claimed)], renumber=True)
            await store.renew(worker_id, [(claimed.rollout_id, claimed.attempt.attempt_id)])
            fails = claimed.attempt.sequence_id == 1 and claimed.input % 2
            status = "failed" if fails else "succeeded"
            await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status=status)
            done += 1
        return done

    counts = await asyncio.gather(*(work(f"w{n}") for n in range(4)))
    leftover = await work("last")

    assert sum(counts) + leftover == 18
    page = await store.query_rollouts()
    assert {rollout.status for rollout in page} == {"succeeded"}
    assert len((await store.completions()).items) == 12
    assert all(worker.status == "idle" for worker in await store.query_workers())


async def test_reads_of_one_rollout_are_never_torn(store):
    started = await store.start_rollout("task")
    rollout_id = started.rollout_id

    async def move():
        for _ in range(10):
            await store.start_attempt(rollout_id)
            await store.update_attempt(rollout_id, "latest", status="succeeded")

    async def look():
        for _ in range(20):
            rollout = await store.get_rollout_by_id(rollout_id)
            assert rollout.status == rollout.attempt.status
            assert (rollout.end_time is not None) == (rollout.status == "succeeded")

    await asyncio.gather(move(), look(), look())
    assert (await attempt_of(store, rollout_id)).sequence_id == 11
    assert await status_of(store, rollout_id) == "succeeded"
    assert await store.dequeue_rollout() is None


async def test_claimed_rollout_is_never_without_its_attempt(store):
    await store.enqueue_many_rollouts(requests_for(range(10)))

    async def look():
        for _ in range(15):
            for rollout in await store.query_rollouts():
                assert (rollout.status == "queuing") == (getattr(rollout, "attempt", None) is None)

    await asyncio.gather(look(), *(claim(store) for _ in range(10)), look())
