"""The part of an audit that a Cluster needs: spans lie in slots of their own, which other scripts look at."""

from collections.abc import Iterable, Sequence
from typing import Any

from lightning_store.backends.redis import codec
from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.keys import Keys
from lightning_store.backends.redis.scripts import Argument, Call, Scripts
from lightning_store.findings import Findings


class SpanAudit:
    """Looks at spans and their keys."""

    def __init__(self, connections: Connections, keys: Keys, scripts: Scripts, *, repair: bool) -> None:
        """Begin.

        Args:
            connections: Of the Cluster.
            keys: Names of the keys.
            scripts: The scripts.
            repair: Whether to remove what belongs to nothing.
        """
        self._connections = connections
        self._keys = keys
        self._scripts = scripts
        self._repair = repair

    async def facts_of(self, rollout_ids: Sequence[str]) -> list[bytes]:
        """Per rollout what is seen of its spans, see lua/shared/span_facts.lua."""
        control = self._keys.control
        commands: list[tuple[Argument, ...]] = []
        for id in rollout_ids:
            commands.append(("HMGET", control("rollout", id), "number", "stored", "latest"))
            commands.append(("LRANGE", control("attempts", id), 0, -1))  # after `latest`, see codec.attempt_ids
        commands.append(("ZREVRANGE", control("steps"), 0, 0))  # at last: what has been noted before is read above
        *answers, steps = await self._connections.commands(commands)
        calls = [
            self._scripts["audit_spans"].call(
                spans=self._keys.spans(id),
                span_ids=self._keys.span_ids(id),
                deleted=self._keys.deleted(id),
                number=number or "",
                counted=counted or "0",
                step=steps[0] if steps else "",
                attempt_ids=codec.attempt_ids(listed, latest),
            )
            for id, (number, counted, latest), listed in zip(rollout_ids, answers[::2], answers[1::2], strict=True)
        ]
        return [_sound(answer) for answer in await self._connections.run_many(calls)]

    async def look_at(self, names: Iterable[tuple[bytes, bytes, str]], findings: Findings) -> None:
        """Look at keys of spans: each has its type, and its rollout is there.

        Args:
            names: Keys, the rollouts that they name, and the types that they should have; "" for a kind unknown.
            findings: Takes what is found.
        """
        keys = list(names)
        seen = await self._states([(name, b"") for name, *_ in keys])
        suspects: list[tuple[bytes, bytes, bytes]] = []
        for (name, rollout_id, expected), (type_, state, _) in zip(keys, seen, strict=True):
            found = codec.text(type_)
            if found not in {"none", expected}:
                what = f"not a {expected}" if expected else "of no kind of ours"
                findings.add("orphan", _shown(name), f"is a {found}, {what}", repaired=False)
            elif found in {"stream", "set", "hash"}:
                suspects.append((name, rollout_id, state))
        await self._drop_orphans(suspects, findings)

    async def _drop_orphans(self, suspects: Sequence[tuple[bytes, bytes, bytes]], findings: Findings) -> None:
        """Find those whose rollout is not there; mend by removing them, if they are still as they were before."""
        if not suspects:
            return
        call = self._scripts["read_remains"].call(
            meta=self._keys.meta, rollout_ids=[rollout_id for _, rollout_id, _ in suspects]
        )
        remain = await self._connections.run(call)
        orphans = [(name, state) for (name, _, state), there in zip(suspects, remain, strict=True) if not there]
        # Without repair they are looked at once more too: a deletion removes the spans first, so they may be gone.
        dropped = await self._states([(name, state if self._repair else b"") for name, state in orphans])
        for (name, _), (type_, _, removed) in zip(orphans, dropped, strict=True):
            if type_ != b"none":
                findings.add("orphan", _shown(name), "belongs to nothing", repaired=bool(removed))

    async def _states(self, items: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes, int]]:
        calls: list[Call] = [self._scripts["audit_span_key"].call(name=name, repair=seen) for name, seen in items]
        return [tuple(_sound(answer)) for answer in await self._connections.run_many(calls)]


def _sound(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "replace")
