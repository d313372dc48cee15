"""Ours, by its calls alone: 64 coroutines that claim, store a span of 1 kB and end the attempt, each on its own."""

import asyncio
from contextlib import asynccontextmanager

from recording import URL, Record

from benchmarks.spans import make_spans
from lightning_store import RedisLightningStore

_COROUTINES = 64


@asynccontextmanager
async def giving():
    store = RedisLightningStore(URL)

    async def give_job(number):
        await store.enqueue_rollout({"number": number})

    async def give_pickup(number, sent):
        await store.enqueue_rollout({"number": number, "sent": sent})

    yield give_job, give_pickup
    await store.close()


def work():
    asyncio.run(_work())


async def _work():
    store, record = RedisLightningStore(URL), Record()
    await asyncio.gather(*(_live(store, record, f"worker-{number}") for number in range(_COROUTINES)))


async def _live(store, record, worker_id):
    while True:
        rollout = await store.dequeue_rollout(worker_id, timeout=60, lease_seconds=60)
        if rollout is None:
            continue
        note(record, rollout.input)
        await store.add_many_spans(make_spans(rollout, 1))
        await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status="succeeded")


def note(record, task):
    if "sent" in task:
        record.pickup(task["number"], task["sent"])
    else:
        record.job(task["number"])
