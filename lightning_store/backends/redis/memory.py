"""Care for the server's memory: spans of finished rollouts are evicted, and new work is refused in time."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import RedisCore
from lightning_store.backends.redis.memory_watch import Reading
from lightning_store.errors import AccessDeniedError, InternalStoreError, LightningStoreError

logger = logging.getLogger("lightning_store")

COMPLETIONS_AT_ONCE: Final = 20
"""Most rollouts that lose their spans between two looks at the memory."""


class MemoryCare(RedisCore):
    """What stores do about memory besides the server itself."""

    async def _make_sure_of_room(self) -> None:
        """Refuse new work above high water, by a reading that is a few seconds old at most; look again if it is due.

        Does not wait, except for one reading before a refusal whose reason may be over.

        Raises:
            StoreFullError: The server uses too much memory.
        """
        watch = self._memory
        if watch.is_doubtful:
            await self._look()
        if watch.is_due():
            self._care_in_background()
        watch.refuse_if_full()

    def _care_in_background(self) -> None:
        state = self._loops.get()
        if state.memory_care is None or state.memory_care.done():
            state.memory_care = asyncio.get_running_loop().create_task(self._care())

    async def _care(self) -> None:
        """Look at the memory, and evict if it is time."""
        try:
            reading = await self._look()
            if reading is not None and self._memory.may_evict:
                await self._evict(reading)
        except AccessDeniedError as error:
            self._memory.may_evict = False
            logger.info("This user may not evict spans, which is left to others: %s", error)
        except LightningStoreError as error:
            logger.warning("Memory was not looked after, trying again later: %s", error)

    async def _look(self) -> Reading | None:
        """A fresh reading; None when the server does not tell, which is logged once."""
        try:
            return await self._reading()
        except (AccessDeniedError, InternalStoreError) as error:
            if not self._memory.is_blind:
                logger.warning("The server's memory cannot be seen; nothing is evicted or refused in time: %s", error)
            self._memory.is_blind = True
            return None

    async def _reading(self) -> Reading | None:
        return self._memory.note(await self._connections.info("memory"))

    async def evict_spans(self) -> int:
        """See the contract. Works in small steps and looks at the memory between them.

        The memory is that of the whole server, whoever fills it; what belongs to this namespace is evicted.
        """
        try:
            reading = await self._reading()
        except InternalStoreError as error:  # a server without INFO, as fakeredis is
            logger.debug("The server's memory cannot be seen, so nothing is evicted: %s", error)
            return 0
        return 0 if reading is None else await self._evict(reading)

    async def _evict(self, reading: Reading) -> int:
        count = 0
        is_going = reading.used > reading.limits.eviction
        while is_going:
            is_more, evicted = await self._to_the_end(self._evict_some())
            count += evicted
            self._observer.evicted(evicted)
            now = await self._reading()
            is_going = is_more and now is not None and now.used > now.limits.safe
        if count:
            logger.warning("Evicted the spans of %d finished rollouts for lack of memory", count)
        return count

    async def _evict_some(self) -> tuple[bool, int]:
        """Mark spans as evicted, drop them, and note that they are.

        Returns:
            Whether there was anything to look at; and how many rollouts have lost their spans.
        """
        token = self.ids.token()
        last, rollouts = await self._run(
            "evict_spans", now=self._now(), token=token, dropped="", limit=COMPLETIONS_AT_ONCE
        )
        if not last:
            return False, 0
        await self._drop_spans(rollouts)
        await self._run("evict_spans", now=self._now(), token=token, dropped=last, limit=0)
        return True, sum(is_new for _, is_new, _ in rollouts)

    async def _drop_spans(self, rollouts: Sequence[Any]) -> None:
        """Drop what is marked as evicted."""
        script = self._scripts["drop_spans"]
        calls = [
            script.call(
                spans=self._keys.spans(codec.text(id)),
                span_ids=self._keys.span_ids(codec.text(id)),
                attempt_ids=attempt_ids,
            )
            for id, _, attempt_ids in rollouts
        ]
        for answer in await self._connections.run_many(calls) if calls else []:
            if isinstance(answer, Exception):
                raise answer
