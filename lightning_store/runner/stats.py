"""What a runner tells of itself with its heartbeats."""

import os
import platform
import socket
import threading
import time
from collections import Counter
from typing import Any

import psutil


class RunnerStats:
    """Counts and facts of one process; may be used from any thread.

    Attributes:
        last_poll: When a claim got through last, in seconds since the epoch; None before the first.
    """

    def __init__(self, concurrency: int) -> None:
        self._lock = threading.Lock()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first reading is 0 and starts the interval of the next
        self._counts: Counter[str] = Counter({"succeeded": 0, "failed": 0, "released": 0, "interrupted": 0})
        self.last_poll: float | None = None
        self._fixed = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "concurrency": concurrency,
            "started_time": time.time(),
        }

    def count(self, outcome: str) -> None:
        """One more attempt ended in this way."""
        with self._lock:
            self._counts[outcome] += 1

    def polled(self) -> None:
        """A claim got through, with or without work."""
        self.last_poll = time.time()

    @property
    def attempts(self) -> dict[str, int]:
        """How many attempts ended in which way."""
        with self._lock:
            return dict(self._counts)

    def read(self) -> dict[str, Any]:
        """Everything, as JSON.

        Returns:
            Among others `cpu_percent` (of one core, since the last reading), `rss_bytes`, `last_successful_poll`
            (seconds since the epoch; None before the first) and how many attempts ended in which way.
        """
        with self._process.oneshot():
            facts = {
                "cpu_percent": self._process.cpu_percent(),
                "rss_bytes": self._process.memory_info().rss,
                "threads": self._process.num_threads(),
            }
        load = os.getloadavg()[0]
        return {**self._fixed, **facts, "load": load, "last_successful_poll": self.last_poll, "attempts": self.attempts}
