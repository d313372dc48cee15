"""dramatiq: one worker of two threads, the fastest number for jobs that do nothing, with a deeper prefetch.

A message is acknowledged after it was processed. It has no blocking read: an idle worker polls, here every ten
milliseconds instead of 1,000.
"""

import os
import threading
from contextlib import asynccontextmanager

os.environ["dramatiq_queue_prefetch"] = "64"  # noqa: SIM112 - its name

import dramatiq  # reads the environment
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from recording import RESULTS, URL, Record

_RECORD: list[Record] = []

broker = RedisBroker(url=URL)
if RESULTS:
    broker.add_middleware(Results(backend=RedisBackend(url=URL), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def job(number):
    _RECORD[0].job(number)
    return number


@dramatiq.actor
def pickup(number, sent):
    _RECORD[0].pickup(number, sent)
    return number


@asynccontextmanager
async def giving():
    async def give_job(number):
        job.send(number)

    async def give_pickup(number, sent):
        pickup.send(number, sent)

    yield give_job, give_pickup


def work():
    _RECORD.append(Record())
    dramatiq.Worker(broker, worker_timeout=10, worker_threads=2).start()
    threading.Event().wait()
