"""The one table of the contract's operations, from which routes, clients and wrappers are derived."""

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

from lightning_store.contract import LightningStore, Unset

Role: TypeAlias = Literal["read", "runner", "admin"]
"""Who may call an operation over HTTP: `read` changes nothing, `runner` works on attempts too, `admin` may all."""


@dataclass(frozen=True)
class Operation:
    """One method of the contract.

    Attributes:
        name: Name of the method.
        method: HTTP method; None where the call is composed of others on the client's side.
        path: Below the API's prefix, with the arguments that it carries; None with `method`.
        mutates: Changes the store.
        idempotent: Sending it twice has the effect of sending it once, even without our operation tokens.
        waits: May block for long, so no lock may be held around it.
        claims: Its answer is work that was taken; if nobody is left to get it, it has to be handed back.
        role: The least that a caller over HTTP has to be.
    """

    name: str
    method: str | None
    path: str | None
    mutates: bool = False
    idempotent: bool = False
    waits: bool = False
    claims: bool = False
    role: Role = "admin"

    @cached_property
    def signature(self) -> inspect.Signature:
        """The contract's signature of the method, without `self`."""
        signature = inspect.signature(getattr(LightningStore, self.name))
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    @cached_property
    def _positional(self) -> tuple[str, ...]:
        either = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return tuple(name for name, parameter in self.signature.parameters.items() if parameter.kind is either)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.signature.parameters)

    @cached_property
    def _required(self) -> frozenset[str]:
        empty = inspect.Parameter.empty
        return frozenset(name for name, parameter in self.signature.parameters.items() if parameter.default is empty)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments that the caller gave, by name; what was left out, or is `UNSET`, is absent.

        Raises:
            TypeError: They do not fit the signature.
        """
        given = {**dict(zip(self._positional, args, strict=False)), **kwargs}
        is_whole = len(given) == len(args) + len(kwargs) and self._required <= given.keys() <= self._known
        if not is_whole:
            given = self.signature.bind(*args, **kwargs).arguments  # slow, and its message is Python's own
        return {name: value for name, value in given.items() if not isinstance(value, Unset)}


def _read(name: str, method: str, path: str, *, waits: bool = False) -> Operation:
    return Operation(name, method, path, idempotent=True, waits=waits, role="read")


def _write(name: str, method: str, path: str, *, idempotent: bool = False, waits: bool = False) -> Operation:
    return Operation(name, method, path, mutates=True, idempotent=idempotent, waits=waits)


def _work(
    name: str, method: str, path: str, *, idempotent: bool = False, waits: bool = False, claims: bool = False
) -> Operation:
    """What runners and agents do."""
    return Operation(name, method, path, True, idempotent, waits, claims, "runner")


_ROLLOUT = "/rollouts/{rollout_id}"
_ATTEMPT = "/rollouts/{rollout_id}/attempts/{attempt_id}"

_ROWS = (
    _read("statistics", "GET", "/statistics"),
    _write("start_rollout", "POST", "/rollouts"),
    Operation("enqueue_rollout", None, None, mutates=True, waits=True),
    _write("enqueue_many_rollouts", "POST", "/queues/rollouts/enqueue", waits=True),
    Operation("dequeue_rollout", None, None, mutates=True, waits=True, claims=True, role="runner"),
    _work("dequeue_many_rollouts", "POST", "/queues/rollouts/dequeue", waits=True, claims=True),
    _work("start_attempt", "POST", _ROLLOUT + "/attempts"),
    _read("get_rollout_by_id", "GET", _ROLLOUT),
    _read("query_rollouts", "POST", "/rollouts/search"),
    _write("update_rollout", "POST", _ROLLOUT),
    _write("cancel_rollouts", "POST", "/rollouts/cancel", idempotent=True),
    _write("delete_rollouts", "POST", "/rollouts/delete", idempotent=True),
    _write("prune", "POST", "/rollouts/prune", idempotent=True),
    _read("query_queues", "GET", "/queues"),
    _read("query_events", "GET", "/events"),
    _read("wait_for_rollouts", "POST", "/waits/rollouts", waits=True),
    _read("completions", "POST", "/completions", waits=True),
    _write("acknowledge_completions", "POST", "/consumers/{consumer}", idempotent=True),
    _read("query_consumers", "GET", "/consumers"),
    _write("forget_consumer", "POST", "/consumers/{consumer}/forget"),
    _read("query_attempts", "POST", _ROLLOUT + "/attempts/search"),
    _read("get_latest_attempt", "GET", _ROLLOUT + "/attempts/latest"),
    _work("update_attempt", "POST", _ATTEMPT),
    _work("release_attempt", "POST", _ATTEMPT + "/release"),
    _work("renew", "POST", "/workers/{worker_id}/renew", idempotent=True),
    _work("add_span", "POST", "/spans", idempotent=True),
    _work("add_many_spans", "POST", "/spans/many", idempotent=True),
    Operation("add_otel_span", None, None, mutates=True, role="runner"),
    _work("get_next_span_sequence_id", "POST", "/spans/next"),
    _work("get_many_span_sequence_ids", "POST", "/spans/next/many"),
    _read("query_spans", "POST", "/spans/search"),
    _read("query_many_spans", "POST", "/spans/search/many"),
    _read("rewards", "POST", "/rewards"),
    _write("add_resources", "POST", "/resources"),
    _write("update_resources", "POST", "/resources/{resources_id}"),
    _read("get_resources_by_id", "GET", "/resources/{resources_id}"),
    _read("get_latest_resources", "GET", "/resources/latest"),
    _read("query_resources", "GET", "/resources"),
    _work("update_worker", "POST", "/workers/{worker_id}", idempotent=True),
    _read("get_worker_by_id", "GET", "/workers/{worker_id}"),
    _read("query_workers", "POST", "/workers/search"),
    _write("expire_attempts", "POST", "/upkeep/attempts", idempotent=True),
    _write("expire_workers", "POST", "/upkeep/workers", idempotent=True),
    _write("evict_spans", "POST", "/upkeep/spans", idempotent=True),
    _write("audit", "POST", "/upkeep/audit", idempotent=True),
)

OPERATIONS: Final[dict[str, Operation]] = {row.name: row for row in _ROWS}
"""All operations by name, in the order of the contract."""
