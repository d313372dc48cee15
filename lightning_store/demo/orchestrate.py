"""The demo as a whole: a Redis, the processes on it, and the closing figures, which decide the exit code."""

import asyncio
import importlib.util
import secrets
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from lightning_store.connect import open_store, redact
from lightning_store.demo.cleaning import remove_namespace
from lightning_store.demo.closing import Figures, count
from lightning_store.demo.options import DemoOptions
from lightning_store.demo.processes import Children
from lightning_store.demo.supervisor import DemoError, Supervisor
from lightning_store.demo.training import TrainingResult
from lightning_store.demo.view import View, choose_view
from lightning_store.embedded import EmbeddedRedis
from lightning_store.serverinfo import check_reachable
from lightning_store.signals import terminable

if TYPE_CHECKING:
    from lightning_store.backends.redis.store import RedisLightningStore

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
        StoreUnavailableError: The Redis that was given cannot be reached.
    """
    _check_packages()
    with terminable(), ExitStack() as stack:
        view = choose_view(is_plain=options.plain)
        url = _redis(options, view, stack)
        namespace = f"demo-{secrets.token_hex(4)}"
        if options.redis_url is not None:
            stack.callback(remove_namespace, url, namespace)
        environment = {"LIGHTNING_STORE_URL": url, "LIGHTNING_STORE_NAMESPACE": namespace}
        children = stack.enter_context(Children(options.output_dir / LOGS, environment))
        result, figures = asyncio.run(_play(options, open_store(url, namespace), children, view))
    return _close(options, result, figures)


def _check_packages() -> None:
    missing = [name for name in ("numpy", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"the demo needs {' and '.join(missing)}: pip install 'lightning-store[demo]'")


def _redis(options: DemoOptions, view: View, stack: ExitStack) -> str:
    """URL of the Redis to use: the one that was given, else one that ends with the stack."""
    if options.redis_url is not None:
        check_reachable(options.redis_url)
        view.tell(f"using {redact(options.redis_url)}")
        return options.redis_url
    redis = stack.enter_context(EmbeddedRedis())
    view.tell(f"started {redis.binary.name} {redis.binary.version_text} ({redis.pid})")
    return redis.url


async def _play(
    options: DemoOptions, store: "RedisLightningStore", children: Children, view: View
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
