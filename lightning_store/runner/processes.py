"""Several runner processes under one parent, which runs no agents."""

import json
from dataclasses import replace
from typing import Final

from lightning_store.runner.options import RunnerOptions
from lightning_store.supervision import Launch, Supervisor, Upkeep, supervise

KILL_SECONDS: Final = 30.0
"""After the grace time: then a process that still runs is killed."""


def run_processes(options: RunnerOptions) -> int:
    """Run `options.processes` processes until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 when all processes ended as they were told; 2 when they cannot start, because an option is out
        of bounds or the agent cannot be imported; 5 when one did not end by itself or ended badly; 130 or 143 after a
        second signal.
    """
    return supervise(lambda: _RunnerSupervisor(options))


class _RunnerSupervisor(Supervisor):
    def __init__(self, options: RunnerOptions) -> None:
        upkeep = Upkeep(
            name="process",
            died="died",
            may_finish=True,
            first_pause_seconds=0.5,
            longest_pause_seconds=30.0,
            patience_seconds=options.grace_seconds + KILL_SECONDS,
        )
        super().__init__(options.processes, upkeep)
        self._options = options

    def _launch(self, number: int) -> Launch:
        # The URL in it has a password.
        order = json.dumps(self._options_of(number).as_json()).encode() + b"\n"
        return Launch("lightning_store.runner.child", order)

    def _options_of(self, number: int) -> RunnerOptions:
        name, port = self._options.worker_id, self._options.metrics_port
        return replace(
            self._options,
            processes=1,
            worker_id=None if name is None else f"{name}-{number}",
            metrics_port=port + number if port else port,
        )
