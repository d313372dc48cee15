"""Carrying out a call: each key once, waits that end with their caller or server, claims that are not lost."""

import asyncio
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from starlette.types import Receive

from lightning_store.contract import LightningStore
from lightning_store.forwarding import innermost
from lightning_store.http.answers import Answers, Claims, Outcome
from lightning_store.http.claimed import Orphans
from lightning_store.http.shutdown import Shutdown
from lightning_store.http.wire import Codec
from lightning_store.operations import Operation
from lightning_store.repeats import TakesBack, repeatable

_NOTHING: Final = Outcome(b"[]")
"""Nothing was claimed or enqueued."""


class Gone(Exception):  # noqa: N818 - not an error
    """The caller went away; there is nobody to answer."""


@dataclass(frozen=True)
class Call:
    """One request for an operation.

    Attributes:
        codec: The form of the operation.
        arguments: What the caller gave.
        identity: The same for each try of one caller's call, and no other's; None when it cannot be told.
        token: The key as the caller sent it; what the store draws for the call follows from it.
        tries: Which try this is, as the caller says.
    """

    codec: Codec
    arguments: dict[str, Any]
    identity: str | None = None
    token: str | None = None
    tries: int = 1

    @property
    def operation(self) -> Operation:
        """What is wanted."""
        return self.codec.operation

    @property
    def wanted_seconds(self) -> float:
        """For how long the call may wait; 0 = it does not."""
        if not self.operation.waits:
            return 0.0
        timeout = self.arguments.get("timeout", self.operation.signature.parameters["timeout"].default)
        return math.inf if timeout is None else float(timeout)


@dataclass(eq=False)
class _Running:
    """A call under way, and how many callers wait for its outcome."""

    outcome: "asyncio.Future[Outcome]"
    callers: int = 0


class Calls:
    """Calls of one application to its store.

    Attributes:
        shutdown: Ends all waits when set.
    """

    def __init__(
        self, store: LightningStore, *, wait_limit_seconds: float, answer_seconds: float, orphan_seconds: float
    ) -> None:
        """Set up.

        Args:
            store: The store.
            wait_limit_seconds: Longest wait; callers ask again.
            answer_seconds: How long answers are kept for repeats.
            orphan_seconds: How long a claim is kept whose caller went away before it was answered.
        """
        self.shutdown = Shutdown()
        self._store = store
        self._innermost = innermost(store)
        self._wait_limit_seconds = wait_limit_seconds
        self._answers = Answers(seconds=answer_seconds)
        self._orphans = Orphans(store, seconds=orphan_seconds)
        self._running: dict[str, _Running] = {}

    async def carry_out(self, call: Call, receive: Receive) -> Outcome:
        """The outcome of a call.

        Args:
            call: The call.
            receive: Tells when the caller goes away.

        Raises:
            Gone: The caller went away.
        """
        if call.operation.claims or call.wanted_seconds > 0:
            return await self._watched(call, receive)
        if call.identity is None:
            return await self._ask(call)
        return await self._once(call, call.identity)

    async def end(self, call: Call, identity: str) -> None:
        """End a call that its caller wants no more: what it claimed is handed back, and it does nothing later.

        A claim may have reached another process, and be under way there: the store ends it, if it can.
        """
        outcome = self._answers.get(identity)
        self._answers.keep(identity, _NOTHING)  # before anybody who waits for it looks for another outcome
        running = self._running.get(identity)
        if running is not None:
            running.outcome.cancel()
            await asyncio.wait({running.outcome})
            outcome = self._answers.get(identity)  # it may have come after all
            self._answers.keep(identity, _NOTHING)
        if outcome is None or outcome.claims:
            self._orphans.take(identity)
            await self._orphans.release(() if outcome is None else outcome.claims)
        else:
            self._answers.keep(identity, outcome)
        if outcome is None and call.operation.claims and isinstance(self._innermost, TakesBack):
            with repeatable(call.token):
                await self._innermost.take_back()

    # -- calls that are over soon ------------------------------------------------------------------------------------

    async def _once(self, call: Call, identity: str) -> Outcome:
        """Carry out what does not wait; a repeat that comes meanwhile, or later, gets the same outcome."""
        while True:
            known = self._answers.get(identity)
            if known is not None:
                return known
            running = self._running.get(identity)
            if running is None:
                break
            await asyncio.wait({running.outcome})
        own = self._running[identity] = _Running(asyncio.get_running_loop().create_future())
        try:
            outcome = await self._ask(call)
            self._answers.keep(identity, outcome)
            return outcome
        finally:
            del self._running[identity]
            own.outcome.cancel()  # who waits for it looks at the answers, or tries for itself

    async def _ask(self, call: Call) -> Outcome:
        """Ask the store."""
        with repeatable(call.token):
            result = await getattr(self._store, call.operation.name)(**call.arguments)
        return _outcome(call, result)

    # -- calls that wait or claim ------------------------------------------------------------------------------------

    async def _watched(self, call: Call, receive: Receive) -> Outcome:
        """The same with an eye on the caller."""
        gone = asyncio.ensure_future(_gone(receive))
        try:
            outcome = await self._shared(call, gone)
            if gone.done():
                self._orphaned(call.identity, outcome)
                raise Gone
            if call.identity is not None:
                self._orphans.take(call.identity)
            return outcome
        finally:
            gone.cancel()

    def _orphaned(self, identity: str | None, outcome: Outcome) -> None:
        """Nobody is there to take an outcome."""
        if identity is None:
            self._orphans.release_soon(outcome.claims)
        elif outcome.claims:
            self._orphans.expect(identity, outcome.claims, partial(self._answers.drop, identity))

    async def _shared(self, call: Call, gone: "asyncio.Future[None]") -> Outcome:
        """The outcome, shared with other tries of the call."""
        while True:
            known = None if call.identity is None else self._answers.get(call.identity)
            if known is not None:
                return known
            running = None if call.identity is None else self._running.get(call.identity)
            running = running or self._start(call)
            running.callers += 1
            try:
                outcome = await self._outcome(call, running, gone)
            finally:
                running.callers -= 1
                if not running.callers:
                    running.outcome.cancel()
            if outcome is not None:
                return outcome

    def _start(self, call: Call) -> _Running:
        task = asyncio.ensure_future(self._wait_or_claim(call))
        running = _Running(task)
        identity = call.identity
        if identity is not None:
            self._running[identity] = running
            task.add_done_callback(lambda ended: self._ended(identity, ended))
        return running

    def _ended(self, identity: str, ended: "asyncio.Future[Outcome]") -> None:
        del self._running[identity]
        if not ended.cancelled() and ended.exception() is None and ended.result() != _NOTHING:
            self._answers.keep(identity, ended.result())

    async def _outcome(self, call: Call, running: _Running, gone: "asyncio.Future[None]") -> Outcome | None:
        """The outcome of a call under way; None when others have ended it."""
        task, stop = running.outcome, self.shutdown.announce()
        try:
            ends: list[asyncio.Future[Any]] = [task, gone, stop] if call.wanted_seconds > 0 else [task, gone]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.shutdown.forget(stop)
        if not task.done():
            if gone.done() and running.callers > 1:
                raise Gone
            if call.wanted_seconds > 0:
                task.cancel()
            await asyncio.wait({task})  # a claim that does not wait is soon over, and kept for the repeat
        if not task.cancelled():
            return task.result()
        if gone.done():
            raise Gone
        return await self._without_waiting(call) if self.shutdown.is_set else None

    async def _without_waiting(self, call: Call) -> Outcome:
        """What there is when the server stops."""
        if call.operation.claims:
            return replace(_NOTHING, is_cut=True)
        return replace(await self._ask(replace(call, arguments={**call.arguments, "timeout": 0})), is_cut=True)

    async def _wait_or_claim(self, call: Call) -> Outcome:
        wanted = call.wanted_seconds
        seconds = min(wanted, self._wait_limit_seconds)
        limited = replace(call, arguments={**call.arguments, "timeout": seconds})
        loop = asyncio.get_running_loop()
        started = loop.time()
        outcome = await (self._claim(limited) if call.operation.claims else self._ask(limited))
        is_cut = wanted > seconds and loop.time() - started >= seconds
        return replace(outcome, is_cut=True) if is_cut else outcome

    async def _claim(self, call: Call) -> Outcome:
        """Claim; a repeat that another process may have begun looks first at what that one has taken.

        What was taken under a key and handed back since is not taken again under it, so the repeat draws others.
        """
        if call.tries > 1:
            held = await self._ask(replace(call, arguments={**call.arguments, "timeout": 0}))
            if held.claims:
                await self._show_life(call, held.claims)
                return held
            call = replace(call, token=f"{call.token}:{call.tries}")
        return await self._ask(call)

    async def _show_life(self, call: Call, claims: Claims) -> None:
        """Tell another process, which may think that nobody has these claims."""
        worker_id = call.arguments.get("worker_id")
        if worker_id:
            await self._store.renew(worker_id, claims)


def _outcome(call: Call, result: Any) -> Outcome:
    body = call.codec.write_answer(result, call.arguments)
    if not call.operation.claims:
        return Outcome(body)
    return Outcome(body, claims=tuple((rollout.rollout_id, rollout.attempt.attempt_id) for rollout in result))


async def _gone(receive: Receive) -> None:
    """Returns when the caller has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def whole_body(receive: Receive) -> bytes:
    """The body of a request.

    Raises:
        Gone: The caller went away before it was complete.
    """
    message = await receive()
    parts: list[bytes] = []
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
        message = await receive()
    raise Gone
