"""One story of requests told to a server, and its answers with ids and times made equal for every server."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PREFIX = "/v1/agl"
NO_BODY = object()

_ID = re.compile(r"(ro|at|rs)-[0-9a-f]{6,}")
_NAMED = re.compile(r"<(?:ro|at|rs)\d+>")
_CLOCKS = {"start_time", "end_time", "create_time", "update_time"}


@dataclass(frozen=True)
class Step:
    """One request: ids of earlier answers are written `<ro0>`, `<at0>`, `<rs0>`, in the order of their appearance.

    Attributes:
        name: Tells the step apart, and says what it is about.
        query: Of the URL; a list repeats the name.
        raw: Bytes to send instead of a JSON body.
    """

    name: str
    method: str
    path: str
    body: Any = NO_BODY
    query: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """Status and body, ids and times replaced."""

    status: int
    body: Any


class Teller:
    """Sends steps to one server and remembers the ids that it made."""

    def __init__(self, session: aiohttp.ClientSession, root: str) -> None:
        self._session = session
        self._root = root
        self._names: dict[str, str] = {}

    async def tell(self, step: Step) -> Answer:
        """Send one step and read the answer."""
        url = self._root + self._filled(step.path)
        options: dict[str, Any] = {"params": self._pairs(step.query)}
        if step.raw is not None:
            options |= {"data": step.raw, "headers": {"Content-Type": "application/json"}}
        elif step.body is not NO_BODY:
            options["json"] = json.loads(self._filled(json.dumps(step.body)))
        async with self._session.request(step.method, url, **options) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return Answer(response.status, self._normalised(json.loads(text)) if is_json and text else text)

    def _pairs(self, query: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The query's parameters; those with a list occur several times."""
        pairs = [(name, value if isinstance(value, list) else [value]) for name, value in query.items()]
        return [(name, self._filled(str(value))) for name, values in pairs for value in values]

    def _filled(self, text: str) -> str:
        ids = {name: id for id, name in self._names.items()}
        return _NAMED.sub(lambda match: ids[match[0]], text)

    def _normalised(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self._normalised(value[key], key) for key in sorted(value)}
        if isinstance(value, list):
            return [self._normalised(item) for item in value]
        if isinstance(value, str):
            return _ID.sub(lambda match: self._name(match[0]), value)
        if isinstance(value, float) and (name in _CLOCKS or name.endswith("_time")) and value > 1e9:
            return "<time>"
        return value

    def _name(self, id: str) -> str:
        kind = id[:2]
        count = sum(name.startswith(f"<{kind}") for name in self._names.values())
        return self._names.setdefault(id, f"<{kind}{count}>")
