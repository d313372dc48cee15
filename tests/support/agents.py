"""Agents that runner processes import in tests; a rollout's input may name a file whose existence they wait for."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any


def quick(rollout: Any, resources: Any, tracer: Any) -> float:
    """One span and a reward, at once."""
    with tracer.start_as_current_span("step"):
        return 1.0


def slow(rollout: Any, resources: Any, tracer: Any) -> float:
    """The same, in some milliseconds."""
    with tracer.start_as_current_span("step"):
        time.sleep(0.02)
    return 1.0


def slower(rollout: Any, resources: Any, tracer: Any) -> float:
    """Two spans, in a seventh of a second."""
    for name in ("first", "second"):
        with tracer.start_as_current_span(name):
            time.sleep(0.07)
    return float(rollout.input)


def mortal(rollout: Any, resources: Any, tracer: Any) -> float:
    """Some inputs are poison: one kills the process as the lack of memory does, the other as a library's abort."""
    if rollout.input == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if rollout.input == "exit":
        os._exit(1)
    return quick(rollout, resources, tracer)


async def as_told(rollout: Any, resources: Any, tracer: Any) -> float:
    """One span; then it ends as its input says: `fail`, or `hang` until it is cancelled, else well."""
    with tracer.start_as_current_span("step"):
        pass
    if rollout.input == "fail":
        raise ValueError("as told")
    if rollout.input == "hang":
        await asyncio.Event().wait()
    return 1.0


async def patient(rollout: Any, resources: Any, tracer: Any) -> float:
    """Waits for its file."""
    while not Path(rollout.input).exists():  # noqa: ASYNC110, ASYNC240 - a file is what a test can make
        await asyncio.sleep(0.01)
    return 1.0


async def blocking(rollout: Any, resources: Any, tracer: Any) -> float:
    """Waits for its file without letting the loop run."""
    while not Path(rollout.input).exists():  # noqa: ASYNC240
        time.sleep(0.01)  # noqa: ASYNC251 - what agents should not do, and do
    return 1.0


not_callable = 1
