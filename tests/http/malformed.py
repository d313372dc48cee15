"""Sends the catalogue of malformed requests to a real server and keeps the table of what it answered:

python -m tests.http.malformed [docs/malformed-requests.md]
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lightning_store.contract import LightningStore
from lightning_store.records import PromptTemplate, RolloutConfig
from tests.http.malformed_base import (
    HUNG_UP,
    MAX_BODY_BYTES,
    MAX_METADATA_BYTES,
    MAX_SPAN_BYTES,
    MAX_TASK_BYTES,
    Malformed,
    World,
)
from tests.http.malformed_requests import malformed_requests
from tests.support.factories import make_span
from tests.support.serving import send_raw

TABLE: Final = Path("docs/malformed-requests.md")
LIMITS: Final = {
    "max_task_bytes": MAX_TASK_BYTES, "max_span_bytes": MAX_SPAN_BYTES, "max_metadata_bytes": MAX_METADATA_BYTES,
}  # fmt: skip
"""Of the store behind the server."""

SERVER_OPTIONS: Final[dict[str, Any]] = {"max_body_bytes": MAX_BODY_BYTES, "access_log": False}
_AT_ONCE: Final = 8


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    request: Malformed
    status: int
    body: bytes

    @property
    def is_right(self) -> bool:
        """The status is one that this request may get, and the body has no traceback."""
        return self.status in self.request.expected and b"Traceback" not in self.body

    def __str__(self) -> str:
        return f"{self.request.category}: {self.request.what}: {self.status}, {self.body[:300]!r}"


async def furnish(store: LightningStore) -> World:
    """Put one of everything into a store, for what must not change."""
    resources = await store.add_resources({"main": PromptTemplate(template="x", engine="jinja")})
    config = RolloutConfig(max_attempts=3, retry_condition=["failed"])
    finished = await store.start_rollout("finished", worker_id="w-finished")
    await store.update_attempt(finished.rollout_id, finished.attempt.attempt_id, "succeeded")
    await store.enqueue_rollout("queued", config=config, metadata={"k": 1}, queue="train")
    await store.update_worker("w", {"cpu": 1})
    running = await store.start_rollout("running", worker_id="w", config=config)
    await store.add_span(make_span(running.rollout_id, running.attempt.attempt_id, span_id="f" * 16))
    await store.acknowledge_completions("reader")
    return World(running.rollout_id, running.attempt.attempt_id, resources.resources_id, "w")


async def observable(store: LightningStore) -> dict[str, Any]:
    """All that can be read of a store, but for what changes with time alone."""
    rollouts = list(await store.query_rollouts())
    ids = [each.rollout_id for each in rollouts]
    queues = await store.query_queues()
    statistics = await store.statistics()
    spans = await store.query_many_spans(ids)
    return {
        "statistics": {key: value for key, value in statistics.items() if key.startswith(("total", "rollouts"))},
        "rollouts": [each.model_dump() for each in rollouts],
        "attempts": {id: [each.model_dump() for each in await store.query_attempts(id)] for id in ids},
        "spans": {id: [each.model_dump() for each in found] for id, found in spans.items()},
        "rewards": dict(await store.rewards(ids)),
        "resources": [each.model_dump() for each in await store.query_resources()],
        "workers": [each.model_dump() for each in await store.query_workers()],
        "queues": {each.queue: (each.depth, each.delayed) for each in queues if each.depth or each.delayed},
        "events": [each.model_dump() for each in await store.query_events(limit=-1)],
        "completions": (await store.completions()).model_dump(),
        "consumers": [each.model_dump() for each in await store.query_consumers()],
    }  # fmt: skip


async def answers_to(url: str, requests: Sequence[Malformed]) -> list[Answer]:
    """What a server answers, a few requests at a time; one that does not answer in time raises TimeoutError."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def send(request: Malformed) -> Answer:
        async with places:
            return _read(request, await send_raw(url, request.data))

    return list(await asyncio.gather(*(send(request) for request in requests)))


def _read(request: Malformed, data: bytes) -> Answer:
    head, _, body = data.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else HUNG_UP
    return Answer(request, status, body)


def table(answers: Sequence[Answer], stores: Sequence[str]) -> str:
    """The table as a document."""
    counts: dict[str, Counter[int]] = {}
    for answer in answers:
        counts.setdefault(answer.request.category, Counter())[answer.status] += 1
    statuses = sorted({status for each in counts.values() for status in each})
    names = ["closed" if status == HUNG_UP else str(status) for status in statuses]
    lines = [
        "# Malformed requests",
        "",
        "Written by `python -m tests.http.malformed`; not to be edited.",
        "",
        f"{len(answers)} requests, each with one thing wrong, made from the table of operations and sent to a real",
        f"server over {' and over '.join(stores)}. None was answered with 500 or never, and after each kind everything",
        "that can be read of the store was what it had been: nothing is written. Requests by status:",
        "",
        f"| what is wrong | requests | {' | '.join(names)} |",
        f"|---|{'---:|' * (len(names) + 1)}",
    ]
    for category, found in counts.items():
        cells = [str(found[status] or "") for status in statuses]
        lines.append(f"| {category} | {found.total()} | {' | '.join(cells)} |")
    totals = Counter(answer.status for answer in answers)
    lines.append(f"| **all** | **{len(answers)}** | {' | '.join(str(totals[status]) for status in statuses)} |")
    if HUNG_UP in statuses:
        lines += ["", "*closed*: what is no HTTP has no answer; the connection is closed."]
    return "\n".join([*lines, ""])


async def check(store: LightningStore) -> list[Answer]:
    """Send everything to a server over a store.

    Raises:
        AssertionError: An answer is wrong, or something was written.
    """
    from lightning_store.http.server import LightningStoreServer  # noqa: PLC0415 - heavy

    async with LightningStoreServer(store, **SERVER_OPTIONS) as server:
        world = await furnish(server)
        found: list[Answer] = []
        requests = malformed_requests(world)
        for category in dict.fromkeys(request.category for request in requests):
            before = await observable(server)
            answers = await answers_to(server.url, [each for each in requests if each.category == category])
            wrong = [str(answer) for answer in answers if not answer.is_right]
            assert not wrong, f"{len(wrong)} wrong answers:\n" + "\n".join(wrong)
            after = await observable(server)
            changed = [
                json.dumps([key, before[key], after[key]], default=str) for key in after if after[key] != before[key]
            ]
            assert not changed, f"{category}: written:\n" + "\n".join(changed)
            found += answers
        number = await server.get_next_span_sequence_id(world.rollout_id, world.attempt_id)
        assert number == 2, "a number was used: the span that was there has 1"
        await server.close()
    return found


async def _main() -> str:
    from lightning_store.backends.memory import InMemoryLightningStore  # noqa: PLC0415
    from lightning_store.backends.redis.store import RedisLightningStore  # noqa: PLC0415
    from lightning_store.embedded import EmbeddedRedis  # noqa: PLC0415

    answers = await check(InMemoryLightningStore(**LIMITS))
    with EmbeddedRedis() as redis:
        again = await check(RedisLightningStore(redis.url, **LIMITS))
    text = table(answers, ["memory", "Redis"])
    assert table(again, ["memory", "Redis"]) == text, "the stores differ"
    return text


if __name__ == "__main__":
    written = asyncio.run(_main())
    (Path(sys.argv[1]) if sys.argv[1:] else TABLE).write_text(written)
    sys.stdout.write(written)
