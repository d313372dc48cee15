"""Commands in Markdown: found in ```console blocks, and run as a reader would run them.

A block holds commands behind `$ `, their further lines behind `> `, and what they print; `…` in that stands for
anything. A comment `<!-- not run: why -->` before a block keeps it from being run.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
COMMAND_SECONDS: Final = 60.0
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 60.0

LONG_RUNNING: Final[dict[str, tuple[str, signal.Signals]]] = {
    "lightning-store up": ("Ctrl-C stops it.", signal.SIGTERM),
    "lightning-store healthcheck": ("started", signal.SIGTERM),
    "lightning-store run": ("runner started", signal.SIGTERM),
    "lightning-store serve": ("serving", signal.SIGTERM),
    "lightning-store status --watch": ("queues", signal.SIGINT),
}
"""How such commands begin; what they have written when they are up; what stops them, with exit code 0."""

_BLOCK: Final = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n\s*)?^```(?P<language>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Command:
    """One command with what it is said to print, line by line."""

    text: str
    output: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Block:
    """One fenced block of a document.

    Attributes:
        line: Where it begins.
        reason: Why it is not run; None if it is.
    """

    line: int
    language: str
    reason: str | None
    body: str

    @property
    def commands(self) -> list[Command]:
        """Its commands, in order."""
        found: list[Command] = []
        for line in self.body.splitlines():
            if line.startswith("$ "):
                found.append(Command(line[2:]))
            elif line.startswith("> ") and found and not found[-1].output:
                found[-1] = Command(f"{found[-1].text}\n{line[2:]}")
            elif found:
                found[-1].output.append(line)
            else:
                raise AssertionError(f"line {self.line}: a console block begins with `$ `, not with {line!r}")
        return found


def blocks_of(text: str) -> list[Block]:
    """All fenced blocks of a document."""
    return [
        Block(text.count("\n", 0, match.start("body")), match["language"], match["reason"], match["body"])
        for match in _BLOCK.finditer(text)
    ]


class Console:
    """Runs commands one after the other, as one shell would: variables and folder stay.

    Those that go on are started, and stopped by `close`.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._state = folder.parent / f"{folder.name}.state"
        self._logs: list[Path] = []
        self._running: list[tuple[str, subprocess.Popen[bytes], signal.Signals]] = []
        programs = folder.parent / f"{folder.name}.bin"
        programs.mkdir()
        for name, words in (("lightning-store", ["-m", "lightning_store"]), ("python", [])):
            (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, *words])} "$@"\n')
            (programs / name).chmod(0o755)
        path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTNING_STORE_")}
        self._environment = {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}

    def run(self, command: Command) -> None:
        """Run one command; it has to succeed and to print what is said."""
        for beginning, (ready, stop) in LONG_RUNNING.items():
            if command.text.startswith(beginning):
                self._start(command.text, ready, stop)
                return
        done = subprocess.run(
            ["bash", "-c", self._script(command.text)],
            env=self._environment, cwd=self._folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command.text}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
        if any(line.strip() for line in command.output):
            assert prints(command.output, done.stdout), f"$ {command.text}\nprints\n{done.stdout}{done.stderr}"

    def close(self) -> None:
        """Stop what goes on, the last first; it has to end well."""
        failures: list[str] = []
        while self._running:
            text, process, number = self._running.pop()
            process.send_signal(number)
            try:
                code = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if code != 0:
                failures.append(f"$ {text}\nexit code {code}")
        assert not failures, "\n".join(failures)

    def _script(self, text: str, *, replace: bool = False) -> str:
        state = shlex.quote(str(self._state))
        before = f"[ ! -e {state} ] || . {state}\n"
        if replace:
            return f"{before}exec {text}"
        return f'{before}{text}\n_code=$?; {{ export -p; echo "cd $(printf %q "$PWD")"; }} > {state}; exit $_code'

    def _start(self, text: str, ready: str, stop: signal.Signals) -> None:
        log = self._folder.parent / f"{self._folder.name}.{len(self._logs)}.log"
        self._logs.append(log)
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", self._script(text, replace=True)],
                env=self._environment, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        self._running.append((text, process, stop))
        deadline = time.monotonic() + READY_SECONDS
        while ready not in log.read_text(errors="replace"):
            assert process.poll() is None, f"$ {text}\nexit code {process.returncode}\n{log.read_text()}"
            assert time.monotonic() < deadline, f"$ {text}\nis not ready\n{log.read_text()}"
            time.sleep(0.02)


def prints(expected: list[str], output: str) -> bool:
    """Whether the output is the expected one; widths of columns do not count."""
    wanted = re.escape(_even("\n".join(expected))).replace("…", ".*?")
    return re.fullmatch(wanted, _even(output), re.DOTALL) is not None


def _even(text: str) -> str:
    lines = (re.sub(r"(?<=\S) +", " ", line.rstrip()) for line in text.strip("\n").split("\n"))
    return "\n".join(lines)
