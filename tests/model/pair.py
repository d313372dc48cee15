"""Two stores that are told the same, and whose answers must be the same."""

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from lightning_store.contract import LightningStore
from lightning_store.records import Attempt
from lightning_store.spans import Span

IGNORED = frozenset({"cursor", "seconds", "uptime", "name", "span_bytes"})
"""What stores may choose as they like: the form of cursors, their speed, name and age, further statistics."""


class Side:
    """One of the stores, with a common language for the ids of attempts.

    A store may draw ids that it does not use, so that its attempts are called otherwise than those of the other; here
    they are called by rollout and number.
    """

    def __init__(self, store: LightningStore) -> None:
        self.store = store
        self.cursor: str | None = None
        self._common: dict[str, str] = {}
        self._own: dict[str, str] = {}

    async def call(self, operation: str, arguments: Mapping[str, Any]) -> tuple[str, Any]:
        """Carry out an operation: how it ended, and its answer in the common language."""
        try:
            answer = await getattr(self.store, operation)(**{k: self._to_own(v) for k, v in arguments.items()})
        except Exception as error:  # noqa: BLE001 - the other store must raise the same class
            return type(error).__name__, None
        self._learn(answer)
        return "answered", self._to_common(answer)

    def _learn(self, value: Any) -> None:
        if isinstance(value, Attempt):
            name = f"{value.rollout_id}#{value.sequence_id}"
            self._common[value.attempt_id], self._own[name] = name, value.attempt_id
        elif isinstance(value, BaseModel):
            for field in type(value).model_fields:
                self._learn(getattr(value, field))
        elif isinstance(value, list):
            for item in value:
                self._learn(item)

    def _to_own(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._own.get(value, value)
        if isinstance(value, list | tuple):
            return type(value)(self._to_own(item) for item in value)
        if isinstance(value, Span):
            return value.model_copy(update={"attempt_id": self._to_own(value.attempt_id)})
        return value

    def _to_common(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._common.get(value, value)
        if isinstance(value, BaseModel):
            fields = {**dict(value.__dict__), **(value.model_extra or {})}
            return {"class": type(value).__name__, **self._to_common(fields)}
        if isinstance(value, Mapping):
            return {self._to_common(key): self._to_common(item) for key, item in value.items() if key not in IGNORED}
        if isinstance(value, list | tuple):
            return [self._to_common(item) for item in value]
        return value


class Pair:
    """The oracle and the store under test, side by side on one event loop."""

    def __init__(self, oracle: LightningStore, subject: LightningStore) -> None:
        self.loop = asyncio.new_event_loop()
        self.oracle, self.subject = Side(oracle), Side(subject)

    def both(self, operation: str, **arguments: Any) -> Any:
        """Carry out an operation on both; the answer of both, None when both raised the same error.

        Raises:
            AssertionError: They differ.
        """
        return self._compare(operation, arguments, arguments)

    def completions_so_far(self, limit: int, group_id: str | None) -> Any:
        """Read on in the completion logs, each from its own cursor."""
        sides = (self.oracle, self.subject)
        arguments = [{"after": side.cursor, "limit": limit, "group_id": group_id} for side in sides]
        answer = self._compare("completions", *arguments)
        for side, given in zip(sides, arguments, strict=True):
            page = self.loop.run_until_complete(side.store.completions(**given))  # type: ignore[arg-type]
            side.cursor = page.cursor
        return answer

    def prune(self, *, consumed: bool, **limits: Any) -> Any:
        """Prune both; with `consumed`, only what has been read so far, each by its own cursor."""
        sides = (self.oracle, self.subject)
        cursors = [{"consumed_cursor": side.cursor or "0-0"} if consumed else {} for side in sides]
        return self._compare("prune", *({**limits, **cursor} for cursor in cursors))

    def _compare(self, operation: str, for_oracle: Mapping[str, Any], for_subject: Mapping[str, Any]) -> Any:
        expected = self.loop.run_until_complete(self.oracle.call(operation, for_oracle))
        actual = self.loop.run_until_complete(self.subject.call(operation, for_subject))
        assert actual == expected, f"{operation}({for_oracle}):\n  memory {expected}\n  other  {actual}"
        return expected[1]

    def close(self) -> None:
        """Close both stores and the loop."""
        for side in (self.oracle, self.subject):
            self.loop.run_until_complete(side.store.close())  # type: ignore[attr-defined]
        self.loop.close()
