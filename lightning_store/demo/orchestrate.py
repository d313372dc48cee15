"""The demo as a whole: a store, the processes on it, and the closing figures, which decide the exit code."""

import asyncio
import importlib.util
import secrets
import sys
from contextlib import ExitStack
from typing import Final

from lightning_store.addresses import DEFAULT_NAMESPACE
from lightning_store.connect import kind_of, open_store, redact
from lightning_store.contract import LightningStore
from lightning_store.demo.cleaning import remove_remains
from lightning_store.demo.closing import Figures, count
from lightning_store.demo.options import DemoOptions
from lightning_store.demo.processes import Children
from lightning_store.demo.supervisor import DemoError, Supervisor
from lightning_store.demo.training import TrainingResult
from lightning_store.demo.view import View, choose_view
from lightning_store.embedded import EmbeddedRedis
from lightning_store.reachable import check_reachable
from lightning_store.signals import terminable

__all__ = ["DemoError", "DemoOptions", "run_demo"]

PICTURE: Final = "learning_curve.png"
LOGS: Final = "logs"


def run_demo(options: DemoOptions) -> int:
    """Run the demo and print its closing figures.

    Leaving it early, by Ctrl-C or SIGTERM, ends every process that it started and raises KeyboardInterrupt.

    Returns:
        0; 1 if a rollout was lost or finished twice, none was retried after the kill, or the reward did not rise by
        half.

    Raises:
        DemoError: A package of the extra `demo` is missing, or a process of the demo failed.
        EmbeddedRedisError: No Redis was given and none can be started; nothing was started then.
        StoreUnavailableError: The store that was given cannot be reached.
    """
    _check_packages()
    with terminable(), ExitStack() as stack:
        view = choose_view(is_plain=options.plain)
        url = _store_url(options, view, stack)
        namespace = f"demo-{secrets.token_hex(4)}" if kind_of(url) == "redis" else DEFAULT_NAMESPACE
        if options.store_url is not None:
            asyncio.run(_check_empty(open_store(url, namespace)))
            stack.callback(remove_remains, url, namespace)
        environment = {"LIGHTNING_STORE_URL": url, "LIGHTNING_STORE_NAMESPACE": namespace}
        children = stack.enter_context(Children(options.output_dir / LOGS, environment))
        result, figures = asyncio.run(_play(options, open_store(url, namespace), children, view))
    return _close(options, result, figures)


def _check_packages() -> None:
    missing = [name for name in ("numpy", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"the demo needs {' and '.join(missing)}: pip install 'lightning-store[demo]'")


def _store_url(options: DemoOptions, view: View, stack: ExitStack) -> str:
    """URL of the store to use: the one that was given, else that of a Redis that ends with the stack."""
    if options.store_url is not None:
        check_reachable(options.store_url)
        view.tell(f"using {redact(options.store_url)}")
        return options.store_url
    redis = stack.enter_context(EmbeddedRedis())
    view.tell(f"started {redis.binary.name} {redis.binary.version_text} ({redis.pid})")
    return redis.url


async def _check_empty(store: LightningStore) -> None:
    """Refuse a store with work in it: the demo's runners would take it, and the demo removes what it leaves."""
    try:
        if (await store.statistics())["total_rollouts"]:
            raise DemoError("the store has rollouts; the demo needs one that is empty")
    finally:
        await store.close()


async def _play(
    options: DemoOptions, store: LightningStore, children: Children, view: View
) -> tuple[TrainingResult, Figures]:
    supervisor = Supervisor(options, store, children, view)
    try:
        with view:
            result = await supervisor.run()
        return result, await count(store, result, supervisor.accident)
    finally:
        await store.close()


def _close(options: DemoOptions, result: TrainingResult, figures: Figures) -> int:
    """Save the curve, print the figures; the exit code."""
    from lightning_store.demo.picture import save_picture  # noqa: PLC0415 - matplotlib is slow to import

    picture = options.output_dir / PICTURE
    save_picture(result, options.seed, picture)
    complaints = [f"not as it should be: {complaint}" for complaint in figures.complaints()]
    lines = ["", *figures.lines(), f"{'learning curve':<28}{picture}", *complaints]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    return 1 if complaints else 0
