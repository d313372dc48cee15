"""The peers and their versions, each in a virtual environment of its own that is made once."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measuring import NotMeasuredError

FOLDER: Final = Path(__file__).parents[1] / ".venvs"
_MADE: Final = "made-of.txt"
_SECONDS: Final = 1800


@dataclass(frozen=True)
class Peer:
    """Something that is measured beside the store.

    Attributes:
        package: Whose version is told.
        requirements: What its environment holds.
        speed: Jobs per second that it does about; how many it is given follows from that.
    """

    package: str
    requirements: tuple[str, ...]
    speed: int = 0


QUEUES: Final = {
    "dramatiq": Peer("dramatiq", ("dramatiq[redis]>=2.2,<2.3", "hiredis>=3.0"), 1500),
    "taskiq": Peer("taskiq-redis", ("taskiq-redis>=1.2,<1.3", "taskiq>=0.13,<0.14", "hiredis>=3.0"), 1000),
    "arq": Peer("arq", ("arq>=0.28,<0.29",), 1000),
    # It imports typing_extensions without asking for it.
    "saq": Peer("saq", ("saq[redis,hiredis]>=0.26,<0.27", "typing_extensions>=4.0"), 1000),
    "streaq": Peer("streaq", ("streaq>=7.2,<7.3",), 800),
    "rq": Peer("rq", ("rq>=3.0,<3.1", "hiredis>=3.0"), 250),
    "celery": Peer("celery", ("celery[redis]>=5.7,<5.8", "hiredis>=3.0"), 800),
}
"""Queues on Redis."""

AGENT_LIGHTNING: Final = "agent-lightning"

PEERS: Final = {
    **QUEUES,
    # Later exporters have no module any more that 0.3.0 imports.
    AGENT_LIGHTNING: Peer("agentlightning", ("agentlightning==0.3.0", "opentelemetry-exporter-otlp<1.45")),
}


def python_of(name: str, folder: Path = FOLDER) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there or was made of something else.

    Raises:
        NotMeasuredError: The environment cannot be made.
    """
    home, requirements = folder / name, PEERS[name].requirements
    python, made = home / "bin" / "python", home / _MADE
    wanted = "\n".join((sys.version, *requirements))
    if made.is_file() and made.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
    made.write_text(wanted, encoding="utf-8")
    return python


def version_of(name: str, python: Path) -> str:
    """The version of a peer that is installed."""
    code = f"from importlib.metadata import version; print(version({PEERS[name].package!r}))"
    return f"{PEERS[name].package} {_run([str(python), '-c', code]).strip()}"


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the commands are those above
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotMeasuredError(f"its environment was not made within {_SECONDS} s") from None
    if done.returncode != 0:
        raise NotMeasuredError(f"its environment cannot be made: {reason(done.stderr)}")
    return done.stdout


def reason(log: str) -> str:
    """The line of a log that tells what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["it said nothing"])[-1]
