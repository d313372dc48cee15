"""Consumers of the completion log in Redis."""

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.queries import QueryOperations
from lightning_store.records import Consumer
from lightning_store.requests import check_name, is_name


class ConsumerOperations(QueryOperations):
    """The operations of the contract on consumers."""

    async def acknowledge_completions(self, consumer: str, cursor: str | None = None) -> Consumer:
        """See the contract."""
        check_name(consumer, "consumer")
        start = await self._start_cursor(cursor, "cursor")
        reply = await self._run("acknowledge_completions", now=self._now(), consumer=consumer, cursor=start)
        return codec.consumer(consumer, reply)

    async def query_consumers(self) -> list[Consumer]:
        """See the contract."""
        flat = await self._connections.command("HGETALL", self._keys.control("consumers"))
        found = {codec.text(flat[i]): codec.text(flat[i + 1]).split(" ") for i in range(0, len(flat), 2)}
        return [codec.consumer(name, found[name]) for name in sorted(found)]

    async def forget_consumer(self, consumer: str) -> bool:
        """See the contract."""
        if not is_name(consumer):
            return False
        return bool(await self._run("forget_consumer", now=self._now(), token=self.ids.token(), consumer=consumer))
