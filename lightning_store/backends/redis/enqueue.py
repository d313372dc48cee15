"""Enqueuing in Redis: at once, or when there is room in queues that have a limit."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, Final

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import RedisCore
from lightning_store.backends.redis.scripts import Argument
from lightning_store.errors import InvalidRequestError, QueueFullError
from lightning_store.patience import Backoff
from lightning_store.records import EnqueueRolloutRequest, Rollout
from lightning_store.requests import check_timeout, new_rollout

FIRST_LOOK_SECONDS: Final = 0.005
MOST_BETWEEN_LOOKS_SECONDS: Final = 0.25
RETRY_SECONDS: Final = 2.0
"""A call with ids of the caller's is tried anew that often whatever is seen: those that are stored need no room."""

MOST_BYTES: Final = 256 << 20
"""Of one call, as it is sent: Redis carries out nothing else meanwhile, and cuts connections that send over 1 GB."""

_CREATED: Final = 2  # length of the reply for a new rollout; a stored one comes as a whole record


class EnqueueOperations(RedisCore):
    """Enqueues, with and without waiting."""

    async def enqueue_many_rollouts(
        self, rollouts: Sequence[EnqueueRolloutRequest], *, timeout: float = 0
    ) -> list[Rollout]:
        """See the contract. Of those that wait in one process, one at a time looks for room."""
        seconds = check_timeout(timeout)
        new = [new_rollout(request, self.ids) for request in rollouts]
        if not new:
            return []
        limits = self._queue_limits.among(each.queue for each in new)
        arguments = [*chain.from_iterable(codec.many_rollouts_arguments(new, self._payloads))]
        _check_size(arguments)
        texts = ",".join(f"{name}:{most}" for name, most in limits.items())

        async def send() -> Any:
            return await self._run("enqueue_many_rollouts", now=self._now(), limits=texts, rollouts=arguments)

        if limits and seconds > 0:
            patience = seconds if all(each.digest is None for each in new) else RETRY_SECONDS
            look = partial(self._look_for_room, limits, Counter(each.queue for each in new), patience)
            replies = await self._in_line(tuple(limits), send, look, seconds)
        else:
            replies = await send()
        return [
            codec.created_rollout(each, *reply) if len(reply) == _CREATED else codec.rollout(reply, with_attempt=False)
            for each, reply in zip(new, replies, strict=True)
        ]

    async def _in_line(
        self,
        queues: tuple[str, ...],
        send: Callable[[], Awaitable[Any]],
        look: Callable[[float], Awaitable[None]],
        seconds: float,
    ) -> Any:
        """Send when there is room, behind those of this process that wait for the same queues."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        line = self._loops.get().producers[queues]
        if not len(line):
            with suppress(QueueFullError):
                return await send()
        if not await line.take(until - loop.time()):
            return await send()  # the time is over; the refusal tells how full the queue is
        try:
            while loop.time() < until:
                with suppress(QueueFullError):
                    return await send()
                await look(until)
            return await send()
        finally:
            line.pass_on()

    async def _look_for_room(self, limits: Mapping[str, int], new: Counter[str], patience: float, until: float) -> None:
        """Return when so many new rollouts fit, or when it is time to try; the tasks are not sent in vain meanwhile."""
        loop = asyncio.get_running_loop()
        until = min(until, loop.time() + patience)
        fields = [f"queue:{name}" for name in limits]
        backoff = Backoff(FIRST_LOOK_SECONDS, MOST_BETWEEN_LOOKS_SECONDS)
        while (left := until - loop.time()) > 0:
            await asyncio.sleep(min(backoff.next_seconds(), left))
            depths = await self._connections.command("HMGET", self._keys.control("stats"), *fields)
            pairs = zip(depths, limits.items(), strict=True)
            if all(int(depth or 0) + new[name] <= most for depth, (name, most) in pairs):
                return


def _check_size(arguments: Sequence[Argument]) -> None:
    """Refuse a call that would not get through, instead of trying it again and again."""
    size = sum(len(argument) for argument in arguments if isinstance(argument, bytes))
    if size > MOST_BYTES:
        expected = f"expected at most {MOST_BYTES}; enqueue fewer at once"
        raise InvalidRequestError(f"rollouts: {size} bytes in one call, {expected}")
