"""Exit codes of the command line: what they mean, which error leads to which, and the table of them in docs/cli.md."""

from enum import IntEnum
from typing import Final

from lightning_store.errors import (
    AccessDeniedError,
    InvalidRequestError,
    LightningStoreError,
    NotFoundError,
    QueueFullError,
    SpansEvictedError,
    StoreUnavailableError,
)


class ExitCode(IntEnum):
    """What the command line says to the shell; the only list of these numbers."""

    OK = 0
    NO = 1
    USAGE = 2
    UNAVAILABLE = 3
    NOT_FOUND = 4
    FAILED = 5
    INTERRUPTED = 130
    PIPE_CLOSED = 141
    TERMINATED = 143


MEANINGS: Final[dict[ExitCode, str]] = {
    ExitCode.OK: (
        "Done; for commands that go on (`up`, `run`, `serve`, `healthcheck`, `status --watch`): stopped as asked."
    ),
    ExitCode.NO: (
        "The command worked and the answer is no: `doctor` found something wrong, `audit` something that it did not "
        "mend, `wait` saw a rollout that did not succeed or did not finish in time, a rollout could not be cancelled "
        "or retried as it is, `prune --consumed` found no consumer."
    ),
    ExitCode.USAGE: "The command line, its URL, or its input (a line of JSONL) is wrong; nothing was changed.",
    ExitCode.UNAVAILABLE: "The store cannot be reached, refuses access, or has no memory left; a queue has no room.",
    ExitCode.NOT_FOUND: "A rollout or attempt that was named does not exist, or its spans were evicted.",
    ExitCode.FAILED: "Anything else: another schema version, no server program, a fault of ours (see `--debug`).",
    ExitCode.INTERRUPTED: "Interrupted by Ctrl-C; for commands that go on, by a second one.",
    ExitCode.PIPE_CLOSED: "The reader of the output went away, as `head -1` does.",
    ExitCode.TERMINATED: "Ended by SIGTERM; for commands that go on, by a second one.",
}

_BY_ERROR: Final[tuple[tuple[type[LightningStoreError], ExitCode], ...]] = (
    (InvalidRequestError, ExitCode.USAGE),
    (StoreUnavailableError, ExitCode.UNAVAILABLE),
    (QueueFullError, ExitCode.UNAVAILABLE),
    (AccessDeniedError, ExitCode.UNAVAILABLE),
    (NotFoundError, ExitCode.NOT_FOUND),
    (SpansEvictedError, ExitCode.NOT_FOUND),
)


class CommandError(Exception):
    """Ends a command with one line on standard error.

    Attributes:
        exit_code: What the process ends with.
    """

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code for an error that a command did not catch."""
    if isinstance(error, CommandError):
        return error.exit_code
    for kind, exit_code in _BY_ERROR:
        if isinstance(error, kind):
            return exit_code
    return ExitCode.FAILED


def render_markdown() -> str:
    """The table of exit codes in docs/cli.md."""
    rows = [f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows]) + "\n"
