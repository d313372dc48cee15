"""Attempts in Redis."""

from collections.abc import Sequence
from typing import Any

from lightning_store import query
from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import RedisCore
from lightning_store.contract import UNSET, Unset
from lightning_store.errors import AttemptNotFoundError, RolloutNotFoundError
from lightning_store.jsonvalue import compressed, copy_mapping
from lightning_store.records import Attempt, AttemptStatus, LeaseState, PaginatedResult, SortOrder
from lightning_store.requests import attempt_changes, check_free_id, check_pairs, is_free_id, is_name


class AttemptOperations(RedisCore):
    """The operations of the contract on attempts."""

    async def query_attempts(
        self,
        rollout_id: str,
        *,
        sort_by: str | None = "sequence_id",
        sort_order: SortOrder = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> PaginatedResult[Attempt]:
        """See the contract."""
        attempts = await self._read_attempts(rollout_id)
        return query.query_attempts(attempts, sort_by=sort_by, sort_order=sort_order, limit=limit, offset=offset)

    async def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        """See the contract."""
        attempts = await self._read_attempts(rollout_id)
        return attempts[-1] if attempts else None

    async def _read_attempts(self, rollout_id: str) -> list[Attempt]:
        if not is_name(rollout_id):
            return []
        replies = await self._run("read_attempts", now=self._now(), rollout_id=rollout_id)
        return [codec.attempt(rollout_id, reply) for reply in replies]

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
        """See the contract."""
        changes = attempt_changes(
            {
                "status": status,
                "worker_id": worker_id,
                "last_heartbeat_time": last_heartbeat_time,
                "metadata": metadata,
                "resources_id": resources_id,
                "resources_version": resources_version,
            }
        )
        body = compressed(self._payloads.metadata(changes["metadata"], "metadata")) if "metadata" in changes else ""
        check_known(rollout_id, attempt_id)
        reply = await self._run(
            "update_attempt",
            now=self._now(),
            token=self.ids.token(),
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            status=changes.get("status", ""),
            metadata=body,
            changes=codec.attempt_change_arguments(changes),
        )
        return codec.attempt(rollout_id, reply)

    async def release_attempt(self, rollout_id: str, attempt_id: str) -> Attempt:
        """See the contract."""
        check_known(rollout_id, attempt_id)
        return codec.attempt(rollout_id, await self._release(rollout_id, attempt_id))

    async def _release(self, rollout_id: str, attempt_id: str) -> Any:
        return await self._run(
            "release_attempt",
            now=self._now(),
            token=self.ids.token(),
            rollout_id=rollout_id,
            attempt_id=attempt_id,
        )

    async def renew(
        self, worker_id: str, attempts: Sequence[tuple[str, str]], stats: dict[str, Any] | None = None
    ) -> list[LeaseState]:
        """See the contract."""
        check_free_id(worker_id, "worker_id")
        pairs = check_pairs(attempts, "attempts")
        body = b"" if stats is None else compressed(self._payloads.metadata(copy_mapping(stats, "stats"), "stats"))
        reply = await self._run(
            "renew",
            now=self._now(),
            worker_id=worker_id,
            stats=body,
            attempts=[part for pair in pairs for part in _storable(pair)],
        )
        return [codec.text(state) for state in reply]  # type: ignore[misc]  # the script answers LeaseState


def check_known(rollout_id: str, attempt_id: str) -> None:
    """Refuse ids that no record can have, as what they are: unknown."""
    if not is_name(rollout_id):
        raise RolloutNotFoundError(f"Rollout {rollout_id} not found")
    if not is_free_id(attempt_id):
        raise AttemptNotFoundError(f"Attempt {attempt_id} not found")


def _storable(pair: tuple[str, str]) -> tuple[str, str]:
    """A pair as it is, or one that is unknown for certain if it can name no attempt."""
    return pair if is_name(pair[0]) and is_free_id(pair[1]) else ("", "")
