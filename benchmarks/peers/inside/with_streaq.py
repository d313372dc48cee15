"""streaq: 100 tasks at once; tasks whose worker died are found in its streams."""

from contextlib import asynccontextmanager

from recording import RESULTS, URL, Record
from streaq import Worker

_RECORD: list[Record] = []
_TTL = 300 if RESULTS else 0

worker = Worker(redis_url=URL, concurrency=100)


@worker.task(ttl=_TTL, silent=True)
async def job(number: int) -> None:
    _RECORD[0].job(number)


@worker.task(ttl=_TTL, silent=True)
async def pickup(number: int, sent: float) -> None:
    _RECORD[0].pickup(number, sent)


@asynccontextmanager
async def giving():
    async def give_job(number):
        await job.enqueue(number)

    async def give_pickup(number, sent):
        await pickup.enqueue(number, sent)

    async with worker:
        yield give_job, give_pickup


def work():
    _RECORD.append(Record())
    worker.run_sync()
