"""Racing for claims, also as a process: `python -m tests.support.racing URL NAMESPACE NAME COROUTINES`.

Whoever races claims until nothing is left, and fails some attempts so that they are queued again.
"""

import asyncio
import json
import sys
import zlib
from typing import Any

from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.records import AttemptedRollout, RolloutConfig

RETRIED = RolloutConfig(max_attempts=4, retry_condition=["failed"])
"""What all rollouts of a race need."""

READY = "ready"
PATIENCE_SECONDS = 2.0

Claim = tuple[str, int, str]
"""Rollout, number and outcome of an attempt."""


async def claim_all(
    store: Any, name: str, claims: list[Claim], *, coroutines: int = 8, batches: int | None = None
) -> None:
    """Claim until nothing has come for a while, or each coroutine has had so many batches.

    Whoever fails an attempt goes on to claim, so that no retry is left behind at the end, unless batches are counted.
    """

    async def work(number: int) -> None:
        done = 0
        while batches is None or done < batches:
            claimed = await store.dequeue_many_rollouts(
                limit=1 + number % 3, worker_id=f"{name}-{number}", timeout=PATIENCE_SECONDS
            )
            if not claimed:
                return
            done += 1
            for rollout in claimed:
                status = _outcome(rollout)
                await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status=status)
                claims.append((rollout.rollout_id, rollout.attempt.sequence_id, status))

    await asyncio.gather(*map(work, range(coroutines)))


def _outcome(rollout: AttemptedRollout) -> str:
    number = rollout.attempt.sequence_id
    is_lucky = zlib.crc32(f"{rollout.rollout_id} {number}".encode()) % 3 > 0
    return "succeeded" if is_lucky or number == RETRIED.max_attempts else "failed"


async def _race(url: str, namespace: str, name: str, coroutines: int) -> list[Claim]:
    claims: list[Claim] = []
    store = RedisLightningStore(url, namespace=namespace)
    try:
        await claim_all(store, name, claims, coroutines=coroutines)
    finally:
        await store.close()
    return claims


if __name__ == "__main__":
    url, namespace, name, coroutines = sys.argv[1:]
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    sys.stdin.readline()  # the starting shot
    sys.stdout.write(json.dumps(asyncio.run(_race(url, namespace, name, int(coroutines)))))
