"""Resources, workers and upkeep in Redis."""

from collections.abc import Sequence
from typing import Any

from lightning_store import query
from lightning_store.backends.redis import codec
from lightning_store.backends.redis.core import chunks
from lightning_store.backends.redis.queries import QueryOperations
from lightning_store.contract import UNSET, Unset
from lightning_store.jsonvalue import compressed
from lightning_store.records import (
    ExpiryReport,
    FilterLogic,
    NamedResources,
    PaginatedResult,
    ResourcesUpdate,
    SortOrder,
    Worker,
    WorkerStatus,
)
from lightning_store.requests import (
    check_free_id,
    check_limit,
    check_resources,
    check_seconds,
    is_free_id,
    worker_stats,
)

_SNAPSHOT = ("create", "update", "version", "body")


class FleetOperations(QueryOperations):
    """The operations of the contract on resources and workers, and upkeep."""

    # -- resources ---------------------------------------------------------------------------------------------------

    async def add_resources(self, resources: NamedResources) -> ResourcesUpdate:
        """See the contract."""
        return await self._set_resources(self.ids.resources_id(), resources, token="")

    async def update_resources(self, resources_id: str, resources: NamedResources) -> ResourcesUpdate:
        """See the contract."""
        check_free_id(resources_id, "resources_id")
        return await self._set_resources(resources_id, resources, token=self.ids.token())

    async def _set_resources(self, resources_id: str, resources: NamedResources, *, token: str) -> ResourcesUpdate:
        plain = {name: value.model_dump() for name, value in check_resources(resources).items()}
        body = compressed(self._payloads.resources(plain))
        reply = await self._run("set_resources", now=self._now(), token=token, resources_id=resources_id, body=body)
        return codec.resources(resources_id, reply)

    async def get_resources_by_id(self, resources_id: str) -> ResourcesUpdate | None:
        """See the contract."""
        found = await self._read_resources([resources_id] if is_free_id(resources_id) else [])
        return found[0] if found else None

    async def get_latest_resources(self) -> ResourcesUpdate | None:
        """See the contract."""
        latest = await self._connections.command("HGET", self._keys.meta, "resources")
        return await self.get_resources_by_id(codec.text(latest)) if latest else None

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
        """See the contract."""
        known = await self._connections.command("ZRANGE", self._keys.control("resources"), 0, -1)
        wanted = [id for id in map(codec.text, known) if resources_id is None or id == resources_id]
        return query.query_resources(
            await self._read_resources(wanted),
            resources_id=resources_id,
            resources_id_contains=resources_id_contains,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )

    async def _read_resources(self, ids: Sequence[str]) -> list[ResourcesUpdate]:
        found: list[ResourcesUpdate] = []
        for chunk in chunks(ids):
            replies = await self._connections.commands(
                [("HMGET", self._keys.control("resources", id), *_SNAPSHOT) for id in chunk]
            )
            found += [codec.resources(id, reply) for id, reply in zip(chunk, replies, strict=True) if reply[0]]
        return found

    # -- workers -----------------------------------------------------------------------------------------------------

    async def update_worker(self, worker_id: str, heartbeat_stats: dict[str, Any] | Unset = UNSET) -> Worker:
        """See the contract."""
        stats = worker_stats(heartbeat_stats)
        unset = isinstance(stats, Unset)
        body = "" if unset else compressed(self._payloads.metadata(stats, "heartbeat_stats"))
        reply = await self._run(
            "update_worker",
            now=self._now(),
            worker_id=check_free_id(worker_id, "worker_id"),
            stats=body,
        )
        return codec.worker(reply)

    async def get_worker_by_id(self, worker_id: str) -> Worker | None:
        """See the contract."""
        found = await self._read_workers([worker_id] if is_free_id(worker_id) else [])
        return found[0] if found else None

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
        """See the contract."""
        await self._settle_all()
        return query.query_workers(
            await self._read_workers(await self._worker_ids()),
            status_in=status_in,
            worker_id_contains=worker_id_contains,
            filter_logic=filter_logic,
            sort_by=sort_by,
            sort_order=sort_order,
            limit=limit,
            offset=offset,
        )

    async def _worker_ids(self) -> list[str]:
        return [
            codec.text(id) for id in await self._connections.command("ZRANGE", self._keys.control("workers"), 0, -1)
        ]

    async def _read_workers(self, ids: Sequence[str]) -> list[Worker]:
        found: list[Worker] = []
        for chunk in chunks(ids):
            replies = await self._run("read_workers", worker_ids=chunk)
            found += [codec.worker(reply) for reply in replies if reply]
        return found

    # -- upkeep ------------------------------------------------------------------------------------------------------

    async def expire_attempts(self, *, limit: int = 500) -> ExpiryReport:
        """See the contract."""
        more, next_seconds, transitions = await self._run(
            "expire_attempts", now=self._now(), limit=check_limit(limit, "limit", 1)
        )
        return ExpiryReport(
            transitions=[codec.transition(reply) for reply in transitions],
            more=bool(more),
            next_seconds=float(next_seconds) if next_seconds else None,
        )

    async def expire_workers(self, *, silent_seconds: float) -> list[str]:
        """See the contract."""
        silent = repr(check_seconds(silent_seconds, "silent_seconds"))
        marked: list[str] = []
        for chunk in chunks(await self._worker_ids()):
            reply = await self._run("expire_workers", now=self._now(), silent=silent, worker_ids=chunk)
            marked += map(codec.text, reply)
        return marked
