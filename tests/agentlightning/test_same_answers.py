"""Both servers are told the same story, and answer the same, field by field, but for the differences named here.

Four servers are compared to upstream's over its own store: ours over our stores, and upstream's over our stores.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import agentlightning as al
import aiohttp
import pytest

from lightning_store.integrations.agentlightning import AgentLightningStore
from tests.agentlightning.conftest import OURS, backend
from tests.agentlightning.support.serving import our_server, their_server
from tests.agentlightning.support.story import STORY
from tests.agentlightning.support.telling import Answer, Teller

UNKNOWN = "final at once, where upstream's client repeats a 500 for eight seconds"

OUR_SERVER = {
    "report on an unknown attempt": (500, 404, UNKNOWN),
    "report on an unknown rollout": (500, 404, UNKNOWN),
    "attempt of an unknown rollout": (500, 404, UNKNOWN),
    "span of an unknown rollout": (500, 404, UNKNOWN),
    "span of an unknown attempt": (500, 404, UNKNOWN),
    "update an unknown rollout": (500, 404, UNKNOWN),
    "number for an unknown rollout": (200, 404, "a counter for a record that does not exist is garbage for ever"),
    "one unknown rollout": (500, 200, "null, as for the other single reads"),
}
"""What our server answers otherwise: upstream's status, ours, and why."""

OUR_STORES = {
    "number for an unknown rollout": (200, 500, "the store refuses it, and upstream's server makes that a 500"),
}
"""What upstream's server answers otherwise over our stores."""

FIELDS_OF_OURS = {
    "queue", "group_id", "cause", "lease_seconds", "resources_id", "resources_version", "retry_delay_seconds",
    "max_worker_losses", "error_type",
}  # fmt: skip
"""Fields that our records and errors have besides; upstream's models ignore them."""

PINNED = "Invalid sort_by: "
"""Begins the one text of a refusal that is compared; ours names the fields of ours behind upstream's."""


async def answers(root: str) -> dict[str, Answer]:
    async with aiohttp.ClientSession() as session:
        teller = Teller(session, root)
        return {step.name: await teller.tell(step) for step in STORY}


@asynccontextmanager
async def reference() -> AsyncIterator[str]:
    store = al.InMemoryLightningStore(thread_safe=True, scan_debounce_seconds=0)
    async with their_server(store) as server:
        yield server.endpoint


@pytest.fixture
async def expected() -> dict[str, Answer]:
    async with reference() as root:
        return await answers(root)


def differences(expected: dict[str, Answer], given: dict[str, Answer], intended: dict[str, Any]) -> dict[str, Any]:
    """Steps that were answered in another way than they should."""
    found: dict[str, Any] = {}
    for name, theirs in expected.items():
        ours = given[name]
        if name in intended:
            if (theirs.status, ours.status) != intended[name][:2]:
                found[name] = theirs.status, ours.status
        elif name == "statistics":
            found |= statistics_differ(theirs, ours)
        elif theirs.status != ours.status or not same(theirs.body, ours.body):
            found[name] = theirs, ours
    return found


def statistics_differ(theirs: Answer, ours: Answer) -> dict[str, Any]:
    counts = [{key: value for key, value in each.body.items() if key.startswith("total_") and "bytes" not in key}
              for each in (theirs, ours)]  # fmt: skip
    is_told = isinstance(ours.body["uptime"], float) and isinstance(ours.body["name"], str)
    return {} if counts[0] == counts[1] and is_told else {"statistics": counts}


def same(theirs: Any, ours: Any) -> bool:
    """Equal, with `1`, `1.0` and `True` apart; of tracebacks only that there are any; fields of ours on top."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if theirs.keys() == {"detail"}:
            return same_refusal(theirs["detail"], ours["detail"])
        if "traceback" in theirs:
            return theirs.keys() == ours.keys()
        extra = ours.keys() - theirs.keys()
        return extra <= FIELDS_OF_OURS and all(key in ours and same(value, ours[key]) for key, value in theirs.items())
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(same, theirs, ours))
    return type(theirs) is type(ours) and theirs == ours


def same_refusal(theirs: Any, ours: Any) -> bool:
    """The same fields are refused, each with kind, place, text and input; the texts are each server's own."""
    if isinstance(theirs, str):
        return isinstance(ours, str) and (
            ours.startswith(theirs) or not theirs.startswith((PINNED, "Not Found", "Method"))
        )
    are_told = all({"type", "loc", "msg", "input"} <= each.keys() for each in ours)
    return are_told and places(theirs) <= places(ours) and {each["loc"][0] for each in ours} == {theirs[0]["loc"][0]}


def places(refusals: list[Any]) -> set[tuple[str, str]]:
    """Top fields that are refused; none when it is the body as a whole."""
    return {tuple(each["loc"][:2]) for each in refusals if len(each["loc"]) > 1 and isinstance(each["loc"][1], str)}


@pytest.mark.parametrize("kind", OURS)
async def test_our_server_answers_as_theirs(kind, namespace, request, expected):
    async with our_server(backend(kind, namespace, request)) as server:
        given = await answers(server.url)
    assert differences(expected, given, OUR_SERVER) == {}


@pytest.mark.parametrize("kind", OURS)
async def test_their_server_answers_the_same_over_our_stores(kind, namespace, request, expected):
    store = AgentLightningStore(backend(kind, namespace, request), scan_debounce_seconds=0)
    async with their_server(store) as server:
        given = await answers(server.endpoint)
    await store.close()
    assert differences(expected, given, OUR_STORES) == {}


async def test_story_tells_the_same_twice(expected):
    """What differs is the server, not the moment."""
    async with reference() as root:
        assert differences(expected, await answers(root), {}) == {}


def test_story_visits_every_route():
    """Of the contract's table; the paths of upstream's server are the list."""
    server = al.LightningStoreServer(al.InMemoryLightningStore(thread_safe=True), host="127.0.0.1", port=1)
    routes = {(method, path) for path, methods in paths_of(server) for method in methods}
    told = {(step.method, step.path) for step in STORY}
    missing = {route for route in routes if not any(visits(route, each) for each in told)}
    assert len(routes) == 28
    assert missing == set()


def paths_of(server: Any) -> list[tuple[str, set[str]]]:
    paths = server.app.openapi()["paths"]
    return [(path, {each.upper() for each in paths[path]}) for path in paths if path.startswith("/v1/agl")]


def visits(route: tuple[str, str], step: tuple[str, str]) -> bool:
    pattern = re.sub(r"\{\w+\}", "[^/]+", route[1])
    return route[0] == step[0] and re.fullmatch(pattern, step[1]) is not None
