"""The description of the API: complete, with words and examples, and true."""

import json

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.http.app import build_app
from lightning_store.http.docstrings import docstring_of
from lightning_store.http.examples import ANSWERS, ARGUMENTS
from lightning_store.http.openapi import describe
from lightning_store.http.openapi_server import server_paths
from lightning_store.http.protocol import write_json
from lightning_store.http.routes import ROUTES
from lightning_store.http.wire import CODECS, BareCodec

OPERATIONS = [
    (path, method, operation) for path, methods in describe()["paths"].items() for method, operation in methods.items()
]


def references(value):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from [item] if key == "$ref" else references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_route_is_described():
    described = {(path, method) for path, method, _ in OPERATIONS}
    assert described == {(f"/v1/agl{route.path}", route.method.lower()) for route in ROUTES} | {
        (path, method) for path, methods in server_paths().items() for method in methods
    }


def test_every_reference_leads_somewhere():
    document = describe()
    schemas = document["components"]["schemas"]
    assert {ref.rpartition("/")[2] for ref in references(document)} <= set(schemas)
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=lambda value: str(value)[:40])
def test_everything_is_explained(path, method, operation):
    assert operation["summary"].endswith((".", ")")) or operation["summary"]
    assert all(parameter["description"] for parameter in operation.get("parameters", ()))
    assert all(response["description"] for response in operation["responses"].values())
    assert {
        f"{{{parameter['name']}}}" for parameter in operation.get("parameters", ()) if parameter["in"] == "path"
    } == {part for part in path.split("/") if part.startswith("{")}
    assert operation["tags"][0] in {tag["name"] for tag in describe()["tags"]}
    assert "example" in str(operation["responses"])


def test_arguments_of_bodies_are_explained():
    schemas = describe()["components"]["schemas"]
    unexplained = [
        f"{codec.name}.{name}"
        for codec in CODECS.values()
        for name, each in schemas.get(codec.name, {}).get("properties", {}).items()
        if not each.get("description")
    ]
    assert unexplained == []


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_examples_of_bodies_are_accepted(name):
    codec = CODECS[name]
    example = ARGUMENTS[name][codec.argument] if isinstance(codec, BareCodec) else ARGUMENTS[name]
    assert codec.read_body(write_json(example))


@pytest.mark.parametrize("name", list(ANSWERS))
def test_examples_of_answers_are_what_a_client_reads(name):
    CODECS[name].read_answer(
        write_json(ANSWERS[name]), {"spans": ARGUMENTS["add_many_spans"]["spans"], "renumber": True}
    )


def test_every_operation_has_examples():
    assert set(ANSWERS) == set(CODECS)
    assert set(ARGUMENTS) >= {
        route.codec.operation.name for route in ROUTES if not route.reads_query and route.codec.parameters
    }


def test_application_hands_it_out():
    assert build_app(InMemoryLightningStore()).openapi() == describe()


def test_docstrings_are_taken_apart():
    def documented():
        """Do one thing.

        And another,
        on two lines.

        Args:
            first: What it is,
                on two lines.
            second: More.

        Returns:
            A thing; nothing
            when there is none.

        Raises:
            KeyError: Not there.
        """

    said = docstring_of(documented)

    assert said.summary == "Do one thing."
    assert said.text == "Do one thing.\n\nAnd another, on two lines."
    assert said.arguments == {"first": "What it is, on two lines.", "second": "More."}
    assert said.returns == "A thing; nothing when there is none."
    assert said.raises == {"KeyError": "Not there."}
