"""What a server can be told, and that the document says so."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from lightning_store.addresses import is_loopback
from lightning_store.errors import InvalidRequestError
from lightning_store.http.options import ServerOptions

DOCUMENT = Path(__file__).parents[2] / "docs" / "server.md"
UNITS = {"MiB": 1024 * 1024, "KiB": 1024, "s": 1, "levels": 1, "": 1}
ROW = re.compile(r"^\| `(?P<field>\w+)` \|[^|]*\| (?P<number>[\d,]+) ?(?P<unit>\w*) \|", re.MULTILINE)


def documented() -> dict[str, float]:
    return {
        row["field"]: int(row["number"].replace(",", "")) * UNITS[row["unit"]]
        for row in ROW.finditer(DOCUMENT.read_text())
    }


def test_document_has_every_limit_with_its_default():
    limits = {
        field.name: field.default
        for field in fields(ServerOptions)
        if field.name.startswith("max_") or field.name.endswith("_seconds")
    }
    assert documented() == limits


def test_every_field_is_described():
    described = set(re.findall(r"^        (\w+): ", ServerOptions.__doc__, re.MULTILINE))
    assert described == {field.name for field in fields(ServerOptions)}


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({}, "http://127.0.0.1:80"),
        ({"host": "::1"}, "http://[::1]:80"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:80"),
        ({"host": "::"}, "http://[::1]:80"),
        ({"tls_cert": "c", "tls_key": "k"}, "https://127.0.0.1:80"),
        ({"public_url": "https://store.example/"}, "https://store.example"),
    ],
)
def test_url_is_one_that_can_be_connected_to(options, url):
    assert ServerOptions(**options).url_at(80) == url


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.8.9.1", True), ("::1", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False)],
)
def test_loopback_is_known_by_name_and_address(host, expected):
    assert is_loopback(host) is expected
    assert ServerOptions(host=host).is_local is expected


def test_no_limit_can_be_switched_off_by_infinity():
    with pytest.raises(InvalidRequestError, match="write_seconds: expected a number above 0"):
        ServerOptions(write_seconds=float("inf"))
