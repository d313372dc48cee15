"""What the benchmarks make of their measurements."""

import asyncio
import sys
from pathlib import Path

import pytest

from benchmarks.address import moved, plain_server
from benchmarks.measuring import Figure, Goal, NotMeasuredError, Part, Sample, check_once, in_turns, percentile
from benchmarks.peers.environments import python_of, reason
from benchmarks.peers.outcomes import outcome
from benchmarks.peers.sides import Side, SideError
from benchmarks.redis_benchmark import rate_of
from benchmarks.relay import HOST, relay_to
from benchmarks.report import render_goals


async def test_contenders_run_in_turns_and_the_first_round_only_warms_up():
    ran: list[str] = []

    async def run(name: str) -> int:
        ran.append(name)
        return len(ran)

    results = await in_turns(2, store=lambda: run("store"), limit=lambda: run("limit"))

    assert ran == ["store", "limit"] * 3
    assert results == {"store": [3, 5], "limit": [4, 6]}


@pytest.mark.parametrize(("came_out", "complaint"), [(["a"], "1 of 2 lost"), (["a", "b", "b"], "1 more than once")])
def test_what_is_lost_or_comes_out_twice_is_found(came_out: list[str], complaint: str):
    with pytest.raises(AssertionError, match=complaint):
        check_once(["a", "b"], came_out)


def test_what_came_out_once_in_another_order_passes():
    check_once(["a", "b"], ["b", "a"])


def test_ratios_are_taken_round_by_round():
    figure = Figure("any", "ms", Sample((2.0, 30.0, 4.0)), Sample((1.0, 10.0, 4.0)), Goal("ratio", 2.0))

    assert figure.ratio == Sample((2.0, 3.0, 1.0))
    assert figure.is_met


def test_a_goal_is_held_against_the_median():
    assert not Figure("any", "B", Sample((1.0, 9.0, 8.0)), goal=Goal("store", 7.0)).is_met
    assert Figure("any", "B", Sample((1.0,))).is_met is None


def test_percentiles_are_values_that_were_measured():
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, 50) == 51.0
    assert percentile(values, 99) == 100.0
    assert percentile([5.0], 99) == 5.0


@pytest.mark.parametrize(("peer", "is_met"), [(4.0, True), (5.0, False)])
def test_a_goal_of_at_least_is_held_against_the_median_ratio(peer: float, is_met: bool):
    figure = Figure("any", "per second", Sample((6.0, 6.0, 60.0)), Sample((peer,) * 3), Goal("ratio", least=1.5))

    assert figure.is_met is is_met


def test_all_goals_are_told_together_with_what_could_not_be_measured():
    met = Figure("lives", "per second", Sample((6.0,)), Sample((3.0,)), Goal("ratio", least=1.5))
    missed = Figure("record", "B", Sample((900.0,)), goal=Goal("store", 850))
    parts = [
        Part(
            "Peers", "jobs", "", [met, Figure("CPU", "µs", Sample((1.0,)))], beside="peer", missing=["rq: no network"]
        ),
        Part("Memory", "", "", [missed], missing=["rq: no network"]),
    ]

    assert render_goals(parts) == [
        "## Goals",
        "",
        "| figure | reached | goal |",
        "|---|---:|---:|",
        "| Peers: lives | 2.00 | ≥ 1.5 x peer: met |",
        "| Memory: record | 900 B | ≤ 850 B: **missed** |",
        "",
        "- Not measured: rq: no network",
        "",
    ]


def test_rates_of_a_round_follow_from_what_the_worker_wrote():
    jobs = {"ids": [2, 0, 1], "timed": 2, "seconds": 0.5, "cpu_seconds": 0.002}
    pickups = {"ids": [0, 1, 2], "latencies": [0.003, 0.001, 0.002], "jobs": 3}

    measured = outcome(3, {"timed": 2, "seconds": 0.25}, 0.003, jobs, pickups)

    assert (measured.rate, measured.enqueue_rate) == (4.0, 8.0)
    assert (measured.redis_micros, measured.worker_micros) == pytest.approx((1000.0, 1000.0))
    assert measured.pickup_millis == 2.0


@pytest.mark.parametrize(
    ("ids", "pickups", "complaint"),
    [
        ([0, 1, 1], None, "1 of 3 lost, 1 more than once"),
        ([0, 1, 2], {"ids": [0, 0], "latencies": [0.1, 0.1], "jobs": 3}, "1 of 2 lost"),
        ([0, 1, 2], {"ids": [0], "latencies": [0.1], "jobs": 4}, "1 of 3 more than once"),
    ],
)
def test_a_round_in_which_a_job_did_not_run_exactly_once_does_not_count(
    ids: list[int], pickups: dict[str, object] | None, complaint: str
):
    with pytest.raises(AssertionError, match=complaint):
        outcome(3, {"timed": 2, "seconds": 1.0}, 0.0, {"ids": ids}, pickups)


def test_an_environment_that_cannot_be_made_is_told_with_its_reason(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(NotMeasuredError, match=r"cannot be made: .*file"):
        python_of("rq", tmp_path / "file")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (
            "WARNING: slow\nERROR: No matching distribution found\n\n[notice] new\n",
            "ERROR: No matching distribution found",
        ),
        ("Traceback\n  KeyError: 'a'\n", "KeyError: 'a'"),
        ("\n", "it said nothing"),
    ],
)
def test_the_line_of_a_log_that_tells_what_went_wrong_is_found(log: str, line: str):
    assert reason(log) == line


def test_a_process_that_cannot_do_what_it_is_asked_says_why(tmp_path: Path):
    with (
        Side(Path(sys.executable), "with_nobody", "feed", tmp_path / "log", {}) as side,
        pytest.raises(SideError, match="with_nobody feed did not answer: ModuleNotFoundError"),
    ):
        side.ask("jobs", 1)


def test_the_rate_that_redis_benchmark_tells_is_read():
    page = '"test","rps","avg_latency_ms"\n"EVALSHA 0a 1 {ls:a}:meta","9345.79","0.301"\n'

    assert rate_of(page) == 9345.79
    with pytest.raises(NotMeasuredError, match="no rate"):
        rate_of("")


def test_a_plain_server_is_read_from_its_url_and_can_be_moved():
    url = "redis://me:p%40ss@example:7000/2"

    server = plain_server(url)

    assert (server.address, server.username, server.password, server.database) == (("example", 7000), "me", "p@ss", 2)
    assert "p@ss" not in repr(server)
    assert moved(url, ("127.0.0.1", 1)) == "redis://me:p%40ss@127.0.0.1:1/2"


@pytest.mark.parametrize(
    "url",
    ["rediss://host:1", "unix:///run/redis.sock", "redis+sentinel://host:1/name", "redis+cluster://host:1,other:2"],
)
def test_what_other_programs_do_not_reach_the_same_way_is_told(url: str):
    with pytest.raises(NotMeasuredError, match="plain TCP"):
        plain_server(url)


async def test_commands_that_are_sent_together_are_one_round_trip():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for count in (2, 1):
            await reader.readexactly(count * len(ping))
            writer.write(b"+PONG\r\n" * count)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    ping = b"*1\r\n$4\r\nPING\r\n"
    server = await asyncio.start_server(answer, HOST, 0)
    async with server, relay_to(server.sockets[0].getsockname()[:2]) as (relay, address):
        reader, writer = await asyncio.open_connection(*address)
        for count in (2, 1):
            writer.write(ping * count)
            assert await reader.readexactly(7 * count) == b"+PONG\r\n" * count
        writer.close()
        await writer.wait_closed()
        await ended.wait()

    assert relay.round_trips == 2
