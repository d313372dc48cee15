"""A contender's process: it is asked by lines, answers with JSON, and ends with its `with` block."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from typing_extensions import Self

from benchmarks.peers.environments import reason

INSIDE: Final = Path(__file__).parent / "inside"
CHECKOUT: Final = Path(__file__).parents[2]
ANSWER_SECONDS: Final = 300.0
_MARK: Final = "@"


class SideError(Exception):
    """A contender's process ended, or did not answer; says what it printed last."""


class Side:
    """One process of a contender.

    Attributes:
        process: The process.
    """

    def __init__(self, python: Path, module: str, role: str, log: Path, settings: Mapping[str, str]) -> None:
        self._name = f"{module} {role}"
        self._log = log
        with log.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - programs of this folder
                [str(python), "start.py", module, role],
                cwd=INSIDE,
                # Ours need `benchmarks`; the last one keeps a library of Agent Lightning from asking for prices.
                env={**os.environ, "PYTHONPATH": str(CHECKOUT), "LITELLM_LOCAL_MODEL_COST_MAP": "True", **settings},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()  # an orderly end may take seconds, and what it would leave in order is removed anyway
        self.process.wait()
        with suppress(BrokenPipeError):  # of a line that it did not read
            self.process.stdin.close()
        self.process.stdout.close()

    def ask(self, *words: object) -> Any:
        """Send a line, and wait for the answer.

        Raises:
            SideError: There is none.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        started = time.monotonic()
        impatience = threading.Timer(ANSWER_SECONDS, self.process.kill)
        impatience.start()
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.startswith(_MARK):
                    return json.loads(line[len(_MARK) :])
        except BrokenPipeError:  # it has ended
            pass
        finally:
            impatience.cancel()
        if time.monotonic() - started >= ANSWER_SECONDS:
            raise SideError(f"{self._name} did not answer within {ANSWER_SECONDS:g} s")
        raise self.ended()

    def check(self) -> None:
        """Fail if the process has ended.

        Raises:
            SideError: It has.
        """
        if self.process.poll() is not None:
            raise self.ended()

    def ended(self) -> SideError:
        """What to raise when the process does not do what it should."""
        return SideError(f"{self._name} did not answer: {reason(self._log.read_text(encoding='utf-8'))}")
