"""A Redis store whose every script reaches the server twice, as after a lost answer: it must take effect once."""

from collections.abc import Sequence
from typing import Any

from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.scripts import Argument, Call
from lightning_store.backends.redis.store import RedisLightningStore

ANSWERS_DIFFER = frozenset({"evict_spans", "expire_attempts", "expire_workers", "renew"})
"""Calls that need no token, because a repeat changes nothing; but it tells what is still to do, which is nothing."""


class RepeatingConnections(Connections):
    """Sends each call a second time, and answers what came then."""

    async def run(self, call: Call) -> Any:
        """Twice."""
        first = await super().run(call)
        again = await super().run(call)
        return first if call.script.name in ANSWERS_DIFFER else again

    async def run_woken(self, seconds: float, blocking: Sequence[Argument], call: Call) -> tuple[Any, Exception | None]:
        """Once as it is, and once again without waiting."""
        _, refused = await super().run_woken(seconds, blocking, call)
        return await super().run(call), refused

    async def run_many(self, calls: Sequence[Call]) -> list[Any]:
        """Twice."""
        await super().run_many(calls)
        return await super().run_many(calls)


class RepeatingRedisStore(RedisLightningStore):
    """Behaves like any other store."""

    def _connect(self) -> None:
        super()._connect()
        self._connections = RepeatingConnections(self._connection_settings)
