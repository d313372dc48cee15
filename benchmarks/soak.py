"""Many rollouts through a namespace that keeps few: does memory stay bounded? `python -m benchmarks.soak`, minutes.

Worker processes enqueue, claim, add spans and report; a daemon prunes meanwhile. The memory is compared when all is
quiet: after the first rollouts, and at the end.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from lightning_store import RedisLightningStore
from lightning_store.embedded import EmbeddedRedis
from lightning_store.healthcheck import HealthCheck
from lightning_store.records import AuditReport, EnqueueRolloutRequest
from lightning_store.retention import RetentionOptions
from lightning_store.signals import stop_on_signals
from lightning_store.spans import OtelResource, Span, TraceStatus

RESULTS = Path(__file__).parent / "soak.md"
NAMESPACE = "soak"
WORKERS = 2
COROUTINES = 16
BULK = 10
SPANS = 3
LEASE_SECONDS = 30.0
TOKEN_SECONDS = 6
MOST_GROWTH = 0.1
MIB = 1024 * 1024


@dataclass(frozen=True)
class Look:
    """The memory at one time; `seconds` since the beginning."""

    rollouts: int
    seconds: float
    used: int
    when: str


def open_soaked(url: str, events_kept: int) -> RedisLightningStore:
    """The store as every process of the soak has to open it: with answers that are kept for a few seconds only."""
    return RedisLightningStore(
        url,
        namespace=NAMESPACE,
        token_seconds=TOKEN_SECONDS,
        retry_seconds=TOKEN_SECONDS / 2,
        socket_seconds=TOKEN_SECONDS / 2,
        events_kept=events_kept,
    )


# -- processes ---------------------------------------------------------------------------------------------------------


async def work(store: RedisLightningStore, rollouts: int, name: str) -> None:
    """Bring so many rollouts from their queue to their end, in many coroutines."""
    left = rollouts

    async def live(number: int) -> None:
        nonlocal left
        while left > 0:
            count = min(BULK, left)
            left -= count
            await store.enqueue_many_rollouts(
                [EnqueueRolloutRequest(input={"question": "x" * 200}, metadata={"n": n}) for n in range(count)]
            )
            for _ in range(count):
                claimed = await store.dequeue_rollout(f"{name}-{number}", lease_seconds=LEASE_SECONDS)
                assert claimed is not None
                rollout_id, attempt_id = claimed.rollout_id, claimed.attempt.attempt_id
                spans = [span_of(rollout_id, attempt_id, n) for n in range(1, SPANS + 1)]
                assert len(await store.add_many_spans(spans)) == SPANS
                await store.update_attempt(rollout_id, attempt_id, status="succeeded")

    await asyncio.gather(*map(live, range(COROUTINES)))
    await store.close()


def span_of(rollout_id: str, attempt_id: str, number: int) -> Span:
    """A span of about a kilobyte."""
    return Span(
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        sequence_id=number,
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id=f"{number:016x}",
        parent_id=None,
        name="step",
        status=TraceStatus(status_code="OK"),
        attributes={"text": "word " * 160},
        events=[],
        links=[],
        start_time=1_700_000_000.5,
        end_time=1_700_000_001.5,
        context=None,
        parent=None,
        resource=OtelResource(attributes={}, schema_url=""),
    )


def be_daemon(store: RedisLightningStore, keep: int) -> None:
    """The healthcheck daemon, as `lightning-store healthcheck --keep-latest` runs it."""
    daemon = HealthCheck(store, silent_seconds=86_400, retention=RetentionOptions(keep_latest=keep, interval=0.5))

    async def run() -> None:
        await daemon.run()
        await store.close()

    with stop_on_signals(daemon.stop):
        asyncio.run(run())


def command(options: argparse.Namespace, url: str, *words: str) -> list[str]:
    """The command of a process of this soak."""
    shared = ["--redis-url", url, "--keep", str(options.keep), "--events-kept", str(options.events_kept)]
    return [sys.executable, "-m", "benchmarks.soak", *shared, *words]


@contextmanager
def daemon(options: argparse.Namespace, url: str) -> Iterator[None]:
    """A daemon that prunes."""
    process = subprocess.Popen(command(options, url, "--role", "daemon"))  # noqa: S603 - this very program
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


# -- the soak ----------------------------------------------------------------------------------------------------------


def soak(options: argparse.Namespace, url: str) -> list[Look]:
    """Run it; what was seen of the memory.

    Raises:
        AssertionError: A rollout was lost, or the audit found something.
    """
    looks: list[Look] = []
    began = time.monotonic()
    with redis.Redis.from_url(url) as client, daemon(options, url):
        for first, last in ((0, options.first), (options.first, options.rollouts)):
            run_phase(options, url, client, looks, (first, last), began)
            wait_until_quiet(client, options.keep)
            looks.append(look(client, last, began, "quiet"))
    report = asyncio.run(_audit(open_soaked(url, options.events_kept)))
    assert not report.findings, report
    assert report.rollouts == options.keep, report
    return looks


async def _audit(store: RedisLightningStore) -> AuditReport:
    try:
        return await store.audit()
    finally:
        await store.close()


def run_phase(
    options: argparse.Namespace,
    url: str,
    client: "redis.Redis",
    looks: list[Look],
    span: tuple[int, int],
    began: float,
) -> None:
    """Let the workers bring rollouts to their end, and look at the memory now and then."""
    first, last = span
    share, rest = divmod(last - first, WORKERS)
    workers = [
        subprocess.Popen(command(options, url, "--role", "worker", "--share", str(each)))  # noqa: S603 - this program
        for each in (share + (number < rest) for number in range(WORKERS))
    ]
    due = first + options.first
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.2)
        created = int(client.hget(f"{{ls:{NAMESPACE}}}:meta", "number") or 0)  # the few names of workers count too
        if created >= due:
            looks.append(look(client, min(created, last), began, "under load"))
            due += options.first
    assert [worker.returncode for worker in workers] == [0] * WORKERS


def wait_until_quiet(client: "redis.Redis", keep: int) -> None:
    """Until everything is pruned and answers that were kept for repeats are gone."""
    until = time.monotonic() + 120
    while client.zcard(f"{{ls:{NAMESPACE}}}:rollouts") > keep:
        assert time.monotonic() < until, "the daemon does not keep up"
        time.sleep(0.1)
    time.sleep(TOKEN_SECONDS + 1)
    while any(client.scan_iter(f"{{ls:{NAMESPACE}}}:ops:*", count=1000)):
        assert time.monotonic() < until, "answers do not expire"
        time.sleep(0.5)


def look(client: "redis.Redis", rollouts: int, began: float, when: str) -> Look:
    """What the server uses now."""
    return Look(rollouts, time.monotonic() - began, client.info("memory")["used_memory"], when)


# -- the page ----------------------------------------------------------------------------------------------------------


def render(options: argparse.Namespace, looks: Sequence[Look], version: str) -> str:
    """The results as a page."""
    first, end = (each for each in looks if each.when == "quiet")
    growth = end.used / first.used - 1
    rows = "\n".join(
        f"| {each.rollouts:,} | {each.when} | {each.seconds:.0f} | {each.used / MIB:.2f} |" for each in looks
    )
    return f"""# Soak: memory stays bounded

`make soak`: {options.rollouts:,} rollouts through a namespace that keeps {options.keep:,}. {WORKERS} worker processes
of {COROUTINES} coroutines each enqueue, claim with a lease, add {SPANS} spans of about 1 kB and report success; a
daemon process prunes with `--keep-latest {options.keep}` every 0.5 s. Redis {version}, its memory by `used_memory`.

**{growth:+.1%}** from {first.used / MIB:.2f} MiB after the first {first.rollouts:,} rollouts
to {end.used / MIB:.2f} MiB after {end.rollouts:,}, both when all was quiet; at most {MOST_GROWTH:+.0%} is allowed.
The audit found nothing, and {options.keep:,} rollouts were left.

| rollouts | when | seconds | MiB used |
|---|---|---|---|
{rows}

Answers that are kept for calls that are sent again would hide the rest: every process keeps them for {TOKEN_SECONDS} s
here (`token_seconds`), and not for the usual 240 s, in which about as many would pile up as calls are made. *Quiet* is
when the daemon has pruned and they have expired; *under load* there are those of the last {TOKEN_SECONDS} s, and
rollouts of the last 0.5 s that the daemon has not pruned yet. About {options.events_kept:,} events are kept all the
time. The server writes no file here. The seconds tell little: the machine may have had other work as well.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak and write the page; 1 if memory has grown by more than is allowed."""
    options = _parser().parse_args(arguments)
    if options.role == "worker":
        asyncio.run(work(open_soaked(options.redis_url, options.events_kept), options.share, f"soak-{time.time_ns()}"))
        return 0
    if options.role == "daemon":
        be_daemon(open_soaked(options.redis_url, options.events_kept), options.keep)
        return 0
    with EmbeddedRedis(settings={"appendonly": "no"}) as server:
        looks = soak(options, server.url)
        with redis.Redis.from_url(server.url) as client:
            version = client.info("server")["redis_version"]
    page = render(options, looks, version)
    options.output.write_text(page, encoding="utf-8")
    print(page)
    first, end = (each for each in looks if each.when == "quiet")
    return int(end.used > first.used * (1 + MOST_GROWTH))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=200_000, help="in all")
    parser.add_argument("--first", type=int, default=20_000, help="after so many the memory is looked at first")
    parser.add_argument("--keep", type=int, default=2_000, help="the daemon keeps so many")
    parser.add_argument("--events-kept", type=int, default=10_000, help="setting of the store")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the page to write")
    parser.add_argument("--role", choices=("worker", "daemon"), help=argparse.SUPPRESS)
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--redis-url", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
