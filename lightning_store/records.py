"""The records of the contract: rollouts, attempts, workers, resources, and the requests and pages around them.

Field names, order and defaults are those of Agent Lightning 0.3, section 1 of its contract; fields that it lacks stand
after its own and have defaults. Times are seconds since the epoch. Spans have a module of their own.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Final, Generic, Literal, TypeAlias, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

RolloutStatus: TypeAlias = Literal["queuing", "preparing", "running", "succeeded", "failed", "cancelled", "requeuing"]
AttemptStatus: TypeAlias = Literal["preparing", "running", "succeeded", "failed", "timeout", "unresponsive"]
WorkerStatus: TypeAlias = Literal["idle", "busy", "unknown"]
RolloutMode: TypeAlias = Literal["train", "val", "test"]
AttemptCause: TypeAlias = Literal["agent", "timeout", "worker_lost", "released", "cancelled"]
EventCause: TypeAlias = Literal[
    "enqueued", "claimed", "started", "span", "renewed", "updated",
    "agent", "timeout", "worker_lost", "released", "cancelled",
]  # fmt: skip
LeaseState: TypeAlias = Literal["current", "revived", "replaced", "cancelled", "finished", "unknown"]
AuditRule: TypeAlias = Literal[
    "record", "status_index", "queue", "deadline", "completion", "attempts", "spans", "worker", "resources", "counter",
    "orphan",
]  # fmt: skip
SortOrder: TypeAlias = Literal["asc", "desc"]
FilterLogic: TypeAlias = Literal["and", "or"]

DEFAULT_QUEUE: Final = "default"

Seconds: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]

T_co = TypeVar("T_co", covariant=True)
Record = TypeVar("Record", bound=BaseModel)


# The slots of every model. Set through these, a record is made three times as fast as with `object.__setattr__`.
_fill_fields, _fill_names, _fill_extra, _fill_private = (
    vars(BaseModel)[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


@cache
def _names_of(model: type[BaseModel]) -> set[str]:
    """The names of all fields. Records share them, for a set takes up to 2 kB; unless pydantic may add names to it."""
    return set(model.model_fields)


def constructed(model: type[Record], fields: dict[str, Any], extra: dict[str, Any] | None = None) -> Record:
    """A record of values that are known to be right, made many times faster than `model_construct` can.

    Args:
        model: A model without private attributes.
        fields: All fields of the model in its order; the dict becomes the record's own. Nothing is validated, and no
            default filled in.
        extra: Fields that the model does not know, if it keeps such; this dict becomes the record's own too.
    """
    record: Record = object.__new__(model)
    names = _names_of(model)
    _fill_fields(record, fields)
    _fill_names(record, names if extra is None else names | extra.keys())
    _fill_extra(record, extra)
    _fill_private(record, None)
    return record


def changed(record: Record, **updates: Any) -> Record:
    """A shallow copy of a record of ours with other values in some of its fields, which are not validated."""
    return constructed(type(record), {**record.__dict__, **updates})


class _Exact(BaseModel):
    """A record whose JSON keeps what its free-form values hold: NaN and infinities too, as Python's own JSON does."""

    model_config = ConfigDict(ser_json_inf_nan="constants")


class RolloutConfig(_Exact):
    """Limits and retries of one rollout.

    Attributes:
        timeout_seconds: Longest duration of one attempt; None = unlimited.
        unresponsive_seconds: Longest silence of one attempt; None = unlimited.
        max_attempts: Most attempts, the first included; attempts that were released do not count.
        retry_condition: Ends of an attempt after which another one is due while `max_attempts` allows.
        retry_delay_seconds: Time before a requeued rollout can be claimed again (extension).
        max_worker_losses: So many attempts may lose their worker without counting as attempts; further losses count
            like any other end. None = losses always count (extension).
    """

    timeout_seconds: Seconds | None = None
    unresponsive_seconds: Seconds | None = None
    max_attempts: int = Field(default=1, ge=1)
    retry_condition: list[AttemptStatus] = Field(default_factory=list)
    retry_delay_seconds: Seconds = Field(default=0.0, ge=0)
    max_worker_losses: int | None = Field(default=None, ge=0)


_DEFAULT_CONFIG: Final = vars(RolloutConfig())


def default_config() -> RolloutConfig:
    """A config with all defaults, which need no validation."""
    return constructed(RolloutConfig, {**_DEFAULT_CONFIG, "retry_condition": []})


class Attempt(_Exact):
    """One execution of a rollout.

    Attributes:
        sequence_id: 1, 2, 3 ... within the rollout.
        end_time: Set by `succeeded`, `failed` and `timeout`; an `unresponsive` attempt can be revived and has none.
        last_heartbeat_time: The last span, renewal, or whatever an update wrote; None before the first.
        cause: Why the attempt ended; None while it lives (extension).
        lease_seconds: Longest silence before its worker counts as lost; None = no lease (extension).
        resources_id: Resources snapshot that the runner used, as it reported (extension).
        resources_version: Version of that snapshot, as the runner reported (extension).
    """

    rollout_id: str
    attempt_id: str
    sequence_id: int
    start_time: float
    end_time: float | None = None
    status: AttemptStatus = "preparing"
    worker_id: str | None = None
    last_heartbeat_time: float | None = None
    metadata: dict[str, Any] | None = None
    cause: AttemptCause | None = None
    lease_seconds: float | None = None
    resources_id: str | None = None
    resources_version: int | None = None


class Rollout(_Exact):
    """One unit of work; its status summarises its latest attempt.

    Attributes:
        input: The task, kept verbatim; any JSON value.
        start_time: When the rollout was created, not when it was claimed.
        end_time: When it finished; None unless its status is `succeeded`, `failed` or `cancelled`.
        resources_id: Resources snapshot to use; not checked for existence.
        queue: The queue it waits in, also for its retries (extension).
        group_id: Names the rollouts of one task (extension).
    """

    rollout_id: str
    input: Any
    start_time: float
    end_time: float | None = None
    mode: RolloutMode | None = None
    resources_id: str | None = None
    status: RolloutStatus = "queuing"
    config: RolloutConfig = Field(default_factory=RolloutConfig)
    metadata: dict[str, Any] | None = None
    queue: str = DEFAULT_QUEUE
    group_id: str | None = None


class AttemptedRollout(Rollout):
    """A rollout together with one of its attempts, usually the latest."""

    attempt: Attempt

    @model_validator(mode="after")
    def _attempt_belongs_to_rollout(self) -> Self:
        if self.attempt.rollout_id != self.rollout_id:
            raise ValueError(
                f"attempt.rollout_id is {self.attempt.rollout_id!r}, expected the rollout's own id {self.rollout_id!r}"
            )
        return self


class EnqueueRolloutRequest(_Exact):
    """One rollout to enqueue.

    Attributes:
        rollout_id: The caller's id; enqueuing it again returns the stored rollout. None = made by the store
            (extension).
        group_id: Names the rollouts of one task (extension).
        queue: The queue to wait in (extension).
    """

    input: Any
    mode: RolloutMode | None = None
    resources_id: str | None = None
    config: RolloutConfig | None = None
    metadata: dict[str, Any] | None = None
    rollout_id: str | None = None
    group_id: str | None = None
    queue: str = DEFAULT_QUEUE

    @model_validator(mode="before")
    @classmethod
    def _input_is_given(cls, value: Any) -> Any:
        if isinstance(value, dict) and "input" not in value:
            raise ValueError("input is required; null is a value")
        return value


class Worker(_Exact):
    """What is known of a worker. Its status is derived from its attempts, never set directly.

    Attributes:
        last_dequeue_time: Last dequeue with this worker id, also an empty one.
        current_rollout_id: The rollout it works on; None when idle or unknown.
    """

    worker_id: str
    status: WorkerStatus = "unknown"
    heartbeat_stats: dict[str, Any] | None = None
    last_heartbeat_time: float | None = None
    last_dequeue_time: float | None = None
    last_busy_time: float | None = None
    last_idle_time: float | None = None
    current_rollout_id: str | None = None
    current_attempt_id: str | None = None


class LLM(_Exact):
    """A model endpoint that runners call."""

    resource_type: Literal["llm"] = "llm"
    endpoint: str
    model: str
    api_key: str | None = None
    sampling_parameters: dict[str, Any] = Field(default_factory=dict)


class ProxyLLM(_Exact):
    """A model endpoint behind a proxy that attributes calls to attempts."""

    resource_type: Literal["proxy_llm"] = "proxy_llm"
    endpoint: str
    model: str
    api_key: str | None = None
    sampling_parameters: dict[str, Any] = Field(default_factory=dict)


class PromptTemplate(BaseModel):
    """A prompt with places to fill in."""

    resource_type: Literal["prompt_template"] = "prompt_template"
    template: str
    engine: Literal["jinja", "f-string", "poml"]


ResourceUnion: TypeAlias = Annotated[LLM | ProxyLLM | PromptTemplate, Field(discriminator="resource_type")]
NamedResources: TypeAlias = dict[str, ResourceUnion]


class ResourcesUpdate(_Exact):
    """One snapshot of named resources.

    Attributes:
        create_time: When the id appeared; an update moves only `update_time`.
        version: 1, then one more with every update of this id.
    """

    resources_id: str
    create_time: float
    update_time: float
    version: int
    resources: NamedResources


class PaginatedResult(BaseModel, Sequence[T_co], Generic[T_co]):
    """One page of a query: a sequence over its items that also tells how many there are in all.

    Attributes:
        limit: As requested; -1 = all.
        offset: As requested.
        total: All matches before paging.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, ser_json_inf_nan="constants")

    items: Sequence[T_co]
    limit: int
    offset: int
    total: int

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | Sequence[T_co]:
        return self.items[index]

    def __iter__(self) -> Iterator[T_co]:  # type: ignore[override]  # the contract iterates items, not fields
        return iter(self.items)


class Completion(BaseModel):
    """One finish of a rollout, as the completion log keeps it.

    Attributes:
        cursor: The place of this entry in the log; pass it as `after` to go on behind it.
    """

    cursor: str
    rollout_id: str
    status: RolloutStatus
    mode: RolloutMode | None = None
    group_id: str | None = None
    start_time: float
    end_time: float


class Consumer(BaseModel):
    """A reader of the completion log whose place is kept: spans of what it has not passed are not evicted.

    Attributes:
        name: Its name.
        cursor: The last completion that it is done with, as it said.
        update_time: When its cursor went forward last.
    """

    name: str
    cursor: str
    update_time: float


class CompletionPage(BaseModel):
    """Completions in the order in which rollouts finished, and where to go on.

    Attributes:
        cursor: Pass it as `after` of the next call; also set when there are no items.
    """

    items: list[Completion]
    cursor: str


class Transition(BaseModel):
    """One attempt that the store itself ended.

    Attributes:
        attempt_status: `timeout` or `unresponsive`.
        rollout_status: The rollout's status afterwards.
        late_seconds: How long after its deadline the attempt was settled.
    """

    rollout_id: str
    attempt_id: str
    worker_id: str | None = None
    attempt_status: AttemptStatus
    rollout_status: RolloutStatus
    cause: AttemptCause
    late_seconds: float


class ExpiryReport(BaseModel):
    """What one call of `expire_attempts` did.

    Attributes:
        more: Further deadlines are due; call again.
        next_seconds: Time until the next deadline or delayed retry; None when there is none.
    """

    transitions: list[Transition]
    more: bool
    next_seconds: float | None = None


class QueueStats(BaseModel):
    """How full a queue is.

    Attributes:
        depth: Rollouts that can be claimed now.
        delayed: Retries that wait for their delay.
        oldest_seconds: How long its oldest claimable rollout has waited; None when there is none.
    """

    queue: str
    depth: int
    delayed: int
    oldest_seconds: float | None = None


class RolloutEvent(BaseModel):
    """One atomic step that changed the status of a rollout or of one of its attempts.

    Attributes:
        attempt_id: The attempt concerned, else the latest; None before the first.
        status: The rollout's status afterwards.
        attempt_status: That attempt's status afterwards; None without an attempt.
    """

    time: float
    rollout_id: str
    attempt_id: str | None = None
    status: RolloutStatus
    attempt_status: AttemptStatus | None = None
    cause: EventCause


class AuditExample(BaseModel):
    """One thing that an audit found.

    Attributes:
        id: The rollout, attempt (as `rollout:attempt`), worker, counter or key concerned.
        problem: What is wrong with it, as the rest of a sentence that begins with the id.
        repaired: It was mended.
    """

    id: str
    problem: str
    repaired: bool = False


class AuditFinding(BaseModel):
    """What an audit found that breaks one rule.

    Attributes:
        rule: `record`: a record is incomplete. `status_index`: a rollout is not in exactly its indexes. `queue`: a
            queued one cannot be claimed exactly once. `deadline`: one that works is not watched. `completion`: a finish
            is not in the completion log exactly once. `attempts`: a rollout and its attempts disagree. `spans`: spans
            and what counts them disagree. `worker`, `resources`: one is not listed, or holds what it cannot. `counter`:
            a counter or the number of wake-up tokens is wrong. `orphan`: a key belongs to nothing.
        count: How often.
        repaired: How many of these were mended.
        examples: Some of them, those first that were not mended.
    """

    rule: AuditRule
    count: int
    repaired: int = 0
    examples: list[AuditExample]


class AuditReport(BaseModel):
    """What an audit looked at and found.

    Attributes:
        findings: One per rule that is broken, in the order of the rules; empty when all is well.
        rollouts: How many rollouts were looked at.
        seconds: How long it took.
        unchecked: What could not be looked at, and why.
    """

    findings: list[AuditFinding]
    rollouts: int
    seconds: float
    unchecked: list[str] = Field(default_factory=list)

    @property
    def unrepaired(self) -> int:
        """How many of the things that were found are not mended."""
        return sum(finding.count - finding.repaired for finding in self.findings)
