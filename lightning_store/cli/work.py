"""`lightning-store run` and `lightning-store healthcheck`: the processes of a fleet."""

from typing import Annotated, Final

import typer

from lightning_store.cli.options import Debug, Namespace, StoreUrl, Target, finished_statuses, one_of, target
from lightning_store.errors import LightningStoreError
from lightning_store.exits import CommandError, ExitCode

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s"

LogLevel = Annotated[str, typer.Option(metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR; logs go to stderr.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("healthcheck")(healthcheck)
    app.command("run")(run)


def healthcheck(
    *,
    interval: Annotated[float, typer.Option(min=0.02, help="Most seconds between two sweeps.")] = 5.0,
    batch: Annotated[int, typer.Option(min=1, help="Most deadlines that one call settles.")] = 500,
    silent_seconds: Annotated[
        float, typer.Option(min=0, help="Workers without a sign of life for so long become unknown.")
    ] = 120.0,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Answer GET /healthz and GET /metrics here; 0 = a free port.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 = all.")] = "127.0.0.1",
    prune_older_than: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Remove what finished longer ago.")
    ] = None,
    keep_latest: Annotated[
        int | None, typer.Option(min=0, metavar="NUMBER", help="Keep so many that finished last, remove others.")
    ] = None,
    prune_status: Annotated[
        list[str] | None, typer.Option(help="Remove only what ended in these statuses; repeat or use commas.")
    ] = None,
    prune_consumed: Annotated[
        bool, typer.Option("--prune-consumed", help="Remove only what every registered consumer has passed.")
    ] = False,
    prune_interval: Annotated[float, typer.Option(min=0.02, help="Seconds between two prunes.")] = 60.0,
    eviction_memory_threshold: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Evict spans when so much of its memory is used; else 0.7.")
    ] = None,
    safe_memory_threshold: Annotated[
        float | None, typer.Option(min=0.01, max=1, help="Evict until so much is used; else 80 % of the above.")
    ] = None,
    log_level: LogLevel = "INFO",
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    debug: Debug = False,
) -> int:
    """Settle late attempts and silent workers; prune, if told to, and evict spans when memory runs short.

    Runs until Ctrl-C or SIGTERM. Any number of these may run. Without an option that says what to prune, nothing is.
    """
    from lightning_store.healthcheck import HealthCheckOptions, run_healthcheck  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.retention import RetentionOptions  # noqa: PLC0415

    retention = RetentionOptions(
        older_than_seconds=prune_older_than,
        keep_latest=keep_latest,
        status_in=finished_statuses(prune_status, "--prune-status"),
        consumed=prune_consumed,
        interval=prune_interval,
    )
    place = target(store_url, namespace)
    log_at(log_level)
    check_access(place)
    options = HealthCheckOptions(
        store_url=place.url,
        namespace=place.namespace,
        interval=interval,
        batch=batch,
        silent_seconds=silent_seconds,
        port=port,
        host=host,
        retention=retention,
        eviction_memory_threshold=eviction_memory_threshold,
        safe_memory_threshold=safe_memory_threshold,
    )
    try:
        return run_healthcheck(options)
    except OSError as error:
        if port is None or isinstance(error, LightningStoreError):
            raise
        reason = error.strerror or str(error)
        raise CommandError(f"--port: cannot listen on {host}:{port}: {reason}", ExitCode.USAGE) from error


def run(
    *,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Where the agent is: package.module:function.")],
    concurrency: Annotated[int, typer.Option(min=1, help="Rollouts at once, per process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, help="Processes; one that dies is started again.")] = 1,
    queue: Annotated[
        list[str] | None, typer.Option(help="Queue to claim from; repeat it for others, first come first.")
    ] = None,
    lease_seconds: Annotated[
        float, typer.Option(help="Longest silence of a runner before its rollouts go to others.")
    ] = 60.0,
    grace_seconds: Annotated[
        float, typer.Option(min=0, help="Time for running agents to finish after SIGTERM; the rest is handed back.")
    ] = 30.0,
    worker_id: Annotated[str | None, typer.Option(help="Name of the workers; else host and process id.")] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Answer GET /metrics here, of further processes at the next ports; 0 = free ports."
        ),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address to answer it on; 0.0.0.0 = all.")] = "127.0.0.1",
    log_level: LogLevel = "INFO",
    store_url: StoreUrl = None,
    namespace: Namespace = None,
    debug: Debug = False,
) -> int:
    """Run an agent on rollouts.

    Runs until Ctrl-C or SIGTERM: then it claims no more, lets agents finish for the grace time and hands the rest back.
    """
    from lightning_store.runner.command import run_runner  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.runner.options import RunnerOptions  # noqa: PLC0415

    place = target(store_url, namespace)
    level = log_at(log_level)
    options = RunnerOptions(
        agent=agent,
        store_url=place.url,
        namespace=place.namespace,
        concurrency=concurrency,
        processes=processes,
        lease_seconds=lease_seconds,
        grace_seconds=grace_seconds,
        worker_id=worker_id,
        log_level=level,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        **({"queues": tuple(queue)} if queue else {}),
    )
    check_access(place)
    return run_runner(options)


def check_access(place: Target) -> LightningStoreError | None:
    """Refuse a wrong password at once and in one line.

    Returns:
        Why the store does not answer, if it does not; it is waited for by what follows.

    Raises:
        AccessDeniedError: The server does not let us in.
    """
    from lightning_store.errors import StoreUnavailableError  # noqa: PLC0415 - keeps `--help` fast
    from lightning_store.reachable import check_reachable  # noqa: PLC0415

    try:
        check_reachable(place.url)
    except StoreUnavailableError as error:
        return error
    return None


def log_at(level: str) -> str:
    """Send logs of this level and above to standard error; the level's name."""
    name: str = one_of(level.upper(), LOG_LEVELS, "--log-level")
    import logging  # noqa: PLC0415 - keeps `--help` fast

    logging.basicConfig(level=name, format=LOG_FORMAT)
    return name
