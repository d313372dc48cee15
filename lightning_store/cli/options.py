"""Options that many commands share, and what they lead to."""

import os
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from lightning_store import addresses
from lightning_store.addresses import DEFAULT_NAMESPACE
from lightning_store.exits import CommandError, ExitCode

if TYPE_CHECKING:
    from lightning_store.contract import LightningStore

URL_VARIABLE: Final = addresses.URL_VARIABLE
NAMESPACE_VARIABLE: Final = addresses.NAMESPACE_VARIABLE

T = TypeVar("T")


@dataclass
class Session:
    """What the report of an error has to know of the command that is running.

    Attributes:
        debug: Show tracebacks; set by `--debug` before any other option is looked at.
        url: The store's URL, whose secrets must not show; None before it is known.
    """

    debug: bool = False
    url: str | None = None

    def start(self) -> None:
        """Forget an earlier command of this process."""
        self.debug, self.url = False, None


SESSION: Final = Session()


def _set_debug(value: bool) -> None:
    SESSION.debug = SESSION.debug or value


Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, is_eager=True, help="Show the traceback of an error.")
]
# Not typer's envvar=: it would print the value, password included, among the defaults of some versions.
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", "--redis-url", metavar="URL", help=f"Where it is; else the variable {URL_VARIABLE}."),
]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", metavar="NAME", help=f"Which store there; else {NAMESPACE_VARIABLE}, else 'default'."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class Target:
    """The store that a command works on; its text form has no secrets."""

    url: str
    namespace: str

    def __repr__(self) -> str:
        from lightning_store.connect import kind_of, redact  # noqa: PLC0415 - keeps `--help` fast

        namespace = f" (namespace {self.namespace})" if kind_of(self.url) == "redis" else ""
        return f"{redact(self.url)}{namespace}"


def target(store_url: str | None, namespace: str | None) -> Target:
    """The store to work on, from the options or else the environment.

    Raises:
        CommandError: There is no URL.
        InvalidRequestError: The URL cannot be read, or the namespace is no name.
    """
    from lightning_store.connect import check_namespace, check_url  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.requests import check_name  # noqa: PLC0415

    url = store_url or os.environ.get(URL_VARIABLE)
    if not url:
        hint = f"pass --store or set {URL_VARIABLE} (`lightning-store up` starts one and says how)"
        raise CommandError(f"no store given: {hint}", ExitCode.USAGE)
    SESSION.url = url
    check_url(url)
    name = check_name(namespace or os.environ.get(NAMESPACE_VARIABLE) or DEFAULT_NAMESPACE, "namespace")
    check_namespace(url, name)
    return Target(url, name)


@asynccontextmanager
async def opened(target: Target, max_queued: int | None = None) -> "AsyncGenerator[LightningStore, None]":
    """The store of a target, open; a server that does not answer is told at once, not after retries.

    Args:
        target: The store.
        max_queued: Most rollouts that may wait in each queue; None = no limit.

    Raises:
        StoreUnavailableError: The server cannot be reached.
    """
    import asyncio  # noqa: PLC0415 - keeps `--help` fast

    from lightning_store.connect import open_store  # noqa: PLC0415
    from lightning_store.reachable import check_reachable  # noqa: PLC0415

    await asyncio.to_thread(check_reachable, target.url)
    settings = {} if max_queued is None else {"max_queued": max_queued}
    store = open_store(target.url, target.namespace, **settings)
    try:
        yield store
    finally:
        await store.close()


def with_store(
    target: Target, work: "Callable[[LightningStore], Coroutine[Any, Any, T]]", max_queued: int | None = None
) -> T:
    """Run a coroutine function on the open store and return what it returns."""
    import asyncio  # noqa: PLC0415 - keeps `--help` fast

    async def run() -> T:
        async with opened(target, max_queued) as store:
            return await work(store)

    return asyncio.run(run())


def one_of(value: str | None, allowed: Sequence[str], option: str) -> Any:
    """`value`, which must be one of the allowed ones or None.

    Raises:
        CommandError: It is another.
    """
    if value is not None and value not in allowed:
        raise CommandError(f"{option}: expected one of {', '.join(allowed)}, got {value!r}", ExitCode.USAGE)
    return value


def each_of(values: Sequence[str] | None, allowed: Sequence[str], option: str) -> Any:
    """The allowed values named by a repeatable option, each use of which may hold several with commas; None if none.

    Raises:
        CommandError: One is not allowed.
    """
    if not values:
        return None
    return [one_of(part.strip(), allowed, option) for value in values for part in value.split(",")]


def finished_statuses(values: Sequence[str] | None, option: str) -> Any:
    """The finished statuses that a repeatable option names; None if it was not given.

    Raises:
        CommandError: One is not finished.
    """
    from lightning_store.status import FINISHED, ROLLOUT_STATUSES  # noqa: PLC0415 - keeps `--help` fast

    return each_of(values, [status for status in ROLLOUT_STATUSES if status in FINISHED], option)


def given_ids(values: Sequence[str] | None) -> list[str]:
    """The ids on the command line, each once, in order; those on standard input where one of them is "-"."""
    ids: dict[str, None] = {}
    for value in values or ():
        ids.update(dict.fromkeys(sys.stdin.read().split() if value == "-" else [value]))
    return list(ids)
