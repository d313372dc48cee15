"""Rollouts in Redis: creating, changing, cancelling and removing them."""

from collections.abc import Sequence
from typing import Any

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.claims import ClaimOperations
from lightning_store.backends.redis.core import CHUNK, chunks, names_only
from lightning_store.backends.redis.enqueue import EnqueueOperations
from lightning_store.backends.redis.queries import QueryOperations
from lightning_store.contract import UNSET, Unset
from lightning_store.errors import RolloutNotFoundError
from lightning_store.jsonvalue import compressed
from lightning_store.records import (
    DEFAULT_QUEUE,
    AttemptedRollout,
    EnqueueRolloutRequest,
    Rollout,
    RolloutConfig,
    RolloutMode,
    RolloutStatus,
)
from lightning_store.requests import (
    check_cancel,
    check_ids,
    check_lease,
    check_prune,
    check_worker_id,
    is_name,
    new_rollout,
    rollout_changes,
)


class RolloutOperations(QueryOperations, ClaimOperations, EnqueueOperations):
    """The operations of the contract on rollouts that change something."""

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
        """See the contract."""
        request = EnqueueRolloutRequest(
            input=input,
            mode=mode,
            resources_id=resources_id,
            config=config,
            metadata=metadata,
            rollout_id=rollout_id,
            group_id=group_id,
            queue=queue,
        )
        new = new_rollout(request, self.ids)
        reply = await self._run(
            "start_rollout",
            now=self._now(),
            attempt_id=self.ids.attempt_id(),
            worker_id=check_worker_id(worker_id) or "",
            lease=codec.seconds(check_lease(lease_seconds)),
            rollout=codec.new_rollout_arguments(new, self._payloads),
        )
        return codec.attempted(reply)

    async def start_attempt(
        self, rollout_id: str, worker_id: str | None = None, *, lease_seconds: float | None = None
    ) -> AttemptedRollout:
        """See the contract."""
        worker, lease = check_worker_id(worker_id), check_lease(lease_seconds)
        if not is_name(rollout_id):
            raise RolloutNotFoundError(f"Rollout {rollout_id} not found")
        reply = await self._run(
            "start_attempt",
            now=self._now(),
            rollout_id=rollout_id,
            attempt_id=self.ids.attempt_id(),
            worker_id=worker or "",
            lease=codec.seconds(lease),
        )
        return codec.attempted(reply)

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
        """See the contract."""
        changes = rollout_changes(
            {
                "input": input,
                "mode": mode,
                "resources_id": resources_id,
                "status": status,
                "config": config,
                "metadata": metadata,
            }
        )
        if not is_name(rollout_id):
            raise RolloutNotFoundError(f"Item {rollout_id} does not exist")
        fields = codec.config_fields(changes["config"]) if "config" in changes else {}
        for name, field in (("mode", "mode"), ("resources_id", "resources")):
            if name in changes:
                fields[field] = changes[name] or ""
        task = compressed(self._payloads.task(changes["input"], "input")) if "input" in changes else ""
        body = compressed(self._payloads.metadata(changes["metadata"], "metadata")) if "metadata" in changes else ""
        reply = await self._run(
            "update_rollout",
            now=self._now(),
            token=self.ids.token(),
            rollout_id=rollout_id,
            status=changes.get("status", ""),
            task=task,
            metadata=body,
            changes=[part for pair in fields.items() for part in pair],
        )
        return codec.rollout(reply, with_attempt=False)

    async def cancel_rollouts(
        self,
        rollout_ids: Sequence[str] | None = None,
        *,
        group_id: str | None = None,
        status_in: Sequence[RolloutStatus] | None = None,
    ) -> list[str]:
        """See the contract."""
        check_cancel(rollout_ids, group_id, status_in)
        statuses = None if status_in is None else check_ids(status_in, "status_in")
        if rollout_ids is None:
            candidates = await self._indexed_ids(statuses, group_id)
        else:
            candidates = names_only(list(dict.fromkeys(check_ids(rollout_ids, "rollout_ids"))))
        cancelled: list[str] = []
        for chunk in chunks(candidates):
            reply = await self._run(
                "cancel_rollouts",
                now=self._now(),
                token=self.ids.token(),
                group=group_id or "",
                statuses="*" if statuses is None else ",".join(statuses),
                rollout_ids=chunk,
            )
            cancelled += map(codec.text, reply)
        return cancelled

    async def delete_rollouts(self, rollout_ids: Sequence[str]) -> list[str]:
        """See the contract."""
        wanted = names_only(list(dict.fromkeys(check_ids(rollout_ids, "rollout_ids"))))
        deleted: list[str] = []
        for chunk in chunks(wanted):
            deleted += await self._delete([(rollout_id, "") for rollout_id in chunk])
        return deleted

    async def _delete(self, items: Sequence[tuple[str, str]]) -> list[str]:
        """Delete finished rollouts; with a completion, only those whose last one it is."""
        if not items:
            return []
        reply = await self._run(
            "delete_rollouts",
            spans=[self._keys.spans(rollout_id) for rollout_id, _ in items],
            now=self._now(),
            token=self.ids.token(),
            items=[part for id, last in items for part in (id, self._keys.span_ids(id), last)],
        )
        return [codec.text(rollout_id) for rollout_id in reply]

    async def prune(self, *, older_than_seconds: float | None = None, keep_latest: int | None = None) -> int:
        """See the contract."""
        check_prune(older_than_seconds, keep_latest)
        removed, after = 0, "-"
        while True:
            now, entries, finished = await self._oldest_completions(after)
            excess = 0 if keep_latest is None else max(0, finished - keep_latest)
            due = [
                (entry.rollout_id, entry.cursor)
                for position, entry in enumerate(entries)
                if position < excess or (older_than_seconds is not None and now - entry.end_time > older_than_seconds)
            ]
            if not due:
                return removed
            # Entries of rollouts that were reopened since are passed over; the next round counts anew.
            removed += len(await self._delete(due))
            after = "(" + due[-1][1]

    async def _oldest_completions(self, after: str) -> tuple[float, list[Any], int]:
        """The server's time, a chunk of the oldest completions behind a cursor, and how many rollouts are finished."""
        control = self._keys.control
        statuses = [control("status", status) for status in ("succeeded", "failed", "cancelled")]
        entries, *counts, time = await self._connections.commands(
            [
                ("XRANGE", control("completed"), after, "+", "COUNT", CHUNK),
                *(("ZCARD", name) for name in statuses),
                ("TIME",),
            ]
        )
        now = self._clock.now() if self._clock else int(time[0]) + int(time[1]) / 1e6
        return now, [codec.completion(entry) for entry in entries], sum(counts)
