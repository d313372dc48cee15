"""A rollout as the memory store holds it."""

from dataclasses import dataclass, field

from lightning_store.backends.memory.spans import SpanShelf
from lightning_store.lifecycle import AttemptState, RolloutState
from lightning_store.records import Rollout


@dataclass
class StoredRollout:
    """A rollout with all that belongs to it.

    Attributes:
        number: Its creation number.
        digest: Tells whether a caller's own id is used again for the same task; None when the store made the id.
        attempts: By id, in order of their sequence ids.
        latest_id: The attempt with the highest sequence id.
        queued_time: When it began to wait, or will have, for a delayed retry.
        completions: Numbers of its entries in the completion log.
    """

    number: int
    digest: str | None
    state: RolloutState
    queued_time: float
    attempts: dict[str, AttemptState] = field(default_factory=dict)
    latest_id: str | None = None
    completions: list[int] = field(default_factory=list)
    shelf: SpanShelf = field(default_factory=SpanShelf)

    @property
    def id(self) -> str:
        """Its id."""
        return self.state.record.rollout_id

    @property
    def record(self) -> Rollout:
        """The rollout itself; to be copied before it is given away."""
        return self.state.record

    @property
    def latest(self) -> AttemptState | None:
        """The attempt with the highest sequence id."""
        return None if self.latest_id is None else self.attempts[self.latest_id]
