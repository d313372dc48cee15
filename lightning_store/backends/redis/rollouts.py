"""Rollouts in Redis: creating, changing and cancelling them."""

from collections.abc import Sequence
from typing import Any

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.claims import ClaimOperations
from lightning_store.backends.redis.core import chunks, names_only
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
        worker, lease = check_worker_id(worker_id) or "", codec.seconds(check_lease(lease_seconds))
        await self._make_sure_of_room()
        reply = await self._run(
            "start_rollout",
            now=self._now(),
            attempt_id=self.ids.attempt_id(),
            worker_id=worker,
            lease=lease,
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
        await self._make_sure_of_room()
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
