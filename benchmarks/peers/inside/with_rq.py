"""rq: SimpleWorker, which runs jobs in the process itself, without a fork for each.

A job is moved to an intermediate queue and to the registry of started jobs, so that one is found whose worker died.
"""

from contextlib import asynccontextmanager

from recording import RESULTS, URL, Record
from redis import Redis
from rq import Queue, SimpleWorker

_RECORD: list[Record] = []


def job(number):
    _RECORD[0].job(number)


def pickup(number, sent):
    _RECORD[0].pickup(number, sent)


@asynccontextmanager
async def giving():
    queue = Queue(connection=Redis.from_url(URL))
    options = {} if RESULTS else {"result_ttl": 0}

    async def give_job(number):
        queue.enqueue(job, number, **options)

    async def give_pickup(number, sent):
        queue.enqueue(pickup, number, sent, **options)

    yield give_job, give_pickup


def work():
    _RECORD.append(Record())
    connection = Redis.from_url(URL)
    SimpleWorker([Queue(connection=connection)], connection=connection).work(logging_level="ERROR")
