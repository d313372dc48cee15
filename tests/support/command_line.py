"""Runs the command line inside of a test, or as a process of its own."""

import asyncio
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
import redis

from lightning_store.cli import main
from lightning_store.connect import TOKEN_VARIABLE, open_store
from lightning_store.contract import LightningStore

ROOT: Final = Path(__file__).parents[2]

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, which is JSON."""
        return json.loads(self.out)


class CommandLine:
    """Runs commands against one namespace, and code of the test on its store."""

    def __init__(
        self, url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.url = url
        self.namespace = namespace
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.setenv("LIGHTNING_STORE_URL", url)
        monkeypatch.setenv("LIGHTNING_STORE_NAMESPACE", namespace)
        monkeypatch.setenv("COLUMNS", "200")

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Result:
        """Run one command in this process."""
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        self._capsys.readouterr()
        code = main(arguments)
        captured = self._capsys.readouterr()
        return Result(int(code), captured.out, captured.err)

    def on_store(self, work: Callable[[LightningStore], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function on the store of the namespace."""

        async def run() -> T:
            store = open_store(self.url, self.namespace)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())


def start_process(
    arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.Popen[str]":
    """Start `python -m lightning_store` with its output on pipes; the caller waits for it.

    Of the settings in this process's environment it gets the token of a server only.
    """
    settings = {
        name: value
        for name, value in os.environ.items()
        if name == TOKEN_VARIABLE or not name.startswith("LIGHTNING_STORE_")
    }
    return subprocess.Popen(
        [sys.executable, "-m", "lightning_store", *arguments],
        env={**settings, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **(environment or {})},
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options},
    )


def run_process(
    arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout: float = 30.0, **options: Any
) -> Result:
    """Run `python -m lightning_store` to its end."""
    process = start_process(arguments, environment=environment, **options)
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)


def wait_until_blocked(url: str, process: "subprocess.Popen[str]", timeout_seconds: float = 30.0) -> None:
    """Until a client of the server waits in a blocking command; the process must be the only one that does."""
    deadline = time.monotonic() + timeout_seconds
    with redis.Redis.from_url(url, decode_responses=True) as client:
        while not any("b" in entry["flags"] for entry in client.client_list()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the process did not begin to wait"
            time.sleep(0.01)
