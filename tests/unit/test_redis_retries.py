"""Calls are sent again with growing, scattered pauses inside their limit; time is virtual, chance is seeded."""

import asyncio
import random
from itertools import pairwise

import pytest
from redis.asyncio.connection import Connection

from lightning_store.backends.redis.connection import Connections
from lightning_store.backends.redis.replication import Replication
from lightning_store.backends.redis.settings import ConnectionSettings
from lightning_store.errors import StoreUnavailableError
from tests.support.virtual_time import run_in_virtual_time


def tries(
    seed: int, *, retry_seconds: float, hangs: bool = False, socket_seconds: float = 10.0
) -> tuple[list[float], float]:
    """When a call was sent to a server that is gone, or takes connections and is silent; and when it was given up."""
    times: list[float] = []

    class Watched(Connection):
        async def _connect(self) -> None:
            times.append(asyncio.get_running_loop().time())
            if hangs:
                await asyncio.sleep(float(10**6))
            raise ConnectionRefusedError("Connection refused")

    connections = Connections(
        ConnectionSettings(Watched, {}, retry_seconds=retry_seconds, socket_seconds=socket_seconds)
    )

    async def call() -> float:
        with pytest.raises(StoreUnavailableError, match="Redis is out of reach"):
            await connections.command("PING")
        return asyncio.get_running_loop().time()

    random.seed(seed)
    return times, run_in_virtual_time(call())


def pauses(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


@pytest.mark.parametrize("seed", range(5))
def test_pauses_grow_to_a_second_and_end_within_the_limit(seed: int) -> None:
    times, ended = tries(seed, retry_seconds=30.0)

    for number, pause in enumerate(pauses(times)):
        middle = min(0.02 * 2**number, 1.0)
        assert 0.5 * middle <= pause <= 1.5 * middle + 1e-9
    assert times[-1] < 30.0
    assert 30.0 - 1.5 <= ended <= 30.0


def test_pauses_of_clients_that_fail_together_are_scattered() -> None:
    """Or all would come back at the same instant, to a server that has just started."""
    tenth = [tries(seed, retry_seconds=30.0)[0][9] for seed in range(20)]

    assert len(set(tenth)) == 20
    assert max(tenth) - min(tenth) > 0.5


@pytest.mark.parametrize("limits", [(30.0, 10.0), (30.0, 7.0), (1.0, 10.0), (12.0, 10.0)])
def test_silent_server_is_given_up_within_the_limit(limits: tuple[float, float]) -> None:
    """No try waits for longer than is left; the first may take what one command may take."""
    retry_seconds, socket_seconds = limits
    times, ended = tries(1, retry_seconds=retry_seconds, hangs=True, socket_seconds=socket_seconds)

    assert max(socket_seconds, retry_seconds - 1.5) <= ended <= max(limits) + 1e-9
    assert len(times) == max(1, round(retry_seconds / socket_seconds + 0.49))


def test_call_that_gets_no_connection_is_given_up_within_the_limit() -> None:
    async def call() -> float:
        replication = Replication(min_replicas=1)
        limits = {"retry_seconds": 3.0, "max_connections": 1, "replication": replication}
        connections = Connections(ConnectionSettings(Connection, {}, **limits))  # calls that wait do not share one
        await connections._pools.get()._turns.take(0)  # somebody else has the only one, for ever
        with pytest.raises(StoreUnavailableError, match="connections are in use"):
            await connections.command("PING")
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(call()) == pytest.approx(10.0)  # the longer of both limits
