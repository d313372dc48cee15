"""Claims in Redis: taking rollouts off their queues at once, or waiting in line for them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.attempts import AttemptOperations
from lightning_store.backends.redis.scripts import Call
from lightning_store.backends.redis.waiting import RECONNECT_SECONDS, WakeLine
from lightning_store.contract import DEFAULT_QUEUES
from lightning_store.errors import LightningStoreError, StoreUnavailableError
from lightning_store.records import AttemptedRollout
from lightning_store.repeats import next_digest, repeatable
from lightning_store.requests import MAX_CLAIM, ClaimRequest, claim_request

logger = logging.getLogger("lightning_store")

Send = Callable[[Call], Awaitable[Any]]

RESCUE_SECONDS: Final = 1.0
"""For how long a cancelled claim waits until what it took is handed back."""

_CLAIMS: Final = 2  # where the answer to a claim has the rollouts
_ENDED: Final = 2  # what it has in place of "more" when the call was ended
_TOKEN_DIGITS: Final = 32


class ClaimOperations(AttemptOperations):
    """Dequeues, with and without waiting."""

    async def dequeue_many_rollouts(
        self,
        *,
        limit: int = 1,
        worker_id: str | None = None,
        queues: Sequence[str] = DEFAULT_QUEUES,
        timeout: float = 0,
        lease_seconds: float | None = None,
    ) -> list[AttemptedRollout]:
        """See the contract. Claims over 1,000 are several atomic steps."""
        request = claim_request(limit, worker_id, queues, timeout, lease_seconds)
        if call := _whole_call():
            request = replace(request, call=call)
        if request.limit <= 0:
            return []
        try:
            if request.timeout <= 0:
                return (await self._claim(request, self._connections.run))[0]
            return await self._claim_in_line(request)
        except _Ended:
            return []

    async def take_back(self) -> None:
        """Hand back what the claim that carries the present operation's token has taken, and let it take nothing later.

        See `repeats.TakesBack`; whichever process the claim was made by.
        """
        call = _whole_call()
        if call is None:
            return
        claimed = 0
        while await self._take_back(DEFAULT_QUEUES, [_chunk_of(call, claimed)]):
            claimed += MAX_CLAIM

    async def _claim_in_line(self, request: ClaimRequest) -> list[AttemptedRollout]:
        """Claim, or wait in line for work until the time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + request.timeout
        line = self._loops.get().lines[request.queues]
        if not len(line):  # where others wait already, nothing can be claimed
            claimed, next_seconds = await self._claim(request, self._connections.run)
            if claimed:
                return claimed
            line.expect(next_seconds)
        if not await line.take(until - loop.time()):
            # A last look, for a hint may have been lost, and "nothing" must not mean that nobody could look.
            return (await self._claim(request, self._connections.run))[0]
        try:
            return await self._claim_in_turn(request, line, until)
        finally:
            line.pass_on()

    async def _claim_in_turn(self, request: ClaimRequest, line: WakeLine, until: float) -> list[AttemptedRollout]:
        """Wait at the server until something can be claimed or the time is over; an outage meanwhile is sat out."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                send = partial(self._send_when_woken, request, line.longest_wait(until))
                claimed, next_seconds = await self._claim(request, send)
            except StoreUnavailableError:
                if loop.time() >= until:
                    raise
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            if claimed or loop.time() >= until:
                return claimed
            line.expect(next_seconds)

    async def _claim(self, request: ClaimRequest, send: Send) -> tuple[list[AttemptedRollout], float | None]:
        """What can be claimed now, and the seconds until more may become claimable by itself.

        Args:
            request: What is wanted.
            send: How the first script is sent; what it leaves is claimed without waiting.
        """
        claimed: list[AttemptedRollout] = []
        tokens: list[str] = []
        try:
            while True:
                count = min(request.limit - len(claimed), MAX_CLAIM)
                tokens.append(self.ids.token())
                call = _chunk_of(request.call, len(claimed)) if request.call else ""
                more, next_seconds, replies = await send(self._claim_call(request, tokens[-1], call, count))
                if more == _ENDED:
                    raise _Ended
                send = self._connections.run
                claimed += [codec.attempted(reply) for reply in replies]
                full = len(replies) == count
                if len(claimed) == request.limit or not (full or (more and not claimed)):
                    return claimed, float(next_seconds) if next_seconds else None
        except asyncio.CancelledError:
            # For a moment, because the event loop may end with the caller.
            await asyncio.wait({self._rescue(request, tokens)}, timeout=RESCUE_SECONDS)
            raise
        except StoreUnavailableError:
            self._rescue(request, tokens)
            raise

    def _rescue(self, request: ClaimRequest, tokens: Sequence[str]) -> "asyncio.Future[int]":
        """Begin to take back what may have been claimed for a caller who is gone; `close` waits for the end of it."""
        background = self._loops.get().background
        background.add(rescue := asyncio.ensure_future(self._take_back(request.queues, tokens)))
        rescue.add_done_callback(background.discard)
        return rescue

    def _claim_call(self, request: ClaimRequest, token: str, call: str, count: int) -> Call:
        return self._call(
            "dequeue_many_rollouts",
            now=self._now(),
            token=token,
            call=call,
            worker_id=request.worker_id or "",
            lease=codec.seconds(request.lease_seconds),
            again="",
            queue_count=len(request.queues),
            wanted=[*request.queues, *(self.ids.attempt_id() for _ in range(count))],
        )

    async def _send_when_woken(self, request: ClaimRequest, seconds: float, call: Call) -> Any:
        """The answer to a claim, as soon as there may be work or so many seconds are over."""
        names = [self._keys.control("wake", queue) for queue in request.queues]
        wait = ("BLPOP", *names, f"{seconds:.3f}")
        try:
            if request.lease_seconds is not None:
                answer, refused = await self._connections.run_woken(seconds, wait, call)
                if refused and not answer[_CLAIMS]:
                    raise refused
                return answer
            # The server claims for a connection that waits, even if its host is gone. Only a lease would end that.
            await self._connections.block(seconds, *wait)
        except StoreUnavailableError:
            logger.debug("The wait for work was cut off")  # the claim itself tells whether the server is back
            call = call.again
        return await self._connections.run(call)

    async def _take_back(self, queues: Sequence[str], tokens: Sequence[str]) -> int:
        """Hand back at once what was claimed for a caller who is gone, and let nothing be claimed for it later.

        Without waiting for replicas: that they are silent may be why the caller has got nothing.

        Args:
            queues: Those whose waiters may have lost a hint with the caller.
            tokens: What was claimed under.

        Returns:
            How many claims there were.
        """
        nothing = ClaimRequest(0, None, tuple(queues), 0.0, None)
        count = 0
        try:
            with repeatable(None):  # it is another operation, whose tokens no repeat of the claim may come to
                for token in reversed(tokens):
                    count += await self._release_all(self._claim_call(nothing, token, "", 0))
        except LightningStoreError as error:
            logger.warning("A claim without an answer is not handed back, its lease has to end it: %s", error)
        return count

    async def _release_all(self, call: Call) -> int:
        """Hand back what a call answers; how many that were."""
        _, _, held = await self._connections.run(call.unawaited)
        for rollout in reversed([codec.attempted(reply) for reply in held]):
            release = self._release_call(rollout.rollout_id, rollout.attempt.attempt_id)
            await self._connections.run(release.unawaited)
        return len(held)


class _Ended(Exception):  # noqa: N818 - not an error
    """The call was ended by one who knows its token."""


def _whole_call() -> str | None:
    """The token of an operation that others know of too; None when it is known here only."""
    digest = next_digest()
    return None if digest is None else digest[:_TOKEN_DIGITS]


def _chunk_of(call: str, claimed: int) -> str:
    """The token of the part of a call before which so many were claimed."""
    return f"{call}:{claimed}"
