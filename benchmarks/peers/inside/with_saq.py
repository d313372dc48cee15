"""saq: 32 jobs at once in one process; jobs whose worker died are found by its sweeps.

A worker sweeps when it starts, and takes jobs that it has popped at that instant for lost ones: some run twice or are
aborted. Sweeps lock out others for a minute, so one on the empty queue keeps that out of what is measured.
"""

import asyncio
from contextlib import asynccontextmanager

from recording import RESULTS, URL, Record
from saq import Queue, Worker

_RECORD: list[Record] = []
_TTL = 600 if RESULTS else -1


async def job(_, number):
    _RECORD[0].job(number)


async def pickup(_, number, sent):
    _RECORD[0].pickup(number, sent)


@asynccontextmanager
async def giving():
    queue = Queue.from_url(URL)
    await queue.connect()
    await queue.sweep(lock=60)

    async def give_job(number):
        await queue.enqueue("job", number=number, ttl=_TTL)

    async def give_pickup(number, sent):
        await queue.enqueue("pickup", number=number, sent=sent, ttl=_TTL)

    yield give_job, give_pickup
    await queue.disconnect()


def work():
    _RECORD.append(Record())
    asyncio.run(_work())


async def _work():
    await Worker(Queue.from_url(URL), [job, pickup], concurrency=32).start()
