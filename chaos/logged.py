"""A store that notes every call in a journal: which ids were asked for and which answered, or that nobody knows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from chaos.history import Journal, Outcome
from lightning_store.contract import Capabilities, LightningStore
from lightning_store.errors import LightningStoreError, StoreFullError, StoreUnavailableError
from lightning_store.forwarding import ForwardingStore
from lightning_store.operations import Operation
from lightning_store.spans import Span


class LoggedStore(ForwardingStore):
    """Passes every call on, and notes it before and after."""

    def __init__(self, store: LightningStore, journal: Journal) -> None:
        self.store = store
        self._journal = journal

    @property
    def capabilities(self) -> Capabilities:
        """Those of the store."""
        return self.store.capabilities

    async def invoke(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """Note, pass on, note."""
        number = self._journal.invoked(operation.name, _noted(ASKED, operation, arguments))
        try:
            answer = await getattr(self.store, operation.name)(**arguments)
        except BaseException as error:
            self._journal.ended(number, outcome_of(error), error=type(error).__name__)
            raise
        self._journal.ended(number, "ok", _noted(ANSWERED, operation, answer))
        return answer


def outcome_of(error: BaseException) -> Outcome:
    """What an error tells of the effect: a store that is full has written nothing, one out of reach may have.

    A call that was cancelled may have taken effect, and so may one that ended with an error that is none of ours.
    """
    if isinstance(error, StoreFullError):
        return "failed"
    if isinstance(error, LightningStoreError) and not isinstance(error, StoreUnavailableError):
        return "failed"
    return "unknown"


def _noted(notes: Mapping[str, Callable[[Any], Any]], operation: Operation, what: Any) -> Any:
    note = notes.get(operation.name)
    return {} if note is None else note(what)


def _tasks(given: dict[str, Any]) -> dict[str, Any]:
    return {"tasks": [[each.input["task"], each.rollout_id] for each in given["rollouts"]]}


def _spans(spans: Sequence[Span]) -> list[list[str]]:
    return [[each.rollout_id, each.attempt_id, each.span_id] for each in spans]


def _attempt(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"rollout": arguments["rollout_id"], "attempt": arguments["attempt_id"], "status": arguments.get("status")}


ASKED: Final[Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "enqueue_many_rollouts": _tasks,
    "dequeue_rollout": lambda given: {"worker": given.get("worker_id")},
    "update_attempt": _attempt,
    "release_attempt": _attempt,
    "renew": lambda given: {"worker": given["worker_id"], "attempts": [list(pair) for pair in given["attempts"]]},
    "add_many_spans": lambda given: {"spans": _spans(given["spans"])},
    "update_resources": lambda given: {"resources": given["resources_id"]},
    "cancel_rollouts": lambda given: {"rollouts": list(given["rollout_ids"])},
    "completions": lambda given: {"after": given.get("after")},
}  # fmt: skip
"""By operation: what its call asks for. Others are noted by name alone."""

ANSWERED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "enqueue_many_rollouts": lambda rollouts: [each.rollout_id for each in rollouts],
    "dequeue_rollout": lambda rollout: rollout and {
        "rollout": rollout.rollout_id, "task": rollout.input["task"], "attempt": rollout.attempt.attempt_id,
        "sequence": rollout.attempt.sequence_id, "server_time": rollout.attempt.start_time,
    },
    "update_attempt": lambda attempt: {"status": attempt.status, "server_time": attempt.end_time},
    "release_attempt": lambda attempt: {"status": attempt.status, "server_time": attempt.end_time},
    "renew": list,
    "add_many_spans": _spans,
    "add_resources": lambda update: {"resources": update.resources_id, "version": update.version},
    "update_resources": lambda update: {"version": update.version},
    "cancel_rollouts": list,
    "completions": lambda page: [[each.cursor, each.rollout_id, each.status] for each in page.items],
    "wait_for_rollouts": lambda rollouts: [[each.rollout_id, each.status] for each in rollouts],
}  # fmt: skip
"""By operation: what its answer says."""
