"""Ours, as it is used: a `Runner` with 64 workers whose agent emits a span of 1 kB and returns."""

from recording import URL, Record
from with_store import giving, note

from lightning_store import RedisLightningStore, Runner

__all__ = ["giving", "work"]

_WORKERS = 64
_TEXT = "x" * 700


def work():
    record = Record()

    async def agent(rollout, _, tracer):
        note(record, rollout.input)
        with tracer.start_as_current_span("llm.call", attributes={"completion": _TEXT}):
            pass

    Runner(RedisLightningStore(URL), agent, concurrency=_WORKERS).run_forever()
