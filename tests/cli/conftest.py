"""The command line on a store of the test: a namespace of the shared Redis, or what `on_places` says."""

import pytest

from tests.support.command_line import CommandLine
from tests.support.places import Place


@pytest.fixture
def cli(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Runs commands: `result = cli("status", "--json")`."""
    return CommandLine(place.url, place.namespace, monkeypatch, capsys)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line with a URL where nobody listens."""
    return CommandLine("redis://:hunter22@127.0.0.1:1/0", "default", monkeypatch, capsys)
