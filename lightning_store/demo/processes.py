"""The child processes of the demo: started in sessions of their own, logged to files, all ended by id at the end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from typing_extensions import Self

LEASH: Final = Path(__file__).with_name("leash.py")
STOP_SECONDS: Final = 5.0
LOG_TAIL_BYTES: Final = 4096
READ_BYTES: Final = 65536


class Child:
    """One process that the demo started.

    Attributes:
        name: What the demo calls it.
        log: File of its standard error, and of its standard output unless that is read.
    """

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._unread = b""
        if process.stdout is not None:
            os.set_blocking(process.stdout.fileno(), False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with, negative for a signal; None while it runs."""
        return self._process.poll()

    def freeze(self) -> None:
        """Suspend it, so that nothing changes while somebody looks; returns when it has stopped or ended."""
        self._signal(signal.SIGSTOP)
        if self.exit_code is None:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as lack of memory or of power would; also when it is frozen."""
        self._signal(signal.SIGKILL)
        self._process.wait()

    def ask_to_stop(self) -> None:
        """Tell it to end what it is doing and go."""
        self._signal(signal.SIGTERM)
        self.resume()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait until it has ended; False when it still runs after this time."""
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def read_lines(self) -> list[str]:
        """Complete lines that it wrote since the last call; does not wait."""
        if self._process.stdout is None:
            return []
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._process.stdout.fileno(), READ_BYTES):
                self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        return [line.decode() for line in lines]

    def last_words(self) -> str:
        """The last line of its log; empty when there is none."""
        lines = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        """Give up the pipe; the process is not touched."""
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _signal(self, number: int) -> None:
        # The id is ours until the process was waited for, which `poll` and `wait` do and `send_signal` looks at.
        self._process.send_signal(number)


class Children:
    """All child processes; leaving the `with` block ends those that still run."""

    def __init__(self, log_dir: Path, environment: Mapping[str, str]) -> None:
        """Set up; nothing is started.

        Args:
            log_dir: Folder for the logs; made if missing.
            environment: Variables for all children, besides those of this process. Secrets go here: command lines
                can be seen by everybody on the machine.
        """
        log_dir.mkdir(parents=True, exist_ok=True)
        self._log_dir = log_dir
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, module: str, *arguments: str, is_read: bool = False) -> Child:
        """Start `python -m module arguments`.

        Args:
            name: What to call it, also in the name of its log.
            module: The module to run.
            arguments: Its arguments.
            is_read: Keep its standard output for `Child.read_lines`.
        """
        log = self._log_dir / f"{name}.log"
        command = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), sys.executable, "-m", module, *arguments]
        with log.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603 - our own modules
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_read else stderr,
                stderr=stderr,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the demo, which then ends them in order
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def stop(self) -> None:
        """End all that still run: ask, wait some seconds, then kill. A second Ctrl-C kills at once."""
        running = [child for child in self._children if child.exit_code is None]
        try:
            for child in running:
                child.ask_to_stop()
            deadline = time.monotonic() + STOP_SECONDS
            for child in running:
                child.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for child in running:
                child.kill()
            for child in self._children:
                child.close()
