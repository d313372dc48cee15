"""Runs the chaos report: `python -m chaos`, about eight minutes."""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chaos.arena import Arena
from chaos.checker import judge
from chaos.fleet import Common
from chaos.history import read_folder
from chaos.plan import Fault, course, plan
from chaos.recovery import recoveries
from chaos.report import Run, render, shortened
from chaos.state import read_state
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.embedded import FSYNC_CHOICES
from lightning_store.signals import terminable
from lightning_store.status import FINISHED
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace

PAGE: Final = Path(__file__).parents[1] / "docs" / "chaos.md"
SECONDS: Final = {"always": 330.0, "everysec": 110.0}
SHORT_SECONDS: Final = 0.0
"""Each fault once takes as long as it takes."""

NAMESPACE: Final = "chaos"
CHECKER: Final = "checker"
DEFAULT_SEED: Final = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write the page; the exit code is 0 when nothing was lost, done twice or unexpected and audits are clean."""
    options = _parser().parse_args(arguments)
    choices = [options.fsync] if options.fsync else ["always"] if options.short else ["always", "everysec"]
    with terminable():
        runs = [_run(fsync, options) for fsync in choices]
    page = render(runs, _command(options))
    output = options.output or (None if _is_partial(options) else PAGE)
    if output is None:
        print(page)
    else:
        output.write_text(page, encoding="utf-8")
        print(f"The report is in {output}")
    problems = [problem for run in runs for problem in run.problems]
    for problem in shortened(problems):
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="of faults, their times and the work")
    parser.add_argument("--seconds", type=float, help="how long faults strike in each run; each strikes at least once")
    parser.add_argument(
        "--fsync", choices=FSYNC_CHOICES, help="one run with this `appendfsync`; default: one with each"
    )
    parser.add_argument("--short", action="store_true", help="a minute: each fault once, without the long freezes")
    parser.add_argument(
        "--only", action="append", type=str.upper, choices=Fault.__members__, help="only this fault; can be given again"
    )
    parser.add_argument("--output", type=Path, help="the page to write; default: docs/chaos.md, for full runs")
    parser.add_argument("--keep", type=Path, help="a new folder for journals, logs and data; default: gone at the end")
    parser.add_argument(
        "--store-wrapper",
        metavar="MODULE:NAME",
        help="wraps every client's store below its log, to see that what it breaks is found",
    )
    return parser


def _is_partial(options: argparse.Namespace) -> bool:
    return bool(options.short or options.fsync or options.seconds or options.only or options.store_wrapper)


def _command(options: argparse.Namespace) -> str:
    """The command that makes this page."""
    words = [f"--seed {options.seed}"]
    words += [f"--seconds {options.seconds:g}"] if options.seconds is not None else []
    words += [f"--fsync {options.fsync}"] if options.fsync else []
    words += ["--short"] if options.short else []
    words += [f"--only {name.lower()}" for name in options.only or ()]
    words += [f"--store-wrapper {options.store_wrapper}"] if options.store_wrapper else []
    return f'make chaos ARGS="{" ".join(words)}"'


def _run(fsync: str, options: argparse.Namespace) -> Run:
    folder = Path(tempfile.mkdtemp(prefix="lightning-store-chaos-"))
    try:
        return asyncio.run(_take_place(folder, fsync, options))
    finally:
        if options.keep is not None:
            shutil.copytree(folder, options.keep / fsync)
        shutil.rmtree(folder)


async def _take_place(folder: Path, fsync: str, options: argparse.Namespace) -> Run:
    began = time.monotonic()
    seconds = options.seconds if options.seconds is not None else SHORT_SECONDS if options.short else SECONDS[fsync]
    chosen = course(fsync, seconds, is_short=options.short, only=[Fault[name] for name in options.only or ()])
    arena = Arena(folder, fsync, Common(NAMESPACE, chosen.lease_seconds, options.seed, options.store_wrapper))
    with arena.server as server:
        store = RedisLightningStore(server.url, namespace=NAMESPACE)

        async def is_settled() -> bool:
            statuses = (await store.statistics())["rollouts_by_status"]
            return all(status in FINISHED for status, count in statuses.items() if count)

        await store.acknowledge_completions(CHECKER)  # nothing is evicted that it has not seen
        await arena.run(plan(options.seed, chosen), is_settled)
        arena.tell("checking")
        state, audit = await read_state(store), await store.audit()
        with server.client(decode_responses=False) as client:
            invariants = findings(read_keyspace(client, NAMESPACE))
            redis_version = client.info("server")["redis_version"]
        await store.close()
    calls = read_folder(arena.journals)
    return Run(
        fsync=fsync,
        seed=options.seed,
        lease_seconds=chosen.lease_seconds,
        seconds=time.monotonic() - began,
        redis_version=redis_version,
        calls=calls,
        struck=arena.struck,
        recoveries=recoveries(calls, arena.struck),
        judgement=judge(calls, state, arena.windows),
        audit=audit,
        invariants=invariants,
        incidents=arena.incidents,
    )


if __name__ == "__main__":
    sys.exit(main())
