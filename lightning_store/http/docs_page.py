"""The description of the API as a page for people: plain HTML that needs no script and nothing from elsewhere."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from lightning_store.http.openapi import describe

DOCS_PATH: Final = "/docs"

_HEADERS: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_CODE: Final = re.compile(r"`{1,2}([^`]+)`{1,2}")
_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { overflow: auto; padding: .5rem 1rem; border: 1px solid #8884; border-radius: 4px; }
summary { cursor: pointer; padding: .25rem 0; }
details > :not(summary) { margin-left: 1rem; }
table { border-collapse: collapse; }
td { vertical-align: top; padding: .15rem 1rem .15rem 0; }
"""


async def docs(_request: Request) -> Response:
    """The page."""
    return Response(_page(), media_type="text/html", headers=_HEADERS)


@cache
def _page() -> str:
    document = describe()
    about = document["info"]
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(about['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(about['title'])}</h1>{_prose(about['description'])}",
        "<p>For programs: <a href=openapi.json><code>openapi.json</code></a></p>",
        *_operations(document),
        "<h2>Records</h2>",
        *(_record(name, schema) for name, schema in sorted(document["components"]["schemas"].items())),
        "</body></html>",
    ]
    return "\n".join(parts)


def _operations(document: dict[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['description'])}</h2>"
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    yield _operation(path, method.upper(), operation)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    summary = f"<b>{method}</b> <code>{escape(path)}</code> {_text(operation['summary'])}"
    parameters = [
        (each["name"], f"{each['in']}, {_type(each['schema'])}", each["description"])
        for each in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {})
    parts = [
        _prose(operation["description"]),
        _table("Arguments", parameters),
        *(_content("Body", kind, each) for kind, each in body.get("content", {}).items()),
        *(_response(status, each) for status, each in operation["responses"].items()),
    ]
    return _folded(summary, operation["operationId"], parts)


def _response(status: str, response: dict[str, Any]) -> str:
    contents = [_content("Answer", kind, each) for kind, each in response["content"].items()]
    return f"<h4>{status}</h4>{_prose(response['description'])}{''.join(contents)}"


def _content(what: str, kind: str, content: dict[str, Any]) -> str:
    examples = [content["example"]] if "example" in content else []
    examples += [each["value"] for each in content.get("examples", {}).values()]
    shown = "".join(f"<pre>{escape(_example(each))}</pre>" for each in examples)
    return f"<p>{what}, <code>{escape(kind)}</code>: {_type(content['schema'])}</p>{shown}"


def _example(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _record(name: str, schema: dict[str, Any]) -> str:
    fields = [(field, _type(each), each.get("description", "")) for field, each in schema.get("properties", {}).items()]
    parts = [_prose(schema.get("description", "")), _table("Fields", fields) or f"<p>{_type(schema)}</p>"]
    return _folded(f"<code>{escape(name)}</code>", f"record-{name}", parts)


def _type(schema: dict[str, Any]) -> str:
    """What a schema takes, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#record-{escape(name)}'>{escape(name)}</a>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(each) for each in schema[several])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return escape(str(schema.get("type", "anything")))


def _table(title: str, rows: Iterable[tuple[str, str, str]]) -> str:
    lines = [f"<tr><td><code>{escape(name)}</code><td>{kind}<td>{_text(text)}" for name, kind, text in rows]
    return f"<h4>{title}</h4><table>{''.join(lines)}</table>" if lines else ""


def _folded(summary: str, id: str, parts: Iterable[str]) -> str:
    return f"<details id='{escape(id)}'><summary>{summary}</summary>{''.join(parts)}</details>"


def _prose(text: str) -> str:
    return "".join(f"<p>{_text(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph)


def _text(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
