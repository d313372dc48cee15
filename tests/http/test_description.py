"""The description of the API, tried out: a server has every path that is in it, and answers as it says."""

import json
from html.parser import HTMLParser
from urllib.parse import urlencode

import pytest

from lightning_store.http.openapi import describe
from lightning_store.http.probes import HEALTH, READY
from lightning_store.http.protocol import KEY_HEADER, OTLP_PATHS
from tests.support.serving import TOKEN_OF, TOKENS, ask

OPERATIONS = [
    (path, method, described) for path, methods in describe()["paths"].items() for method, described in methods.items()
]


@pytest.fixture
async def server(make_server):
    return await make_server(tokens=TOKENS)


def example_of(path, described):
    """The path with its ids and query, the body and the headers of one request."""
    query, headers = {}, {}
    for parameter in described.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", parameter["example"])
        elif parameter["in"] == "query" and parameter["required"]:
            query[parameter["name"]] = "ro-1"
        elif parameter["name"] == KEY_HEADER:
            headers[KEY_HEADER] = "0" * 32
    body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    return path + (f"?{urlencode(query)}" if query else ""), body, headers


@pytest.mark.parametrize(("path", "method", "described"), OPERATIONS, ids=lambda value: str(value)[:50])
async def test_example_of_each_request_is_answered_as_described(server, path, method, described):
    target, body, headers = example_of(path, described)
    reply = await ask(
        server.url, target, method=method.upper(), json=body, token=TOKEN_OF["admin"], headers=headers
    )  # fmt: skip
    assert str(reply.status) in described["responses"], reply.body
    assert reply.status == 404 or reply.status < 300, reply.body
    if reply.status == 404:
        assert "error_type" in reply.json, "there is no such path"
    kinds = described["responses"][str(reply.status)]["content"]
    assert reply.headers["Content-Type"].partition(";")[0] in kinds


async def test_document_is_handed_out_to_everybody(server):
    reply = await ask(server.url, "/openapi.json")
    assert reply.json == json.loads(json.dumps(describe()))


def test_paths_beside_the_table_of_operations_are_described():
    text = json.dumps(describe())
    beside = {HEALTH, READY, "/v1/agl/health", "/metrics", "/v1/prometheus/", *OTLP_PATHS}
    assert [path for path in beside if path not in text] == []


class Page(HTMLParser):
    """What a page loads and where its links lead, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.anchors, self.links, self.shown = set(), [], set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        if tag not in {"meta", "tr", "td"}:  # these end by themselves
            self.open.append(tag)
        self.anchors |= {given["id"]} if "id" in given else set()
        self.links += [given[name] for name in ("href", "src") if name in given]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown.append(data)


async def test_page_for_people_needs_nothing_from_elsewhere_and_tells_everything(server):
    reply = await ask(server.url, "/docs")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    page = Page(reply.body.decode())

    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "@import" not in reply.body.decode()
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.anchors
    assert page.anchors >= {described["operationId"] for _, _, described in OPERATIONS}
    shown = " ".join("".join(page.shown).split())
    for path, _, described in OPERATIONS:
        assert path in shown
        assert " ".join(described["summary"].replace("`", "").split()) in shown


async def test_pages_that_load_scripts_are_gone(server):
    assert (await ask(server.url, "/redoc", token=TOKEN_OF["read"])).status == 404
