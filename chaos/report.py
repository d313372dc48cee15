"""The report of runs as a page."""

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import ceil
from typing import Final

from chaos.findings import Fate, Judgement, Verdict
from chaos.fleet import CONCURRENCY, RUNNERS
from chaos.history import Call
from chaos.plan import Fault
from chaos.recovery import Recovery, Struck
from lightning_store.records import AuditReport

OUTCOMES: Final = ("ok", "failed", "unknown")
MOST_PROBLEMS: Final = 100

_EXPLAINED: Final = f"""\
An algorithm enqueues work in waves, follows the completion log, checks and publishes resources; {RUNNERS} runner
processes with {CONCURRENCY} workers each do it: agents with spans and rewards that take up to seconds, some of which
fail or hang; a healthcheck daemon sweeps. All of them reach one real Redis through a proxy, while faults strike at
times drawn from the seed, some of them while another lasts. Every client notes each call before it is sent and when it
has ended; a call without an answer may have taken effect or not. When all faults are over and all work has ended, a
checker compares what the clients were told with what the store holds.

- **lost**: an enqueue was acknowledged, and the rollout is not there or never finished.
- **completed twice**: more than one entry in the completion log, or claimed again after a success.
- **claimed twice**: two claims of the same attempt number of a rollout were acknowledged.
- **unexpected**: anything else that what was told and what is stored do not explain, such as a rollout that nobody
  enqueued, an acknowledged span or report that is not there, a lease renewed after the next claim, a client that ended.

Recovery is given for strikes that no other overlapped, in seconds, from the end of the fault, or from the strike if it
has no duration. *Flows*: until a claim and a report of an end had been acknowledged. *All back*: until every client had
had an acknowledged call; runners ask at least once per third of their lease. *Taken over*, for a runner that was killed
or suspended: from the strike until each rollout that it held was claimed by another or had ended, which takes a lease
and includes waiting for a free worker. p50 and p99 are values that were measured; of few strikes, p99 is the longest.
"""


@dataclass(frozen=True)
class Run:
    """What came of one run.

    Attributes:
        seconds: How long it took in all.
        invariants: What a second audit found, by other code, on the raw keys.
        incidents: Clients that ended by themselves, or did not end.
    """

    fsync: str
    seed: int
    lease_seconds: float
    seconds: float
    redis_version: str
    calls: Sequence[Call]
    struck: Sequence[Struck]
    recoveries: dict[Fault, list[Recovery]]
    judgement: Judgement
    audit: AuditReport
    invariants: Sequence[str]
    incidents: Sequence[str]

    @property
    def problems(self) -> list[str]:
        """All that is wrong, in words; empty when all is well."""
        return [
            *map(str, self.judgement.findings),
            *(f"audit: {finding.rule}: {finding.count}: {finding.examples}" for finding in self.audit.findings),
            *(f"audit: unchecked: {text}" for text in self.audit.unchecked),
            *(f"invariants: {text}" for text in self.invariants),
            *(f"incident: {text}" for text in self.incidents),
        ]


def render(runs: Sequence[Run], command: str) -> str:
    """The page."""
    lines = [
        "# Chaos report",
        "",
        f"Written by `{command}`; not to be edited.",
        "",
        _EXPLAINED,
        f"Redis {runs[0].redis_version}, Python {platform.python_version()}, redis-py {version('redis')}, "
        f"lightning-store {version('lightning-store')}, {platform.system()} {platform.machine()}.",
    ]
    for run in runs:
        lines += ["", *_run(run)]
    return "\n".join(lines) + "\n"


def _run(run: Run) -> list[str]:
    alone = sum(each.alone for each in run.struck)
    return [
        f"## `appendfsync {run.fsync}`",
        "",
        f"Seed {run.seed}, {run.seconds:.0f} s, {len(run.struck)} faults, {len(run.struck) - alone} of them "
        f"overlapping, lease {run.lease_seconds:g} s.",
        "",
        *_verdicts(run),
        "",
        *_fates(run.judgement),
        *(["", *_excused(run)] if run.fsync == "everysec" else []),
        "",
        *_faults(run),
        "",
        *_calls(run.calls),
    ]


def _verdicts(run: Run) -> list[str]:
    counts = run.judgement.counts()
    found = sum(finding.count for finding in run.audit.findings)
    rows: list[tuple[object, ...]] = [(verdict.value, counts[verdict]) for verdict in Verdict]
    rows += [
        (f"findings of `store.audit()` on {run.audit.rollouts:,} rollouts", found + len(run.audit.unchecked)),
        ("findings of the tests' invariants on the raw keys", len(run.invariants)),
        ("clients that ended by themselves, or did not end", len(run.incidents)),
    ]
    lines = _table(("required to be 0", "found"), rows)
    if run.problems:
        lines += ["", "**Failed:**", "", *(f"- {problem}" for problem in shortened(run.problems))]
    return lines


def shortened(problems: Sequence[str]) -> list[str]:
    """The first of many problems, and how many more there are."""
    more = len(problems) - MOST_PROBLEMS
    return [*problems[:MOST_PROBLEMS], *([f"... and {more} more"] if more > 0 else [])]


def _fates(judgement: Judgement) -> list[str]:
    rows = [(fate.value, f"{judgement.fates[fate]:,}") for fate in Fate if judgement.fates[fate]]
    return _table(("rollouts", "number"), rows)


def _excused(run: Run) -> list[str]:
    cuts = [each for each in run.struck if each.strike.fault is Fault.POWER_CUT]
    kills = sum(each.strike.fault is Fault.KILL_REDIS for each in run.struck)
    lines = [
        f"Redis was killed {kills} times, which takes nothing that reached the kernel, and power was cut {len(cuts)} "
        "times: it was killed, and its append-only file cut to the length that it had at a moment drawn from the last "
        "second, as a machine without power may leave it. What was acknowledged after that moment may be gone, and so "
        "may what was in the 2 s before it, or before a kill, because Redis puts off writing while the disk is busy. "
        "Everything else must be there, and what is left must be sound. The run went on each time: see the recovery "
        "below.",
        "",
    ]
    rows = [
        (cause.value, kind, f"{count:,}") for (cause, kind), count in sorted(run.judgement.excused.items(), key=str)
    ]
    if not rows:
        return [*lines, "Nothing that was acknowledged is gone."]
    oldest = run.judgement.longest_excused_seconds
    return [
        *lines,
        *_table(("acknowledged and gone after", "what", "number"), rows),
        "",
        f"The oldest of these was acknowledged {oldest:.2f} s before the end of the server.",
    ]


def _faults(run: Run) -> list[str]:
    struck = Counter(each.strike.fault for each in run.struck)
    rows: list[tuple[object, ...]] = []
    for fault in Fault:
        if struck[fault]:
            found = run.recoveries.get(fault, [])
            row: list[object] = [fault.value, struck[fault], len(found)]
            for name in ("flows", "all_back", "taken_over"):
                row += _percentiles([getattr(each, name) for each in found])
            rows.append(tuple(row))
    titles = ("fault", "strikes", "measured", "flows p50", "p99", "all back p50", "p99", "taken over p50", "p99")
    return _table(titles, rows)


def _percentiles(values: Iterable[float | None]) -> tuple[str, str]:
    known = sorted(value for value in values if value is not None)
    if not known:
        return "", ""
    return f"{percentile(known, 50):.2f}", f"{percentile(known, 99):.2f}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the sorted values that is not exceeded by so many percent of them."""
    return values[max(0, ceil(len(values) * percent / 100) - 1)]


def _calls(calls: Sequence[Call]) -> list[str]:
    counts = Counter((call.operation, call.outcome) for call in calls)
    rows: list[tuple[object, ...]] = [
        (f"`{name}`", *(f"{counts[name, outcome]:,}" for outcome in OUTCOMES))
        for name in sorted({call.operation for call in calls})
    ]
    totals = [sum(counts[name, outcome] for name, outcome in counts if outcome == each) for each in OUTCOMES]
    rows.append(("all", *(f"{total:,}" for total in totals)))
    return _table(("calls", "ok", "refused", "no answer"), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [
        "| " + " | ".join(titles) + " |",
        "|---|" + "---:|" * (len(titles) - 1),
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]
