"""Arguments of the client's calls, checked by the rules of every store before anything is sent."""

from collections.abc import Callable
from typing import Any, Final

from lightning_store.clock import RandomIds
from lightning_store.contract import DEFAULT_QUEUES
from lightning_store.jsonvalue import copy_mapping
from lightning_store.records import EnqueueRolloutRequest
from lightning_store.requests import (
    attempt_changes,
    check_cancel,
    check_free_id,
    check_ids,
    check_lease,
    check_limit,
    check_name,
    check_pairs,
    check_prune,
    check_resources,
    check_seconds,
    check_spans,
    check_timeout,
    check_worker_id,
    claim_request,
    new_rollout,
    parse_cursor,
    rollout_changes,
    worker_stats,
)

Arguments = dict[str, Any]
Check = Callable[[Arguments], Arguments]

_IDS: Final = RandomIds()
_REQUEST_FIELDS: Final = tuple(EnqueueRolloutRequest.model_fields)


def checked(operation: str, arguments: Arguments) -> Arguments:
    """The arguments of an operation as they are sent.

    Raises:
        InvalidRequestError: One cannot be accepted, as the store behind the server would say.
    """
    check = _CHECKS.get(operation)
    return arguments if check is None else check(arguments)


def _enqueue(given: Arguments) -> Arguments:
    for request in given["rollouts"]:
        new_rollout(request, _IDS)
    if "timeout" in given:
        check_timeout(given["timeout"])
    return given


def _start(given: Arguments) -> Arguments:
    new_rollout(EnqueueRolloutRequest(**{name: given[name] for name in _REQUEST_FIELDS if name in given}), _IDS)
    check_worker_id(given.get("worker_id"))
    check_lease(given.get("lease_seconds"))
    return given


def _claim(given: Arguments) -> Arguments:
    claim_request(
        given.get("limit", 1),
        given.get("worker_id"),
        given.get("queues", DEFAULT_QUEUES),
        given.get("timeout", 0),
        given.get("lease_seconds"),
    )
    return given


def _start_attempt(given: Arguments) -> Arguments:
    check_worker_id(given.get("worker_id"))
    check_lease(given.get("lease_seconds"))
    return given


def _update_rollout(given: Arguments) -> Arguments:
    changes = {name: value for name, value in given.items() if name != "rollout_id"}
    return {"rollout_id": given["rollout_id"], **rollout_changes(changes)}


def _update_attempt(given: Arguments) -> Arguments:
    ids = {name: given[name] for name in ("rollout_id", "attempt_id")}
    return {**ids, **attempt_changes({name: value for name, value in given.items() if name not in ids})}


def _cancel(given: Arguments) -> Arguments:
    ids, group, statuses = given.get("rollout_ids"), given.get("group_id"), given.get("status_in")
    check_cancel(ids, group, statuses)
    return {**given, **({} if ids is None else {"rollout_ids": check_ids(ids, "rollout_ids")})}


def _ids(given: Arguments) -> Arguments:
    return {**given, "rollout_ids": check_ids(given["rollout_ids"], "rollout_ids")}


def _prune(given: Arguments) -> Arguments:
    names = ("older_than_seconds", "keep_latest", "status_in", "consumed_cursor")
    check_prune(*(given.get(name) for name in names))
    return given


def _wait(given: Arguments) -> Arguments:
    if given.get("timeout") is not None:
        check_timeout(given["timeout"])
    return _ids(given)


def _completions(given: Arguments) -> Arguments:
    check_limit(given.get("limit", 1), "limit", 1)
    check_timeout(given.get("timeout", 0))
    return given


def _acknowledge(given: Arguments) -> Arguments:
    check_name(given["consumer"], "consumer")
    if given.get("cursor") not in {None, "latest"}:
        parse_cursor(given["cursor"], "cursor")
    return given


def _renew(given: Arguments) -> Arguments:
    check_free_id(given["worker_id"], "worker_id")
    if given.get("stats") is not None:
        copy_mapping(given["stats"], "stats")
    return {**given, "attempts": check_pairs(given["attempts"], "attempts")}


def _spans(given: Arguments) -> Arguments:
    check_spans(given["spans"])
    return given


def _numbers(given: Arguments) -> Arguments:
    return {"rollout_attempt_ids": check_pairs(given["rollout_attempt_ids"], "rollout_attempt_ids")}


def _resources(given: Arguments) -> Arguments:
    if "resources_id" in given:
        check_free_id(given["resources_id"], "resources_id")
    return {**given, "resources": check_resources(given["resources"])}


def _worker(given: Arguments) -> Arguments:
    check_free_id(given["worker_id"], "worker_id")
    if "heartbeat_stats" in given:
        return {**given, "heartbeat_stats": worker_stats(given["heartbeat_stats"])}
    return given


def _expire_workers(given: Arguments) -> Arguments:
    check_seconds(given["silent_seconds"], "silent_seconds")
    return given


def _expire_attempts(given: Arguments) -> Arguments:
    check_limit(given.get("limit", 1), "limit", 1)
    return given


_CHECKS: Final[dict[str, Check]] = {
    "start_rollout": _start,
    "enqueue_many_rollouts": _enqueue,
    "dequeue_many_rollouts": _claim,
    "start_attempt": _start_attempt,
    "update_rollout": _update_rollout,
    "update_attempt": _update_attempt,
    "cancel_rollouts": _cancel,
    "delete_rollouts": _ids,
    "prune": _prune,
    "wait_for_rollouts": _wait,
    "completions": _completions,
    "acknowledge_completions": _acknowledge,
    "renew": _renew,
    "add_many_spans": _spans,
    "get_many_span_sequence_ids": _numbers,
    "query_many_spans": _ids,
    "rewards": _ids,
    "add_resources": _resources,
    "update_resources": _resources,
    "update_worker": _worker,
    "expire_attempts": _expire_attempts,
    "expire_workers": _expire_workers,
}
"""What the rules have to say; calls that are not here have arguments that only their store can judge."""
