"""The contract that every store, client and wrapper keeps: its methods, their meaning and their errors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict

from lightning_store.errors import UnsupportedOperationError
from lightning_store.records import (
    DEFAULT_QUEUE,
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    AuditReport,
    CompletionPage,
    Consumer,
    EnqueueRolloutRequest,
    ExpiryReport,
    FilterLogic,
    LeaseState,
    NamedResources,
    PaginatedResult,
    QueueStats,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutEvent,
    RolloutMode,
    RolloutStatus,
    SortOrder,
    Worker,
    WorkerStatus,
)
from lightning_store.spans import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


class Unset:
    """Type of `UNSET`; a pickled copy is still an instance of it."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""Leave as it is, as opposed to None: set to None. Test with `isinstance(value, Unset)`."""

DEFAULT_QUEUES: Final = (DEFAULT_QUEUE,)


class Capabilities(TypedDict, total=False):
    """What a store can do; a missing key means no.

    `thread_safe`: callable from any thread. `async_safe`: coroutines of one loop may call it at once. `zero_copy`:
    copies of the object in other processes see the same data. `otlp_traces`: it has an OTLP/HTTP endpoint.
    """

    thread_safe: bool
    async_safe: bool
    zero_copy: bool
    otlp_traces: bool


class LightningStore:
    """What a rollout store does. All methods are coroutines but `capabilities` and `otlp_traces_endpoint`.

    Answers are copies: changing one does not change the store. Unknown ids raise `NotFoundError` (a ValueError) where a
    method says so; arguments that cannot be accepted, or are larger than the store takes, raise `InvalidRequestError`
    (a ValueError), values of the wrong kind pydantic's ValidationError (a ValueError), a backend out of reach
    `StoreUnavailableError`. Each call takes effect whole or not at all.

    Source: the LightningStore interface of Agent Lightning v0.3.0; what is marked as an extension is ours.
    """

    # -- about the store ---------------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return Capabilities(thread_safe=False, async_safe=False, zero_copy=False, otlp_traces=False)

    def otlp_traces_endpoint(self) -> str:
        """Full URL to send OTLP traces to; ends in `/v1/traces`.

        Raises:
            UnsupportedOperationError: The store has no such endpoint (`capabilities["otlp_traces"]` is false).
        """
        raise UnsupportedOperationError(f"{type(self).__name__} has no OTLP endpoint")

    async def close(self) -> None:
        """Let go of what the running event loop holds: connections, threads (extension). It can be used again."""

    async def statistics(self) -> dict[str, Any]:
        """Counts of what is stored.

        Returns:
            `name` (the class name), `total_rollouts`, `total_attempts`, `total_spans`, `total_resources`,
            `total_workers`, `uptime` (seconds since this object was made, growing with every call), and
            `rollouts_by_status` (extension).
        """
        raise NotImplementedError

    # -- rollouts and queue ------------------------------------------------------------------------------------------

    async def start_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        worker_id: str | None = None,
        *,
        rollout_id: str | None = None,
        group_id: str | None = None,
        queue: str = DEFAULT_QUEUE,
        lease_seconds: float | None = None,
    ) -> AttemptedRollout:
        """Create a rollout and its first attempt at once, past the queue.

        Args:
            input: The task; any JSON value.
            mode: What the rollout is for; None = not said.
            resources_id: Resources to use, not checked for existence; None = the latest at this moment, if any.
            config: Limits and retries; None = defaults. Copied.
            metadata: Free form; None = `{}`. Copied.
            worker_id: Worker to mark busy; None touches no worker.
            rollout_id: The caller's id (extension); see `enqueue_rollout`.
            group_id: Names the rollouts of one task (extension).
            queue: Where its retries wait (extension).
            lease_seconds: Longest silence of the attempt before its worker counts as lost (extension); None = no lease.

        Returns:
            The rollout in `preparing` with attempt 1 in `preparing`; both have the same start time.

        Raises:
            InvalidRequestError: A name, size or number is out of bounds; the rollout id is taken by another task.
            StoreFullError: No memory left; nothing was written.
        """
        raise NotImplementedError

    async def enqueue_rollout(
        self,
        input: Any,
        mode: RolloutMode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        rollout_id: str | None = None,
        group_id: str | None = None,
        queue: str = DEFAULT_QUEUE,
        timeout: float = 0,
    ) -> Rollout:
        """Create a rollout at the tail of its queue.

        Args:
            input: The task; any JSON value.
            mode: What the rollout is for; None = not said.
            resources_id: Resources to use, not checked for existence; None = the latest at this moment, if any.
            config: Limits and retries; None = defaults. Copied.
            metadata: Free form; None = `{}`. Copied.
            rollout_id: The caller's id, `[A-Za-z0-9._-]{1,128}` (extension). If it exists with the same input and
                config, the stored rollout is returned and nothing changes. None = made by the store.
            group_id: Names the rollouts of one task (extension).
            queue: The queue to wait in (extension).
            timeout: As in `enqueue_many_rollouts` (extension).

        Returns:
            The rollout in `queuing`.

        Raises:
            InvalidRequestError: A name, size or number is out of bounds; the rollout id is taken by another task.
            QueueFullError: The queue has no room, see `enqueue_many_rollouts`; nothing was written.
            StoreFullError: No memory left; nothing was written.
        """
        raise NotImplementedError

    async def enqueue_many_rollouts(
        self, rollouts: Sequence[EnqueueRolloutRequest], *, timeout: float = 0
    ) -> list[Rollout]:
        """Create many rollouts at the tail of their queues, in the order given; all of them or none.

        Where the store has a limit for a queue (`max_queued`), those that can be claimed there count against it, the
        depth of `query_queues`; delayed retries do not. Only new rollouts are refused: retries, releases and rollouts
        that are stored already never are, so a queue may grow beyond its limit by what comes back to it.

        Args:
            rollouts: What to enqueue.
            timeout: Seconds to wait for room in queues that are full; 0 = do not wait. Callers of one process that wait
                for the same queues get it in the order in which they began. Cancelling the wait enqueues nothing
                (extension).

        Returns:
            The rollouts in the order of the request; empty for an empty request.

        Raises:
            InvalidRequestError: As in `enqueue_rollout`, or more new rollouts than the limit of their queue; nothing
                was enqueued.
            QueueFullError: There was no room in time; nothing was enqueued.
            StoreFullError: No memory left; nothing was enqueued.
        """
        raise NotImplementedError

    async def dequeue_rollout(
        self,
        worker_id: str | None = None,
        *,
        queues: Sequence[str] = DEFAULT_QUEUES,
        timeout: float = 0,
        lease_seconds: float | None = None,
    ) -> AttemptedRollout | None:
        """Claim the oldest queued rollout and start an attempt for it, in one atomic step.

        Args:
            worker_id: Worker to mark busy, or idle when nothing was queued; None touches no worker.
            queues: Queues to look in, in this order: strict priority (extension).
            timeout: Seconds to wait for work; 0 = do not wait (extension).
            lease_seconds: Longest silence of the attempt before its worker counts as lost (extension); None = no lease.

        Returns:
            The rollout in `preparing` with its new attempt; None when nothing was queued in time.
        """
        raise NotImplementedError

    async def dequeue_many_rollouts(
        self,
        *,
        limit: int = 1,
        worker_id: str | None = None,
        queues: Sequence[str] = DEFAULT_QUEUES,
        timeout: float = 0,
        lease_seconds: float | None = None,
    ) -> list[AttemptedRollout]:
        """Claim up to `limit` queued rollouts, oldest first, and start one attempt for each, in one atomic step.

        Args:
            limit: Most rollouts to claim; 0 or less claims none and touches no worker.
            worker_id: Worker to mark busy with the last one claimed, or idle when nothing was queued.
            queues: As in `dequeue_rollout`.
            timeout: Seconds to wait for the first; it never waits for more once it has one.
            lease_seconds: As in `dequeue_rollout`.

        Returns:
            A list in queue order; empty when nothing was queued in time.
        """
        raise NotImplementedError

    async def start_attempt(
        self, rollout_id: str, worker_id: str | None = None, *, lease_seconds: float | None = None
    ) -> AttemptedRollout:
        """Start another attempt by hand, whatever the rollout's status; `max_attempts` is not asked.

        A waiting rollout leaves its queue; a finished one is reopened and loses its `end_time`.

        Returns:
            The rollout in `preparing` with the new attempt.

        Raises:
            RolloutNotFoundError: Unknown rollout.
            StoreFullError: No memory left; nothing was written.
        """
        raise NotImplementedError

    async def get_rollout_by_id(self, rollout_id: str) -> Rollout | None:
        """One rollout, settled first if its attempt is late.

        Returns:
            An AttemptedRollout with the latest attempt if there is one, else a Rollout; None if unknown.
        """
        raise NotImplementedError

    async def query_rollouts(
        self,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        rollout_id_in: Sequence[str] | None = None,
        rollout_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
        status: Sequence[RolloutStatus] | None = None,
        rollout_ids: Sequence[str] | None = None,
        group_id: str | None = None,
    ) -> PaginatedResult[Rollout]:
        """Rollouts that meet the filters.

        Args:
            status_in: Statuses to match; empty matches nothing, None = no condition.
            rollout_id_in: Ids to match; empty matches nothing, None = no condition.
            rollout_id_contains: Text that the id contains, case-sensitively; None = no condition.
            filter_logic: Whether all given conditions or at least one must hold.
            sort_by: A field of Rollout; None = order of creation, whatever `sort_order`.
            sort_order: Equal keys keep the order of creation in both directions. Missing values count as latest in
                fields that end in `_time`, as `""` in text fields, as 0 in numbers.
            limit: Most items; -1 = all, 0 = none.
            offset: Matches to leave out.
            status: Older name of `status_in`, which wins.
            rollout_ids: Older name of `rollout_id_in`, which wins.
            group_id: Group to match (extension); None = no condition.

        Returns:
            A page of AttemptedRollout (where there is an attempt) and Rollout; `total` counts all matches.

        Raises:
            InvalidRequestError: `sort_by` is no sortable field; `limit` below -1; `offset` negative.
        """
        raise NotImplementedError

    async def update_rollout(
        self,
        rollout_id: str,
        input: Any | Unset = UNSET,
        mode: RolloutMode | Unset | None = UNSET,
        resources_id: str | Unset | None = UNSET,
        status: RolloutStatus | Unset = UNSET,
        config: RolloutConfig | Unset = UNSET,
        metadata: dict[str, Any] | Unset | None = UNSET,
    ) -> Rollout:
        """Replace the given fields of a rollout, each as a whole.

        A status that queues appends the rollout to its queue unless it still waits there, when it keeps its place. A
        finished status sets `end_time`, also when repeated; any other clears it.

        Returns:
            The rollout, without attempt.

        Raises:
            RolloutNotFoundError: `Item <id> does not exist`.
            InvalidRequestError: `status` or `config` is None.
        """
        raise NotImplementedError

    async def cancel_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        group_id: str | None = None,
        status_in: Sequence[RolloutStatus] | None = None,
    ) -> list[str]:
        """Cancel the unfinished rollouts that meet all given conditions (extension).

        Queued ones are not handed out any more; runners of active ones learn of it from `renew`. Works in bounded
        steps, each of them atomic.

        Returns:
            Ids of the rollouts that this call cancelled: in the order asked for, else of creation.

        Raises:
            InvalidRequestError: No condition was given.
        """
        raise NotImplementedError

    async def delete_rollouts(self, rollout_ids: Sequence[str]) -> list[str]:
        """Remove finished rollouts with their attempts, spans and completions (extension).

        Returns:
            Ids of those removed, in the order asked for; unknown and unfinished ones are left out.
        """
        raise NotImplementedError

    async def prune(
        self,
        *,
        older_than_seconds: float | None = None,
        keep_latest: int | None = None,
        status_in: Sequence[RolloutStatus] | None = None,
        consumed_cursor: str | None = None,
    ) -> int:
        """Remove finished rollouts with all that belongs to them, in bounded steps, while work goes on (extension).

        `status_in` and `consumed_cursor` say which rollouts are meant; of these, those that are too old or too many are
        removed, or all of them if neither age nor number is limited. What is not meant stays and is not counted.

        Args:
            older_than_seconds: Remove what finished longer ago; None = no limit of age.
            keep_latest: Keep at most so many of those that are meant, the ones that finished last; None = no limit of
                number.
            status_in: Only rollouts in these finished statuses; empty = none, None = all.
            consumed_cursor: Only rollouts whose last completion is not behind this cursor of `completions`; None = all.

        Returns:
            How many rollouts were removed.

        Raises:
            InvalidRequestError: No argument was given, a limit is negative, a status is not a finished one, or the
                cursor is none.
        """
        raise NotImplementedError

    async def query_queues(self) -> list[QueueStats]:
        """How full the queues are, by name (extension); queues that are empty and never had a rollout are not known."""
        raise NotImplementedError

    async def query_events(self, *, rollout_id: str | None = None, limit: int = 100) -> list[RolloutEvent]:
        """The latest transitions, oldest first (extension).

        Only a bounded number of events is kept, whatever their rollouts.

        Args:
            rollout_id: Only this rollout's; None = all.
            limit: Most events to return; -1 = all that are kept.
        """
        raise NotImplementedError

    # -- waiting -----------------------------------------------------------------------------------------------------

    async def wait_for_rollouts(self, *, rollout_ids: Sequence[str], timeout: float | None = None) -> list[Rollout]:
        """Wait until all of these rollouts have finished, or the time is over.

        Args:
            rollout_ids: Ids in any order; unknown ones are left out and not waited for.
            timeout: Seconds; 0 or less = do not wait, None = without end.

        Returns:
            Those that are finished now, in the order asked for; an id asked for twice appears twice.
        """
        raise NotImplementedError

    async def completions(
        self, after: str | None = None, *, limit: int = 1000, timeout: float = 0, group_id: str | None = None
    ) -> CompletionPage:
        """Finished rollouts in the order in which they finished (extension).

        One entry per finish: a rollout that is reopened and finishes again appears again.

        Args:
            after: Cursor of an earlier page or completion; None = from the beginning; `"latest"` = only what finishes
                after this call.
            limit: Most completions to return, at least 1.
            timeout: Seconds to wait when there is none yet; 0 = do not wait.
            group_id: Only this group's; None = all.

        Returns:
            The completions, possibly none, and the cursor to go on from. The cursor survives a restart of the reader.
        """
        raise NotImplementedError

    async def acknowledge_completions(self, consumer: str, cursor: str | None = None) -> Consumer:
        """Keep, by name, how far a reader of `completions` has got (extension).

        The spans of rollouts that finished behind the cursor of any consumer are not evicted, and what all of them have
        passed may be pruned. A cursor goes forward only: an earlier one changes nothing.

        Args:
            consumer: Its name, `[A-Za-z0-9._-]{1,128}`; new ones are registered.
            cursor: Cursor of a page or completion that it is done with; None = before the first, `"latest"` = the end
                of the log. One that the log has not reached yet counts as its end.

        Returns:
            The consumer as stored.

        Raises:
            InvalidRequestError: The name or cursor is none.
        """
        raise NotImplementedError

    async def query_consumers(self) -> list[Consumer]:
        """The registered consumers by name (extension)."""
        raise NotImplementedError

    async def forget_consumer(self, consumer: str) -> bool:
        """Remove a consumer, which protects nothing any more (extension).

        Returns:
            Whether it was registered.
        """
        raise NotImplementedError

    # -- attempts ----------------------------------------------------------------------------------------------------

    async def query_attempts(
        self,
        rollout_id: str,
        *,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Attempt]:
        """Attempts of a rollout, sorted as in `query_rollouts`; empty for an unknown rollout."""
        raise NotImplementedError

    async def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        """The attempt with the highest number; None if the rollout has none or is unknown."""
        raise NotImplementedError

    async def update_attempt(
        self,
        rollout_id: str,
        attempt_id: str,
        status: AttemptStatus | Unset = UNSET,
        worker_id: str | Unset = UNSET,
        last_heartbeat_time: float | Unset = UNSET,
        metadata: dict[str, Any] | Unset = UNSET,
        *,
        resources_id: str | Unset | None = UNSET,
        resources_version: int | Unset | None = UNSET,
    ) -> Attempt:
        """Replace the given fields of an attempt; the latest one moves its unfinished rollout along.

        Args:
            rollout_id: The rollout.
            attempt_id: One of its attempts; `"latest"` = the one with the highest number.
            status: `succeeded`, `failed` and `timeout` set `end_time`; after `failed`, `timeout` and `unresponsive` the
                rollout is requeued while tries are left.
            worker_id: Hands the attempt to a worker; `""` is stored and touches no worker.
            last_heartbeat_time: Seconds since the epoch.
            metadata: Free form. Copied.
            resources_id: Resources that the runner used (extension).
            resources_version: Their version (extension).

        Returns:
            The attempt as stored. A report on a finished rollout is kept on the attempt and leaves the rollout alone.

        Raises:
            RolloutNotFoundError: Unknown rollout.
            AttemptNotFoundError: `No attempts found`, or an unknown attempt.
            InvalidRequestError: One of the first four fields is None.
        """
        raise NotImplementedError

    async def release_attempt(self, rollout_id: str, attempt_id: str) -> Attempt:
        """Hand a claimed rollout back, to the head of its queue, without counting an attempt (extension).

        The attempt ends `failed` with cause `released`. Without effect unless it is live and its unfinished rollout's
        latest.

        Returns:
            The attempt as stored.

        Raises:
            RolloutNotFoundError: Unknown rollout.
            AttemptNotFoundError: Unknown attempt.
        """
        raise NotImplementedError

    async def renew(
        self, worker_id: str, attempts: Sequence[tuple[str, str]], stats: dict[str, Any] | None = None
    ) -> list[LeaseState]:
        """One heartbeat for a worker and the attempts that it holds (extension).

        Args:
            worker_id: The worker.
            attempts: Pairs of rollout and attempt id.
            stats: New heartbeat stats of the worker; None leaves them.

        Returns:
            For each attempt, in the order given: `current` (heartbeat recorded), `revived` (was unresponsive and runs
            again), or, with nothing written, `replaced` (another attempt or worker has it), `cancelled`, `finished`,
            `unknown`. Runners stop what is not current or revived.
        """
        raise NotImplementedError

    # -- spans -------------------------------------------------------------------------------------------------------

    async def add_span(self, span: Span) -> Span | None:
        """Store one span; a sign of life of its attempt.

        Returns:
            The very object that was passed; None for a duplicate (rollout, attempt and span id are known), which is
            logged as an error and is no sign of life.

        Raises:
            RolloutNotFoundError: `Rollout <id> not found`.
            AttemptNotFoundError: `Attempt <id> not found`.
            StoreFullError: No memory left; nothing was written.
        """
        raise NotImplementedError

    async def add_many_spans(self, spans: Sequence[Span], *, renumber: bool = False) -> list[Span]:
        """Store spans, grouped by rollout and attempt; duplicates, also within the call, are skipped.

        Args:
            spans: Spans of any rollouts.
            renumber: Ignore their sequence ids and number new spans, in the order given, with the next numbers of
                their rollout, in the same atomic step (extension).

        Returns:
            The spans that were stored: the objects passed, or copies with their numbers if `renumber`.

        Raises:
            RolloutNotFoundError: `Rollout <id> not found`. Each group is stored or refused as a whole; the first error
                is raised after all groups were tried.
            AttemptNotFoundError: `Attempt <id> not found`.
            StoreFullError: No memory left.
        """
        raise NotImplementedError

    async def add_otel_span(
        self, rollout_id: str, attempt_id: str, readable_span: "ReadableSpan", sequence_id: int | None = None
    ) -> Span | None:
        """Convert an OpenTelemetry span and store it.

        Args:
            rollout_id: Rollout that the span belongs to.
            attempt_id: Attempt that the span belongs to.
            readable_span: The span.
            sequence_id: Its number; None = the next one of the rollout.

        Returns:
            The stored span; None for a duplicate.

        Raises:
            RolloutNotFoundError: `Rollout <id> not found`.
            AttemptNotFoundError: `Attempt <id> not found`.
            StoreFullError: No memory left; nothing was written.
        """
        raise NotImplementedError

    async def get_next_span_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        """The next number of the rollout's spans, handed out once; the first is 1. The attempt is only a label.

        Raises:
            RolloutNotFoundError: Unknown rollout.
        """
        raise NotImplementedError

    async def get_many_span_sequence_ids(self, rollout_attempt_ids: Sequence[tuple[str, str]]) -> list[int]:
        """Numbers for pairs of rollout and attempt id, in the order given.

        Raises:
            RolloutNotFoundError: One of the rollouts is unknown.
        """
        raise NotImplementedError

    async def query_spans(
        self,
        rollout_id: str,
        attempt_id: str | None = None,
        *,
        trace_id: str | None = None,
        trace_id_contains: str | None = None,
        span_id: str | None = None,
        span_id_contains: str | None = None,
        parent_id: str | None = None,
        parent_id_contains: str | None = None,
        name: str | None = None,
        name_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        limit: int = -1,
        offset: int = 0,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
    ) -> PaginatedResult[Span]:
        """Spans of a rollout that meet the filters; equal keys keep the order in which they were stored.

        Args:
            rollout_id: The rollout; unknown = empty.
            attempt_id: Only this attempt's; `"latest"` = the latest attempt's, None = all. Required also with `"or"`.
            trace_id: Exact value; None = no condition.
            trace_id_contains: Text that the value contains, case-sensitively; None = no condition.
            span_id: As `trace_id`.
            span_id_contains: As `trace_id_contains`.
            parent_id: As `trace_id`.
            parent_id_contains: As `trace_id_contains`.
            name: As `trace_id`.
            name_contains: As `trace_id_contains`.
            filter_logic: Whether all given conditions or at least one must hold; without any, all spans match.
            limit: Most items; -1 = all.
            offset: Matches to leave out.
            sort_by: A field of Span; None = the order in which they were stored.
            sort_order: As in `query_rollouts`.

        Raises:
            SpansEvictedError: Spans that are asked for were dropped for lack of memory. Those of a later attempt can
                still be asked for by its id.
            InvalidRequestError: As in `query_rollouts`.
        """
        raise NotImplementedError

    async def query_many_spans(
        self, rollout_ids: Sequence[str], attempt_id: str | None = None
    ) -> Mapping[str, Sequence[Span]]:
        """Spans of many rollouts in one call, each list sorted by `sequence_id` (extension).

        Args:
            rollout_ids: The rollouts; unknown ones have an empty list.
            attempt_id: `"latest"` = only the latest attempt's of each; None = all.

        Raises:
            SpansEvictedError: Spans that are asked for were dropped for lack of memory.
        """
        raise NotImplementedError

    async def rewards(self, rollout_ids: Sequence[str]) -> Mapping[str, float | None]:
        """The reward of each rollout (extension): the last one, by `sequence_id`, that its latest attempt emitted.

        Returns:
            By rollout id, in the order asked for; None where there is no reward or no such rollout. Rewards outlive the
            eviction of spans.
        """
        raise NotImplementedError

    # -- resources ---------------------------------------------------------------------------------------------------

    async def add_resources(self, resources: NamedResources) -> ResourcesUpdate:
        """Store a new snapshot under a new id, as version 1; it becomes the latest.

        Raises:
            StoreFullError: No memory left; nothing was written.
        """
        raise NotImplementedError

    async def update_resources(self, resources_id: str, resources: NamedResources) -> ResourcesUpdate:
        """Replace a snapshot, version + 1, or create it as version 1; it becomes the latest in both cases.

        Raises:
            StoreFullError: No memory left; nothing was written.
        """
        raise NotImplementedError

    async def get_resources_by_id(self, resources_id: str) -> ResourcesUpdate | None:
        """One snapshot; None if unknown."""
        raise NotImplementedError

    async def get_latest_resources(self) -> ResourcesUpdate | None:
        """The snapshot that was added or updated last; None if there is none."""
        raise NotImplementedError

    async def query_resources(
        self,
        *,
        resources_id: str | None = None,
        resources_id_contains: str | None = None,
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[ResourcesUpdate]:
        """Snapshots that meet both filters, in order of creation or sorted as in `query_rollouts`."""
        raise NotImplementedError

    # -- workers and upkeep ------------------------------------------------------------------------------------------

    async def update_worker(self, worker_id: str, heartbeat_stats: dict[str, Any] | Unset = UNSET) -> Worker:
        """A worker's heartbeat; creates it if it is unknown.

        Args:
            worker_id: Free text up to 512 bytes without control characters.
            heartbeat_stats: Replaces the stats when given.

        Raises:
            TypeError: `heartbeat_stats` is None.
        """
        raise NotImplementedError

    async def get_worker_by_id(self, worker_id: str) -> Worker | None:
        """One worker; None if unknown."""
        raise NotImplementedError

    async def query_workers(
        self,
        *,
        status_in: Sequence[WorkerStatus] | None = None,
        worker_id_contains: str | None = None,
        filter_logic: FilterLogic = "and",
        sort_by: str | None = None,
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Worker]:
        """Workers that meet the filters, in order of first mention or sorted as in `query_rollouts`."""
        raise NotImplementedError

    async def expire_attempts(self, *, limit: int = 500) -> ExpiryReport:
        """Settle deadlines that are due: end late and silent attempts, requeue or fail their rollouts (extension).

        Also moves delayed retries that are ready to their queues. Safe to call from any number of processes.

        Args:
            limit: Most deadlines to look at, at least 1.

        Returns:
            What was ended, and when to call again.
        """
        raise NotImplementedError

    async def expire_workers(self, *, silent_seconds: float) -> list[str]:
        """Mark workers `unknown` that gave no sign of life for so long (extension).

        Signs of life are heartbeats, dequeues and changes of status. What a worker holds is left to its deadlines.

        Returns:
            Ids of the workers that this call marked.
        """
        raise NotImplementedError

    async def evict_spans(self) -> int:
        """Make room if memory is filled beyond `eviction_memory_threshold` (extension).

        The spans of finished rollouts are dropped, the oldest finish first and none that a consumer has not passed,
        until `safe_memory_threshold` is reached or nothing is left to drop. Rollouts, attempts and rewards stay; spans
        of these attempts that arrive later are not kept, and queries for them raise SpansEvictedError. Stores do it by
        themselves too, when spans or rollouts are written.

        Returns:
            How many rollouts have lost their spans.

        Raises:
            AccessDeniedError: The store's user may not look at the server's memory, or not drop spans.
        """
        raise NotImplementedError

    async def audit(self, *, repair: bool = False) -> AuditReport:
        """Prove conservation while work goes on (extension): nothing lost, nothing double, nothing left over.

        Each rollout is in exactly one status index; queued ones are in exactly one queue; active ones have a deadline;
        finished ones are in the completion log; counters, attempts, workers and spans agree; no key belongs to nothing.
        Each rollout is looked at in one atomic step, and what takes more than one is looked at again before it is
        reported, so work that goes on makes no finding. Nothing is settled.

        Args:
            repair: Mend what follows from the records themselves: entries of indexes, queues, deadlines and the
                completion log, counts, keys that belong to nothing. What cannot be told is only reported.

        Returns:
            What breaks the rules, and what of it was mended.
        """
        raise NotImplementedError
