"""The metrics of the server: what it tells, to whom, and as one number for all its processes."""

import asyncio
import urllib.error

import psutil
import pytest

from lightning_store import InMemoryLightningStore, RedisLightningStore
from lightning_store.errors import RolloutNotFoundError
from lightning_store.http.client import LightningStoreClient
from lightning_store.http.server import LightningStoreServer
from lightning_store.metrics.families import FAMILIES
from tests.support.factories import span_of
from tests.support.scraping import page_of, scrape, scrape_text
from tests.support.serving import TOKENS
from tests.support.until import until


async def use(url, **options):
    """Some calls; returns the client."""
    client = LightningStoreClient(url, **options)
    await client.enqueue_rollout("task")
    claimed = await client.dequeue_rollout("w")
    await client.add_many_spans([span_of(claimed, span_id=f"{number:016x}") for number in range(3)])
    with pytest.raises(RolloutNotFoundError):
        await client.update_rollout("unknown", status="failed")
    return client


def total(found, operation, outcome="ok"):
    return found("operations_total", operation=operation, outcome=outcome)


@pytest.mark.parametrize("path", ["/metrics", "/v1/prometheus/", "/v1/prometheus"])
async def test_calls_and_what_is_stored_are_told(path):
    async with LightningStoreServer(InMemoryLightningStore()) as server:
        client = await use(server.url)
        for found in (await scrape(server.port, path), await scrape_text(server.port, path)):
            assert total(found, "enqueue_many_rollouts") == 1
            assert total(found, "update_rollout", "rollout_not_found") == 1
            assert found("claimed_rollouts_total", queue="default") == 1
            assert (found("stored_spans_total"), found("spans")) == (3, 3)
            assert found("stored_span_bytes_total") > 0
            assert (found("up"), found("queue_depth", queue="default")) == (1, 0)
            assert found.all("rollouts") == {("running",): 1}
            assert found.all("workers") == {("busy",): 1}
        await client.close()
    await server.close()


async def test_each_metric_of_the_table_and_no_other(redis_url, namespace):
    async with LightningStoreServer(RedisLightningStore(redis_url, namespace=namespace)) as server:
        client = await use(server.url)
        found = await scrape(server.port)
        ours = {name.removesuffix("_info") for name in found.families if name.startswith("lightning_store_")}
        wanted = {family.name for family in FAMILIES.values() if "server" in family.by and "redis" in family.stores}
        assert ours == {name.removesuffix("_total").removesuffix("_info") for name in wanted}
        for family in FAMILIES.values():
            for series in set(family.series) & found.series:
                more = {"le"} if series.endswith("_bucket") else set()
                assert found.labels(series) == set(family.labels) | more
        await client.close()
    await server.close()


async def test_waits_are_told_while_they_last():
    async with LightningStoreServer(InMemoryLightningStore()) as server:
        client = LightningStoreClient(server.url)
        waiting = asyncio.ensure_future(client.dequeue_rollout("w", timeout=60))

        async def is_waiting() -> bool:
            return (await scrape(server.port)).all("waits_in_progress") == {("dequeue_many_rollouts",): 1}

        await until(is_waiting)
        await client.enqueue_rollout("task")
        assert await waiting
        assert (await scrape(server.port)).all("waits_in_progress") == {}
        await client.close()
    await server.close()


@pytest.mark.parametrize(("token", "status"), [("", 401), ("wrong", 401), *((token, 200) for _, token in TOKENS)])
async def test_tokens_are_asked_for_and_any_role_may_read(token, status):
    async with LightningStoreServer(InMemoryLightningStore(), tokens=TOKENS) as server:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if status == 200:
            assert (await scrape(server.port, headers=headers))("up") == 1
        else:
            with pytest.raises(urllib.error.HTTPError) as refused:
                await page_of(server.port, "/metrics", headers)
            assert refused.value.code == status
            refused.value.close()
    await server.close()


async def test_other_methods_find_nothing():
    async with LightningStoreServer(InMemoryLightningStore()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).split()[1] in {b"404", b"405"}
        writer.close()
    await server.close()


async def test_processes_count_together_and_a_death_loses_nothing(redis_url, namespace):
    store = RedisLightningStore(redis_url, namespace=namespace)
    server = LightningStoreServer(store, workers=2, launch="process")
    await server.start()
    try:
        for _ in range(12):  # each on a connection of its own, so that both processes have some
            await (await use(server.url)).close()
        for _ in range(6):
            found = await scrape(server.port)
            assert total(found, "enqueue_many_rollouts") == 12
            assert found("claimed_rollouts_total", queue="default") == 12
            assert found("stored_spans_total") == 36
            assert found("waits_in_progress", operation="dequeue_many_rollouts") == 0
            assert found("last_claim_timestamp_seconds") > 0
            assert found("operation_duration_seconds_count", operation="enqueue_many_rollouts") == 12
        children = psutil.Process().children()
        victims = [child for child in children if "lightning_store.http.child" in " ".join(child.cmdline())]
        assert len(victims) == 2
        victims[0].kill()
        victims[0].wait(20)
        client = await use(server.url)
        assert total(await scrape(server.port), "enqueue_many_rollouts") == 13
        await client.close()
    finally:
        await server.close()
        await store.close()
