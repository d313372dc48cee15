"""The page about the switch tells of every method and every route, each once, and says nothing that is not so."""

import inspect
import re
from pathlib import Path

import agentlightning as al
import pytest
from agentlightning.store.base import LightningStore as TheirStore

from lightning_store import OPERATIONS
from tests.agentlightning.support.story import STORY
from tests.agentlightning.support.telling import PREFIX
from tests.agentlightning.test_same_answers import OUR_SERVER, paths_of, visits

PAGE = (Path(__file__).parents[2] / "docs" / "agent-lightning.md").read_text()
VERDICTS = {"same", "better", "different"}


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> dict[str, tuple[str, str]]:
    """First cell → verdict and reason, of the table in a section."""
    found = re.findall(r"^\| (.+?) \| (\w*) \| ?(.*?) ?\|$", section(title), re.MULTILINE)
    listed = [name for name, verdict, _ in found if verdict]
    assert len(listed) == len(set(listed)), "each stands once"
    return {name: (verdict, reason) for name, verdict, reason in found if verdict}


@pytest.mark.parametrize("title", ["Methods", "Routes"])
def test_every_row_has_a_verdict_and_what_is_not_the_same_a_reason(title):
    for name, (verdict, reason) in rows(title).items():
        assert verdict in VERDICTS, name
        assert reason or verdict == "same", name


def test_table_names_every_method_of_upstream():
    methods = {name for name, member in vars(TheirStore).items() if not name.startswith("_") and member.__doc__}
    assert len(methods) == 30
    assert {name.strip("`") for name in rows("Methods")} == methods


def test_every_operation_of_ours_is_named():
    extensions = set(OPERATIONS) - {name for name, _ in inspect.getmembers(TheirStore)}
    assert (
        set(re.findall(r"`(\w+)`", section("Only here").partition("Fields")[0])) - {"AgentLightningStore"} == extensions
    )


def test_table_names_every_route():
    server = al.LightningStoreServer(al.InMemoryLightningStore(thread_safe=True), host="127.0.0.1", port=1)
    routes = {f"{method} `{path.removeprefix('/v1/agl')}`" for path, methods in paths_of(server) for method in methods}
    told = {route for route in rows("Routes") if "/v1/" not in route and "/assets" not in route}
    assert told == routes


def test_routes_that_answer_otherwise_say_so():
    """Each difference that the comparison of servers allows is one of a route that is called different."""
    table = rows("Routes")
    for step in (step for step in STORY if step.name in OUR_SERVER):
        (route,) = [route for route in table if re.fullmatch(r"(GET|POST) `/\S*`", route) and is_of(step, route)]
        assert table[route][0] == "different", step.name


def is_of(step, route):
    method, path = route.split()
    return visits((method, PREFIX + path.strip("`")), (step.method, step.path))
