"""Resources, statistics and the audit of the SQLite store, and the store itself."""

# ruff: noqa: S608 - statements are made of constants of ours; values are arguments

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from lightning_store.backends.sqlite import codec
from lightning_store.backends.sqlite.audit import audit
from lightning_store.backends.sqlite.codec import RESOURCES_COLUMNS
from lightning_store.backends.sqlite.filters import Conditions, Page
from lightning_store.backends.sqlite.spans import SpanOperations
from lightning_store.backends.sqlite.state import State
from lightning_store.clock import IdSource
from lightning_store.findings import Findings
from lightning_store.jsonvalue import compressed
from lightning_store.query import page_of
from lightning_store.records import AuditReport, NamedResources, PaginatedResult, ResourcesUpdate, SortOrder
from lightning_store.requests import check_free_id, check_resources
from lightning_store.status import ROLLOUT_STATUSES

_SORT_KEYS: Final = {
    "resources_id": "resources_id",
    "create_time": "create_time",
    "update_time": "update_time",
    "version": "version",
}
_SELECT: Final = f"SELECT {', '.join(RESOURCES_COLUMNS)} FROM resources "


class SQLiteLightningStore(SpanOperations):
    """The store in one SQLite file, shared by the processes of one host.

    Every operation is one transaction, carried out by a thread of this object, never on the event loop.
    """

    async def statistics(self) -> dict[str, Any]:
        """See the contract; `span_bytes` is what counts against the thresholds."""

        def look(state: State) -> dict[str, Any]:
            counts = dict(state.connection.execute("SELECT status, count FROM status_counts").fetchall())
            [(attempts, spans, span_bytes, resources, workers)] = state.connection.execute(
                "SELECT attempts, spans, span_bytes, (SELECT count(*) FROM resources), (SELECT count(*) FROM workers) "
                "FROM meta"
            ).fetchall()
            return {
                "name": type(self).__name__,
                "total_rollouts": sum(counts.values()),
                "total_attempts": attempts,
                "total_spans": spans,
                "total_resources": resources,
                "total_workers": workers,
                "uptime": self._uptime(),
                "rollouts_by_status": {status: counts.get(status, 0) for status in ROLLOUT_STATUSES},
                "span_bytes": span_bytes,
            }

        return await self._read(look)

    async def file_sizes(self) -> Mapping[str, int]:
        """Bytes of the `database`, free room in it included, and of the `log` of what is not yet in it."""

        def look(_: State) -> dict[str, int]:
            return {"database": self.path.stat().st_size, "log": Path(f"{self.path}-wal").stat().st_size}

        return await self._read(look)

    async def audit(self, *, repair: bool = False) -> AuditReport:
        """See the contract. Without repair it reads one snapshot of the file; with it, others wait until it is done."""
        began = time.monotonic()

        def look(state: State) -> tuple[Findings, int]:
            findings = audit(state, repair=repair)
            [rollouts] = state.values("SELECT count(*) FROM rollouts")
            return findings, rollouts

        def mend(state: State) -> tuple[Findings, int]:
            state.note()
            return look(state)

        findings, rollouts = await (self._write(mend) if repair else self._settled(look, []))
        return findings.report(rollouts=rollouts, seconds=time.monotonic() - began)

    # -- resources ---------------------------------------------------------------------------------------------------

    async def add_resources(self, resources: NamedResources) -> ResourcesUpdate:
        """See the contract."""
        copied, data = self._checked(resources)
        ids = self.ids

        def add(state: State) -> ResourcesUpdate:
            state.note()
            return _publish(state, _fresh_resources_id(state, ids), copied, data)

        return await self._write(add)

    async def update_resources(self, resources_id: str, resources: NamedResources) -> ResourcesUpdate:
        """See the contract."""
        check_free_id(resources_id, "resources_id")
        copied, data = self._checked(resources)

        def update(state: State) -> ResourcesUpdate:
            state.begin()
            return _publish(state, resources_id, copied, data)

        return await self._write(update)

    def _checked(self, resources: NamedResources) -> tuple[NamedResources, bytes]:
        copied = check_resources(resources)
        data = self._payloads.resources({name: value.model_dump() for name, value in copied.items()})
        return copied, compressed(data)

    async def get_resources_by_id(self, resources_id: str) -> ResourcesUpdate | None:
        """See the contract."""
        return await self._read(lambda state: _resources(state, resources_id))

    async def get_latest_resources(self) -> ResourcesUpdate | None:
        """See the contract."""
        return await self._read(lambda state: _resources(state, state.latest_resources_id))

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
        conditions = Conditions()
        conditions.equals("resources_id", resources_id)
        conditions.contains("resources_id", resources_id_contains)
        page = Page(ResourcesUpdate, sort_by, sort_order, limit, offset)
        where, arguments = conditions.where()

        def look(state: State) -> PaginatedResult[ResourcesUpdate]:
            [total] = state.values(f"SELECT count(*) FROM resources {where}", arguments)
            rows = state.connection.execute(
                f"{_SELECT}{where}{page.order(_SORT_KEYS, 'number')}LIMIT ? OFFSET ?", (*arguments, *page.bounds())
            )
            return page_of([codec.resources_from(row) for row in rows], limit=limit, offset=offset, total=total)

        return await self._read(look)


def _resources(state: State, resources_id: str | None) -> ResourcesUpdate | None:
    if not codec.is_encodable(resources_id):
        return None
    row = state.connection.execute(f"{_SELECT}WHERE resources_id = ?", (resources_id,)).fetchone()
    return None if row is None else codec.resources_from(row)


def _fresh_resources_id(state: State, ids: IdSource) -> str:
    while state.values("SELECT 1 FROM resources WHERE resources_id = ?", (resources_id := ids.resources_id(),)):
        pass
    return resources_id


def _publish(state: State, resources_id: str, resources: NamedResources, data: bytes) -> ResourcesUpdate:
    state.connection.execute(
        "INSERT INTO resources (resources_id, create_time, update_time, version, data) VALUES (?, ?2, ?2, 1, ?3) "
        "ON CONFLICT (resources_id) DO UPDATE SET update_time = ?2, version = version + 1, data = ?3",
        (resources_id, state.now, data),
    )
    state.latest_resources_id = resources_id
    row = state.connection.execute(
        "SELECT create_time, update_time, version FROM resources WHERE resources_id = ?", (resources_id,)
    ).fetchone()
    create_time, update_time, version = row
    return ResourcesUpdate.model_construct(
        resources_id=resources_id,
        create_time=create_time,
        update_time=update_time,
        version=version,
        resources=resources,
    )
