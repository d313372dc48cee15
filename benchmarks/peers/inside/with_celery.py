"""celery: the solo pool, which runs tasks in the process itself, with late acknowledgement.

Without `acks_late` a task is gone when its worker dies. What Redis costs besides is left out: gossip, mingle, events.
"""

from contextlib import asynccontextmanager

from celery import Celery
from recording import RESULTS, URL, Record

_RECORD: list[Record] = []

app = Celery("bench", broker=URL, backend=URL if RESULTS else None)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=not RESULTS,
    task_reject_on_worker_lost=True,
    worker_hijack_root_logger=False,
)


@app.task
def job(number):
    _RECORD[0].job(number)


@app.task
def pickup(number, sent):
    _RECORD[0].pickup(number, sent)


@asynccontextmanager
async def giving():
    async def give_job(number):
        job.delay(number)

    async def give_pickup(number, sent):
        pickup.delay(number, sent)

    yield give_job, give_pickup


def work():
    _RECORD.append(Record())
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    app.worker_main(["--quiet", "worker", "--pool=solo", *options])
