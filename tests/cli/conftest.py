"""The command line on a real Redis, in a namespace of the test."""

import pytest

from tests.support.command_line import CommandLine


@pytest.fixture
def cli(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Runs commands: `result = cli("status", "--json")`."""
    return CommandLine(redis_url, namespace, monkeypatch, capsys)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line with a URL where nobody listens."""
    return CommandLine("redis://:hunter22@127.0.0.1:1/0", "default", monkeypatch, capsys)
