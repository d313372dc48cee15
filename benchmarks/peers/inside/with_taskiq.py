"""taskiq on Redis streams: one receiver as it comes, with 100 tasks at once.

A message is acknowledged once its result is stored.
"""

import asyncio
from contextlib import asynccontextmanager

from recording import RESULTS, URL, Record
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

_RECORD: list[Record] = []

# From the beginning of the stream, because the jobs are there before the worker.
broker = RedisStreamBroker(URL, consumer_id="0", unacknowledged_lock_timeout=10)
if RESULTS:
    broker = broker.with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=600))


@broker.task
async def job(number: int) -> None:
    _RECORD[0].job(number)


@broker.task
async def pickup(number: int, sent: float) -> None:
    _RECORD[0].pickup(number, sent)


@asynccontextmanager
async def giving():
    await broker.startup()
    yield job.kiq, pickup.kiq
    await broker.shutdown()


def work():
    _RECORD.append(Record())
    asyncio.run(_work())


async def _work():
    await broker.startup()
    await run_receiver_task(broker)
