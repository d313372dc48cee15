"""Starts a runner or a daemon as a process: `python -m tests.support.run_process runner '{"agent": ...}'`."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]


def start(kind: str, log: Path, **options: Any) -> "subprocess.Popen[bytes]":
    """Start a process with the options of `RunnerOptions` or `HealthCheckOptions`; its output goes to a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.run_process", kind, json.dumps(options)],
            cwd=ROOT, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip


def _main(kind: str, options: dict[str, Any]) -> int:
    from lightning_store.errors import InvalidRequestError  # noqa: PLC0415 - the parent needs none of this
    from lightning_store.healthcheck import HealthCheckOptions, run_healthcheck  # noqa: PLC0415
    from lightning_store.runner.command import run_runner  # noqa: PLC0415
    from lightning_store.runner.options import RunnerOptions  # noqa: PLC0415

    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(process)d %(message)s")
    try:
        if kind == "runner":
            return run_runner(RunnerOptions(**options))
        return run_healthcheck(HealthCheckOptions(**options))
    except InvalidRequestError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], json.loads(sys.argv[2])))
