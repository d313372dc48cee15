"""One of several runner processes; started by its parent with the number of a pipe, and ended when that closes."""

import json
import logging
import os
import sys
from functools import partial
from typing import Final

from lightning_store.connect import redact
from lightning_store.errors import LightningStoreError
from lightning_store.exits import ExitCode, exit_code_of
from lightning_store.runner.command import exit_for_certain, run_here
from lightning_store.runner.options import RunnerOptions
from lightning_store.runner.runner import Runner
from lightning_store.supervision import CHILD_LOG_FORMAT, end_with_parent

ORPHAN_GRACE_SECONDS: Final = 5.0
ORPHAN_END_SECONDS: Final = 20.0


def main() -> int:
    """Run as the parent says, until a signal, or until the parent is gone."""
    lifeline = int(sys.argv[1])
    os.set_inheritable(lifeline, False)  # what agents start must not be bound to it
    with os.fdopen(os.dup(lifeline), "rb", buffering=0) as pipe:
        line = pipe.readline()
    if not line:
        return ExitCode.OK
    options = RunnerOptions.from_json(json.loads(line))
    logging.basicConfig(level=options.log_level, format=CHILD_LOG_FORMAT)
    try:
        run_here(options, lambda runner: _end_with_parent(lifeline, runner))
        exit_for_certain(ExitCode.OK)
    except LightningStoreError as error:
        sys.stderr.write(f"error: {redact(str(error), options.store_url)}\n")
        return exit_code_of(error)
    return ExitCode.OK


def _end_with_parent(lifeline: int, runner: Runner) -> None:
    # In the end by force, because an agent may hold the loop.
    stop = partial(runner.stop, ORPHAN_GRACE_SECONDS)
    end_with_parent(lifeline, stop, ORPHAN_GRACE_SECONDS + ORPHAN_END_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
