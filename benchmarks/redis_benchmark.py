"""Claims beside `redis-benchmark`, which runs the same claim script without a store around it."""

import asyncio
import csv
import resource
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.address import PlainServer, plain_server
from benchmarks.measuring import Figure, Goal, NotMeasuredError, Part, check_once, in_turns
from benchmarks.setting import Bench, Spent, fill
from benchmarks.throughput import MANY_COROUTINES, claim_call, rate_figures, timed_claims
from lightning_store.backends.redis.keys import Keys

PROGRAM: Final = "redis-benchmark"
CONNECTIONS: Final = 50

_PART: Final = "redis-benchmark"
_SECONDS: Final = 120
_UNIQUE: Final = "__rand_int__" * 2
"""The program puts 12 digits in place of each, anew in every call; both together have 62 random bits."""

_MOST_RANDOM: Final = 2**31 - 1


async def measure_redis_benchmark(bench: Bench) -> Part:
    """Claims from many coroutines of one process, records returned, beside the same script from a program in C."""
    figures: list[Figure] = []
    missing: list[str] = []
    version = ""
    count = 4 * bench.sizes.calls
    try:
        server = plain_server(bench.url)
        program = _program()
        version = await asyncio.to_thread(_run, [program, "--version"])
        spent = await in_turns(
            bench.sizes.rounds,
            store=partial(timed_claims, bench, count, MANY_COROUTINES),
            limit=partial(_their_claims, bench, program, server, count),
        )
    except NotMeasuredError as error:
        missing.append(f"claims beside {PROGRAM}: {error}")
    else:
        name = f"claims, {MANY_COROUTINES} coroutines of one process"
        figures += rate_figures(name, spent, goal=Goal("ratio", least=0.8))
    return Part(
        f"Claims beside {PROGRAM}",
        f"`{PROGRAM} -c {CONNECTIONS}` with an EVALSHA of the claim script{version and f'; {version.strip()}'}",
        "The program sends what the store would, with a token and an attempt id of its own in each call, and drops the "
        "answers; the store makes records of them. Its rate is the one that it tells, which leaves out its start. "
        "After each round every rollout has one attempt, and there were as many calls.",
        figures,
        beside=PROGRAM,
        missing=missing,
    )


def _program() -> str:
    found = shutil.which(PROGRAM)
    if found is None:
        raise NotMeasuredError("it is not on the PATH; Debian has it in redis-tools")
    return found


async def _their_claims(bench: Bench, program: str, server: PlainServer, count: int) -> Spent:
    """Let the program claim so many rollouts, one a call."""
    store = bench.store(_PART)
    put_in = await fill(store, count)
    # The program begins with the time and its process id, which is the same in two rounds now and then.
    unique = secrets.token_hex(4) + _UNIQUE
    call = claim_call(Keys(bench.namespace(_PART)).meta, unique, f"at-{unique}")
    await bench.bare.command("SCRIPT", "LOAD", call.script.text)
    options = ["-c", CONNECTIONS, "-n", count, "-r", _MOST_RANDOM, "--csv"]
    command = [program, *_where(server), *map(str, options), *map(str, call.by_sha)]
    redis_before, client_before = await bench.redis_cpu(), _children_cpu()
    rate = rate_of(await asyncio.to_thread(_run, command))
    client, redis = _children_cpu() - client_before, await bench.redis_cpu() - redis_before
    attempts = await asyncio.gather(*map(store.query_attempts, put_in))
    check_once(put_in, [attempt.rollout_id for each in attempts for attempt in each])
    assert await store.dequeue_rollout() is None
    return Spent(count, count / rate, redis, client)


def _where(server: PlainServer) -> list[str]:
    """Options for the server; the program takes its password in no other way."""
    host, port = server.address
    options = ["-h", host, "-p", str(port), "--dbnum", str(server.database)]
    if server.username:
        options += ["--user", server.username]
    if server.password:
        options += ["-a", server.password]
    return options


def rate_of(page: str) -> float:
    """Calls per second in what the program wrote with `--csv`.

    Raises:
        NotMeasuredError: There are none.
    """
    lines = page.splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith('"test","rps"')), len(lines))
    rows = list(csv.DictReader(lines[start:]))
    if not rows:
        raise NotMeasuredError(f"{PROGRAM} told no rate")
    return float(rows[-1]["rps"])


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(  # noqa: S603 - our own words
        command, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        # Not what it wrote, which may quote the command and with it the password.
        raise NotMeasuredError(f"{Path(command[0]).name} failed with exit code {done.returncode}")
    return done.stdout


def _children_cpu() -> float:
    """CPU seconds of the processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
