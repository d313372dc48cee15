"""One attempt from its claim to its report.

Its spans are stored before success is reported. What a store that is out of reach did not take in time is counted in
the attempt's metadata.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from numbers import Real
from typing import Any, Final, TypeVar, cast

from opentelemetry import context as otel_context
from opentelemetry.trace import StatusCode

from lightning_store.contract import UNSET, Unset
from lightning_store.delivery import UNAVAILABLE
from lightning_store.errors import InvalidRequestError, ResourcesNotFoundError
from lightning_store.records import Attempt, AttemptedRollout, AttemptStatus, ResourcesUpdate
from lightning_store.runner.calling import Outcome, start_agent
from lightning_store.runner.failure import describe, record
from lightning_store.runner.held import KEEPS, Held, Interruption
from lightning_store.runner.surroundings import Surroundings
from lightning_store.scope import SCOPES
from lightning_store.status import LIVE
from lightning_store.tracing import emit_reward, start_root_span

logger = logging.getLogger("lightning_store")

FLUSH_SECONDS: Final = 300.0
"""How long spans may take on the way to the store; the exporter gives up retrying long before."""

LAST_WORDS_SECONDS: Final = 1.0
"""How long an agent may take to stop when the runner itself does, after its grace time."""

LAST_FLUSH_SECONDS: Final = 3.0
"""How long spans may take on the way to the store when the runner stops."""

T = TypeVar("T")


class Execution:
    """The work on one held attempt."""

    def __init__(self, around: Surroundings, worker_id: str, held: Held) -> None:
        self._around = around
        self._worker_id = worker_id
        self._held = held
        self._scope = held.scope
        self._call: asyncio.Future[Outcome] | None = None

    async def run(self) -> None:
        """Run the agent and report, or give the attempt up when its work is not wanted any more."""
        SCOPES.add(self._scope)
        root = start_root_span(self._around.agent_name, self._scope)
        try:
            outcome = await self._unless_interrupted()
        except BaseException:
            root.end()
            SCOPES.end(self._scope, remember=False)
            raise
        if outcome is None:
            root.add_event("interrupted", {"reason": self._held.interrupted.result()})
        elif outcome.error is not None:
            record(root, outcome.error)
        else:
            root.set_status(StatusCode.OK)
        root.end()
        SCOPES.end(self._scope, remember=outcome is not None)
        try:
            await (self._give_up(self._held.interrupted.result()) if outcome is None else self._report(outcome))
        except Exception:
            logger.exception("rollout=%s attempt=%s: the end of the attempt cannot be reported", *self._held.pair)

    # -- the agent ---------------------------------------------------------------------------------------------------

    async def _unless_interrupted(self) -> Outcome | None:
        """How the agent ended; None if it was stopped."""
        work = asyncio.ensure_future(self._prepare_and_call())
        try:
            either: set[asyncio.Future[Any]] = {work, self._held.interrupted}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            await self._stop_agent()
        finally:
            work.cancel()
            self._cancel_call()
        return None

    async def _prepare_and_call(self) -> Outcome:
        try:
            rollout, resources = await self._prepare()
        except Exception as error:  # noqa: BLE001 - becomes the attempt's failure
            return Outcome(error=error)
        context = copy_context()
        context.run(otel_context.attach, self._scope.context())
        arguments = (rollout, resources, self._around.tracer)
        self._call = start_agent(self._around.agent, arguments, context, self._take_result)
        try:
            return await asyncio.shield(self._call)
        except asyncio.CancelledError as error:
            if not self._call.cancelled() or self._held.interrupted.done():
                raise
            return Outcome(error=error)  # the agent cancelled itself; nobody wanted it to stop

    def _take_result(self, value: Any) -> None:
        """Emit what the agent returned as its reward; runs where the agent ran."""
        if value is None or self._scope.cancelled.is_set():
            return
        if not isinstance(value, Real | Mapping):
            raise TypeError(f"the agent returned {type(value).__name__}; expected None, a number or numbers by name")
        emit_reward(cast("float | Mapping[str, float]", value))

    async def _stop_agent(self) -> None:
        """Ask the agent to stop, and wait for it a while; a function on a thread can only be asked."""
        self._cancel_call()
        if self._call is None:
            return
        is_ending = self._held.interrupted.result() == "stopping"
        _, running = await asyncio.wait(
            {self._call}, timeout=LAST_WORDS_SECONDS if is_ending else self._around.cancel_seconds
        )
        if running:
            logger.warning("rollout=%s attempt=%s: the agent does not stop; its result is dropped", *self._held.pair)

    def _cancel_call(self) -> None:
        if isinstance(self._call, asyncio.Task):
            self._call.cancel()

    async def _prepare(self) -> tuple[AttemptedRollout, Mapping[str, Any]]:
        """Say that the attempt runs, and with which resources."""
        rollout = self._held.rollout
        found = await self._patiently(lambda: self._fetch(rollout.resources_id))
        attempt = await self._patiently(
            lambda: self._around.store.update_attempt(
                *self._held.pair,
                status="running",
                resources_id=found.resources_id if found else UNSET,
                resources_version=found.version if found else UNSET,
            )
        )
        return rollout.model_copy(update={"attempt": attempt, "status": "running"}), found.resources if found else {}

    async def _fetch(self, resources_id: str | None) -> ResourcesUpdate | None:
        """The rollout's resources as they are now, since an update may have replaced them; None if there are none."""
        if resources_id is None:
            return await self._around.store.get_latest_resources()
        found = await self._around.store.get_resources_by_id(resources_id)
        if found is None:
            raise ResourcesNotFoundError(f"Resources {resources_id} not found")
        return found

    # -- the end -----------------------------------------------------------------------------------------------------

    async def _report(self, outcome: Outcome) -> None:
        """Tell the store how the agent ended, once it has all spans."""
        facts = await self._flush(FLUSH_SECONDS)
        status: AttemptStatus = "succeeded"
        if outcome.error is not None:
            status = "failed"
            facts["exception"] = describe(outcome.error)
            logger.warning(
                "rollout=%s attempt=%s: the agent failed: %s", *self._held.pair, _in_one_line(facts["exception"])
            )
            # A late failure must not decide what the store has decided already, such as a retry after a timeout.
            states = await self._patiently(lambda: self._around.store.renew(self._worker_id, [self._held.pair]))
            if states[0] not in KEEPS:
                await self._close(states[0], facts)
                return
        await self._write(status, facts)
        self._around.stats.count(status)

    async def _give_up(self, why: Interruption) -> None:
        """End an attempt whose work is not wanted here any more."""
        logger.warning("rollout=%s attempt=%s: interrupted: %s", *self._held.pair, why)
        if why == "stopping":
            await self._flush(LAST_FLUSH_SECONDS)
            await self._patiently(lambda: self._around.store.release_attempt(*self._held.pair))
            self._around.stats.count("released")
        else:
            await self._close(why, await self._flush(FLUSH_SECONDS))
            self._around.stats.count("interrupted")

    async def _close(self, why: str, facts: dict[str, Any]) -> None:
        """End the attempt if it still counts as ours and alive; how it ended otherwise is the store's to say."""
        attempt = await self._patiently(self._stored_attempt)
        if attempt is not None and attempt.status in LIVE and attempt.worker_id == self._worker_id:
            await self._write("failed", {**facts, "interrupted": why})

    async def _stored_attempt(self) -> Attempt | None:
        rollout_id, attempt_id = self._held.pair
        attempts = await self._around.store.query_attempts(rollout_id)
        return next((attempt for attempt in attempts if attempt.attempt_id == attempt_id), None)

    async def _write(self, status: AttemptStatus, facts: dict[str, Any]) -> None:
        metadata: dict[str, Any] | Unset = UNSET
        if facts:
            stored = await self._patiently(self._stored_attempt)  # the agent may have written some of its own
            metadata = {**((stored and stored.metadata) or {}), **facts}
        update = self._around.store.update_attempt
        try:
            await self._patiently(lambda: update(*self._held.pair, status=status, metadata=metadata))
        except InvalidRequestError as error:
            if not facts:
                raise
            # What the agent has written may leave no room for these facts, and the end of the attempt counts more.
            logger.error(  # noqa: TRY400 - the traceback would tell nothing more
                "rollout=%s attempt=%s: its end is reported without %s: %s", *self._held.pair, ", ".join(facts), error
            )
            await self._patiently(lambda: update(*self._held.pair, status=status))

    async def _flush(self, timeout: float) -> dict[str, Any]:
        """Wait until all spans are stored or lost; what was lost, for the metadata."""
        exporter, identity = self._around.exporter, self._held.pair
        await asyncio.wait({asyncio.ensure_future(exporter.settled(identity))}, timeout=timeout)
        lost = exporter.lost_spans(*identity)
        late = exporter.unsettled(identity)
        if late:
            lost[UNAVAILABLE] = lost.get(UNAVAILABLE, 0) + late
        return {"lost_spans": lost} if lost else {}

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await self._around.reach.patiently(call)


def _in_one_line(facts: dict[str, Any]) -> str:
    return f"{facts['type']}: {facts['message']}".replace("\n", " ")[:300]
