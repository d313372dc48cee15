"""The real Trainer in a process of its own, which has paid for the import already: it is forked from the tests'."""

import multiprocessing
import traceback
from collections.abc import Callable
from typing import Any

FORK = multiprocessing.get_context("fork")
PATIENCE = 60


class Forked:
    """Work in a forked process; for what leaves marks on its process, or forks itself.

    To be made on the main thread: a process that another thread has forked cannot end its own children's children well.
    """

    def __init__(self, work: Callable[[], Any]) -> None:
        """Start it."""
        self._here, there = FORK.Pipe(duplex=False)

        def run() -> None:
            try:
                there.send(("done", work()))
            except BaseException:  # noqa: BLE001 - it is told to the test
                there.send(("failed", traceback.format_exc()))

        self._process = FORK.Process(target=run)
        self._process.start()
        there.close()

    def result(self) -> Any:
        """What it returned.

        Raises:
            AssertionError: It failed, with its traceback, or took too long.
        """
        try:
            assert self._here.poll(PATIENCE), "the process took too long"
            outcome, value = self._here.recv()
        finally:
            self._process.join(5)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        assert outcome == "done", value
        return value


def in_a_process(work: Callable[[], Any]) -> Any:
    """What `work` returns, done in a forked process."""
    return Forked(work).result()
