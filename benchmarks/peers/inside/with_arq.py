"""arq: 500 jobs at once. It has no blocking read: an idle worker polls, here every ten milliseconds instead of 500."""

import asyncio
from contextlib import asynccontextmanager

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker
from recording import RESULTS, URL, Record

_RECORD: list[Record] = []


async def job(_, number):
    _RECORD[0].job(number)


async def pickup(_, number, sent):
    _RECORD[0].pickup(number, sent)


@asynccontextmanager
async def giving():
    pool = await create_pool(RedisSettings.from_dsn(URL))

    async def give_job(number):
        await pool.enqueue_job("job", number)

    async def give_pickup(number, sent):
        await pool.enqueue_job("pickup", number, sent)

    yield give_job, give_pickup
    await pool.aclose()


def work():
    _RECORD.append(Record())
    asyncio.set_event_loop(asyncio.new_event_loop())
    keep = 3600 if RESULTS else 0
    functions = [func(each, keep_result=keep) for each in (job, pickup)]
    Worker(
        functions,
        redis_settings=RedisSettings.from_dsn(URL),
        max_jobs=500,
        poll_delay=0.01,
        log_results=False,
    ).run()
