"""The calculator of memory and processor: its arithmetic, its constants, and a real server."""

import asyncio
import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import redis

from lightning_store import capacity
from lightning_store import measured_costs as costs
from lightning_store.backends.redis import codec
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.capacity import Cluster, Workload, estimate
from lightning_store.errors import InvalidRequestError
from lightning_store.records import EnqueueRolloutRequest
from tests.support.factories import span_of

SCALING = Path(__file__).parents[2] / "benchmarks" / "scaling.json"

SMALL: dict[str, Any] = {"rollouts_per_second": 1, "spans_per_rollout": 2, "span_bytes": 1000}


def test_memory_is_the_sum_of_its_parts():
    found = estimate(Workload(10, 3, 1000, input_bytes=100, keep=1000, queued=50, hosts=2, processes=2, concurrency=4))

    parts = {part.name: part.bytes for part in found.memory}
    assert parts["finished rollouts"] == 1000 * (costs.FINISHED_BYTES + 100)
    assert parts["spans of a finished one"] == 1000 * (costs.STREAM_BYTES + costs.NODE_CAPACITY)
    assert parts["queued rollouts"] == 50 * (costs.QUEUED_BYTES + 100)
    assert parts["tokens of calls"] == 10 * 5 * 240 * costs.TOKEN_BYTES
    assert parts["workers"] == 16 * costs.WORKER_BYTES
    assert found.bytes == sum(parts.values())
    assert found.maxmemory == pytest.approx(found.bytes / 0.7)


@pytest.mark.parametrize(
    ("spans", "size", "measured"),
    [
        (0, 1000, 0), (1, 400, 4655), (4, 400, 4954), (10, 400, 8869), (20, 400, 13_536), (100, 400, 51_808),
        (1, 1000, 4655), (4, 1000, 8414), (10, 1000, 15_786), (100, 1000, 128_554), (100, 1000, 125_500),
        (4, 1900, 8743), (100, 1900, 209_235), (1, 5840, 6694), (10, 5840, 62_652), (100, 5840, 621_565),
    ],
)  # fmt: skip
def test_spans_of_a_rollout_fill_nodes_of_their_stream(spans: int, size: int, measured: int):
    """What Redis 7.0.15 was seen to use; 125,500 is from results.md."""
    parts = {part.name: part.bytes for part in estimate(Workload(1, spans, size, keep=1)).memory}

    assert parts["spans of a finished one"] == pytest.approx(measured, rel=0.08)


def test_rollouts_are_kept_for_an_hour_unless_it_is_said_how_many_or_for_how_long():
    assert Workload(**SMALL).kept == 3600
    assert Workload(**SMALL, keep_seconds=60).kept == 60
    assert Workload(**SMALL, keep=0).kept == 0


def test_spans_that_travel_together_cost_fewer_calls():
    alone, together = (estimate(Workload(10, 20, 1000, spans_per_call=number)) for number in (1, 20))

    assert alone.commands - together.commands == 10 * 19
    assert alone.core - together.core == pytest.approx(10 * 19 * costs.SPAN_CALL.micros / 1e6)
    assert Workload(1, 0.5, 1000).span_calls == 0.5


def test_what_travels_is_counted_in_both_directions():
    found = estimate(Workload(100, 0, 0, input_bytes=5000))

    assert found.bytes_in > 100 * 5000
    assert found.bytes_out > 100 * 5000
    assert found.bytes_in < 100 * 6000


def test_each_worker_sends_heartbeats_and_each_process_waits():
    few, many = (estimate(Workload(0, 0, 0, hosts=hosts, processes=2, concurrency=3)) for hosts in (10, 20))

    assert many.core == pytest.approx(2 * few.core)
    assert few.commands == pytest.approx(10 * 6 / 20 + 10 * 2 * costs.WAITING_COMMANDS)
    assert few.workload.connections == 10 * 2 * 4


def test_one_redis_is_enough_then_at_its_limit_then_too_little():
    core = estimate(Workload(1, 5, 1000)).core

    verdicts = [estimate(Workload(share / core, 5, 1000)).verdict for share in (0.5, 0.8, 1.2)]

    assert verdicts == ["enough", "at its limit", "too little"]


def test_a_cluster_spreads_spans_and_leaves_a_control_plane_on_one_node():
    spans = estimate(Workload(50, 1000, 20_000, spans_per_call=1000)).cluster
    control = estimate(Workload(8000, 0, 0)).cluster

    assert spans.primaries > spans.namespaces == 1
    assert control.primaries == control.namespaces > 3
    assert estimate(Workload(1, 1, 1000)).cluster == Cluster(1, 1)


@pytest.mark.parametrize("rate", [3, 300, 30_000])
def test_no_primary_of_a_cluster_is_over_what_is_well(rate: int):
    found = estimate(Workload(rate, 20, 1000))

    spans = sum(load.core for load in found.loads if load.name in ("spans", "calls with spans"))
    steps = next(load.core for load in found.loads if load.name == "calls with spans")
    control = found.core - spans + 2 * steps
    busiest = control / found.cluster.namespaces + spans / found.cluster.primaries
    assert busiest <= capacity.ENOUGH + 1e-9
    assert found.cluster.namespaces <= found.cluster.primaries


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rollouts_per_second", -1), ("rollouts_per_second", math.nan), ("span_bytes", math.inf), ("keep", -1),
        ("keep", 10**400), ("hosts", 0), ("spans_per_call", 0.5),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_option(field: str, value: float):
    with pytest.raises(InvalidRequestError, match=f"^--{field.replace('_', '-')}: expected a number from"):
        Workload(**{**SMALL, field: value})


def test_how_many_and_how_long_exclude_each_other():
    with pytest.raises(InvalidRequestError, match=r"^--keep: "):
        Workload(**SMALL, keep=1, keep_seconds=1)


# -- the constants -----------------------------------------------------------------------------------------------------


def test_constants_are_near_what_was_measured_last():
    """`make scaling` measures them anew; if this fails then, lightning_store/measured_costs.py has to follow.

    What calls take of the processor is compared as a share of what a claim takes: that holds on a busy machine too.
    """
    measured = json.loads(SCALING.read_text())
    found, sizes = measured["costs"], measured["sizes"]
    one, twenty, large = (f"call with {what}" for what in ("1 span of 1 kB", "20 spans of 1 kB", "1 span of 20 kB"))
    micros = {
        "claim": costs.CLAIM.micros,
        "enqueue": costs.ENQUEUE.micros,
        "success": costs.SUCCESS.micros,
        "heartbeat": costs.HEARTBEAT.micros,
        one: costs.SPAN_CALL.micros + costs.SPAN.micros + costs.SPAN_KILOBYTE_MICROS,
        twenty: costs.SPAN_CALL.micros + 20 * (costs.SPAN.micros + costs.SPAN_KILOBYTE_MICROS),
        large: costs.SPAN_CALL.micros + costs.SPAN.micros + 15 * costs.SPAN_KILOBYTE_MICROS,  # 20 are sent as 15
    }
    claim = median(found["claim"]["micros"])
    shares = {name: median(found[name]["micros"]) / claim for name in micros}
    assert {name: micros[name] / costs.CLAIM.micros for name in micros} == pytest.approx(shares, rel=0.5)
    of_bytes = {
        costs.ENQUEUE.bytes_in + 200: found["enqueue"]["in"],
        costs.CLAIM.bytes_in: found["claim"]["in"],
        costs.CLAIM.bytes_out + 200: found["claim"]["out"],
        costs.SUCCESS.bytes_in: found["success"]["in"],
        costs.SUCCESS.bytes_out: found["success"]["out"],
        costs.HEARTBEAT.bytes_in: found["heartbeat"]["in"],
        costs.SPAN_CALL.bytes_in + 20 * (costs.SPAN.bytes_in + 1000): found[twenty]["in"],
        costs.SPAN_CALL.bytes_out + 20 * costs.SPAN.bytes_out: found[twenty]["out"],
        2 * costs.CONNECTION_BYTES: sizes["waiting runner with two connections, bytes"],
        costs.WORKER_BYTES: sizes["worker with its heartbeat, bytes"],
        costs.EVENTS_BYTES / 10_000: sizes["event, bytes"],
        costs.WAITING_COMMANDS: sizes["waiting runner, commands per second"],
    }
    assert list(of_bytes) == pytest.approx(list(of_bytes.values()), rel=0.25)


async def test_memory_is_that_of_a_real_server(redis_url: str, namespace: str):
    number, spans, text = 2000, 4, "y" * 700
    store = RedisLightningStore(redis_url, namespace=namespace)
    with redis.Redis.from_url(redis_url) as client:
        await store.statistics()
        unused = client.info("memory")["used_memory"]
        size = await live(store, number, spans, text)
        used = client.info("memory")["used_memory"] - unused
    await store.close()

    expected = estimate(Workload(number / 240, spans, size, input_bytes=200, keep=number, spans_per_call=spans))

    assert expected.bytes == pytest.approx(used, rel=0.25)


async def live(store: RedisLightningStore, number: int, spans: int, text: str) -> float:
    """Bring so many rollouts to their end, as runners do; the bytes of a span."""
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(input="x" * 198) for _ in range(number)])
    sizes: list[int] = []

    async def work(name: str) -> None:
        while (claimed := await store.dequeue_rollout(name, lease_seconds=60)) is not None:
            made = [span_of(claimed, span_id=f"{n:016x}", attributes={"text": text}) for n in range(spans)]
            sizes.extend(len(codec.span_payload(span)) for span in made)
            assert len(await store.add_many_spans(made)) == spans
            await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")

    await asyncio.gather(*(work(f"worker-{n}") for n in range(16)))
    assert len(sizes) == number * spans
    return sum(sizes) / len(sizes)
