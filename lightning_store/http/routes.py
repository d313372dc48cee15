"""Paths of the HTTP API: which operation a request means, and how an operation's path is written.

A path is taken apart before its escapes are read, so an id may hold anything, slashes included. Words of the API win
over ids that look the same, unless these are written with an escape, as our client does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote

from lightning_store.errors import InvalidRequestError
from lightning_store.http.wire import CODECS, Codec
from lightning_store.operations import OPERATIONS

_ALSO_GET: Final = {
    "query_rollouts": "/rollouts",
    "query_spans": "/spans",
    "query_workers": "/workers",
    "query_attempts": "/rollouts/{rollout_id}/attempts",
}
"""Searches that can be asked for by a query too."""


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        reads_query: Its arguments are in the query; otherwise in the body.
    """

    codec: Codec
    method: str
    path: str

    @property
    def reads_query(self) -> bool:
        """Its arguments are in the query; otherwise in the body."""
        return self.method == "GET"


ROUTES: Final[tuple[Route, ...]] = (
    *(Route(CODECS[row.name], row.method, row.path) for row in OPERATIONS.values() if row.method and row.path),
    *(Route(CODECS[name], "GET", path) for name, path in _ALSO_GET.items()),
)
"""All of them; a word at a place wins over an id there."""


@dataclass
class _Node:
    words: dict[str, "_Node"] = field(default_factory=dict)
    id: "_Node | None" = None
    methods: dict[str, Route] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """What a path means.

    Attributes:
        route: The route; None when the method is not allowed there, or nothing is there.
        arguments: What the path carries.
        allowed: Methods that are allowed there; empty when nothing is there.
    """

    route: Route | None
    arguments: Mapping[str, str]
    allowed: frozenset[str] = frozenset()


_NOTHING: Final = Match(None, {})


class Routes:
    """Finds the route of a request."""

    def __init__(self, routes: Sequence[Route] = ROUTES) -> None:
        """Set up."""
        self._root = _Node()
        for route in routes:
            node = self._root
            for part in _parts(route.path):
                if part.startswith("{"):
                    node.id = node.id or _Node()
                    node = node.id
                else:
                    node = node.words.setdefault(part, _Node())
            node.methods[route.method] = route

    def match(self, method: str, raw_path: str, *, empty_ids: bool) -> Match:
        """The route of a path below the prefix, as it came, with its escapes.

        Args:
            method: The method.
            raw_path: The path.
            empty_ids: Whether nothing between two slashes, or after the last one, is an id.
        """
        parts = _parts(raw_path)
        if (not empty_ids and "" in parts) or not _is_text(raw_path):
            return _NOTHING
        allowed: set[str] = set()
        ids = self._find(self._root, parts, 0, method, allowed)
        if ids is None:
            return Match(None, {}, frozenset(allowed)) if allowed else _NOTHING
        route, values = ids
        return Match(route, dict(zip(route.codec.path_names, values, strict=True)))

    def _find(
        self, node: _Node, parts: Sequence[str], place: int, method: str, allowed: set[str]
    ) -> tuple[Route, list[str]] | None:
        if place == len(parts):
            allowed.update(node.methods)
            route = node.methods.get(method)
            return None if route is None else (route, [])
        word = node.words.get(parts[place])
        found = None if word is None else self._find(word, parts, place + 1, method, allowed)
        if found is None and node.id is not None:
            found = self._find(node.id, parts, place + 1, method, allowed)
            if found is not None:
                id = parts[place]
                found[1].insert(0, unquote(id, errors="surrogatepass") if "%" in id else id)
        return found


def _is_text(raw_path: str) -> bool:
    """Whether the escapes are of UTF-8 text; no id is anything else."""
    try:
        unquote(raw_path, errors="surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _parts(path: str) -> list[str]:
    return path.removeprefix("/").split("/")


_WORDS: Final = frozenset(
    part for route in ROUTES for part in _parts(route.path) if not part.startswith("{")
) | {".", ".."}  # fmt: skip


def written(route_path: str, arguments: Mapping[str, Any]) -> str:
    """A path with its ids filled in, as it is sent.

    Raises:
        InvalidRequestError: An id is no text.
    """
    return "/".join(
        _escaped(part[1:-1], arguments[part[1:-1]]) if part.startswith("{") else part for part in route_path.split("/")
    )


def _escaped(name: str, id: object) -> str:
    """An id that is not taken for a word, nor for the way to another folder."""
    if not isinstance(id, str):
        raise InvalidRequestError(f"{name}: expected text, got {id!r:.200}")
    text = quote(id, safe="", errors="surrogatepass")
    return f"%{ord(text[0]):02X}{text[1:]}" if text in _WORDS else text
