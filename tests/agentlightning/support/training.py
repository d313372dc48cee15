"""The real Trainer in a process of its own, which has paid for the import already: it is forked from the tests'."""

import asyncio
import multiprocessing
import traceback
from collections.abc import Callable
from typing import Any

FORK = multiprocessing.get_context("fork")
PATIENCE = 60


def in_a_process(work: Callable[[], Any]) -> Any:
    """What `work` returns, done in a forked process; for what leaves marks on its process, or forks itself.

    Raises:
        AssertionError: It failed, with its traceback, or took too long.
    """
    here, there = FORK.Pipe(duplex=False)

    def run() -> None:
        try:
            there.send(("done", work()))
        except BaseException:  # noqa: BLE001 - it is told to the test
            there.send(("failed", traceback.format_exc()))

    process = FORK.Process(target=run)
    process.start()
    there.close()
    try:
        assert here.poll(PATIENCE), "the process took too long"
        outcome, value = here.recv()
    finally:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
    assert outcome == "done", value
    return value


async def in_a_process_meanwhile(work: Callable[[], Any]) -> Any:
    """The same, while the loop goes on."""
    return await asyncio.to_thread(in_a_process, work)
