"""One round of one contender on an empty server: enqueue, start a worker, let it do all, let it pick up single jobs."""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis import Redis

from benchmarks.peers.outcomes import Outcome, outcome
from benchmarks.peers.sides import ANSWER_SECONDS, Side

IDLE_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True)
class Contender:
    """Who does jobs.

    Attributes:
        module: Its module in the folder `inside`.
        python: The interpreter of its environment.
        jobs: How many it is given.
        pickups: How many of these are measured after that; 0 = none.
        stored: Whether results are stored.
    """

    module: str
    jobs: int
    pickups: int
    python: Path = Path(sys.executable)
    stored: bool = True


def run_round(contender: Contender, url: str) -> Outcome:
    """Run the contender once; all keys of the server are removed first.

    Raises:
        SideError: A process of the contender failed.
        AssertionError: A job did not run, or ran twice.
    """
    with tempfile.TemporaryDirectory() as name, Redis.from_url(url) as server:
        folder = Path(name)
        server.flushall()
        settings = {
            "BENCH_REDIS_URL": url,
            "BENCH_FOLDER": name,
            "BENCH_JOBS": str(contender.jobs),
            "BENCH_PICKUPS": str(contender.pickups),
            "BENCH_RESULTS": "stored" if contender.stored else "dropped",
        }
        with _side(contender, "feed", settings) as feeder:
            enqueuing = feeder.ask("jobs", contender.jobs)
            before = _cpu_seconds(server)
            with _side(contender, "work", settings) as worker:
                jobs = _written(worker, folder / "jobs.json")
                redis_seconds = _cpu_seconds(server) - before
                pickups = None
                if contender.pickups:
                    time.sleep(IDLE_SECONDS)
                    feeder.ask("pickups", contender.pickups)
                    pickups = _written(worker, folder / "pickups.json")
    return outcome(contender.jobs, enqueuing, redis_seconds, jobs, pickups)


def _side(contender: Contender, role: str, settings: Mapping[str, str]) -> Side:
    log = Path(settings["BENCH_FOLDER"]) / f"{role}.log"
    return Side(contender.python, contender.module, role, log, settings)


def _written(worker: Side, file: Path) -> Any:
    """What the worker writes when it has done all that is expected."""
    end = time.monotonic() + ANSWER_SECONDS
    while not file.exists():
        worker.check()
        if time.monotonic() > end:
            raise worker.ended()
        time.sleep(_LOOK_SECONDS)
    return json.loads(file.read_text(encoding="utf-8"))


def _cpu_seconds(server: Redis) -> float:
    cpu: Any = server.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
