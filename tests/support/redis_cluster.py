"""A real Redis Cluster for tests: three primaries with a replica each, on free ports, breakable on purpose."""

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.cluster import RedisCluster
from redis.crc import key_slot
from typing_extensions import Self

from tests.support.redis_server import RedisUnderTest
from tests.support.until import wait_until

PRIMARIES: Final = 3
SLOTS: Final = 16384
BUS: Final = 10_000
"""A node talks to the others on the port so far above its own."""

PORTS: Final = range(12_000, 22_000)  # with the bus, below those that systems give to outgoing connections
KEYS_PER_MOVE: Final = 100
START_SECONDS: Final = 60.0


class ClusterUnderTest:
    """Six servers that form one Cluster. Nodes are told apart by their servers; who is a primary may change."""

    def __init__(self, folder: Path | None = None, *, node_timeout_seconds: float = 5.0, **options: Any) -> None:
        """Set up; nothing is started.

        Args:
            folder: Where the nodes keep their data, so that one that was killed can be started again; None = nowhere.
            node_timeout_seconds: For how long a node may be silent before the others take it for lost.
            options: Of the servers.
        """
        self.password = secrets.token_urlsafe(16)
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": "500",  # news spread twice as often as that, until the Cluster is whole
            "cluster-replica-validity-factor": "0",  # a replica that was kept waiting by a busy machine is good enough
            "masterauth": self.password,
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",  # before the first one, a replica is not shown
            **options.pop("settings", {}),
        }
        self._node_timeout = str(int(node_timeout_seconds * 1000))
        self._folder = folder
        self._options = {"settings": settings, "password": self.password, **options}
        self.nodes: list[RedisUnderTest] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where clients connect, password included: the nodes that were primaries at first."""
        return f"redis+cluster://:{self.password}@{','.join(map(address_of, self.nodes[:PRIMARIES]))}"

    def client(self) -> Any:
        """A plain client of the whole Cluster; its answers are bytes, and the caller closes it."""
        return RedisCluster("127.0.0.1", self.nodes[0].port, password=self.password, protocol=2)

    def stop(self) -> None:
        """Stop all servers."""
        for node in self.nodes:
            node.stop()

    def primary_of(self, slot: int) -> RedisUnderTest:
        """The server that has a slot, as a running one says."""
        for first, last, primary, *_ in self._slots():
            if first <= slot <= last:
                return self._server_at(int(primary[1]))
        raise AssertionError(f"nobody has slot {slot}")

    def primaries(self) -> list[RedisUnderTest]:
        """The servers that have slots."""
        return [self._server_at(port) for port in sorted({int(primary[1]) for _, _, primary, *_ in self._slots()})]

    def control_primary(self, namespace: str) -> RedisUnderTest:
        """The server that has the control plane of a namespace."""
        return self.primary_of(control_slot(namespace))

    def is_whole(self) -> bool:
        """Whether every running node says that all slots are served."""
        clients = [node.client(socket_timeout=2.0) for node in self.nodes if node.is_running]
        try:
            return all("cluster_state:ok" in _text(_raw(client, "CLUSTER", "INFO")) for client in clients)
        finally:
            for client in clients:
                client.close()

    def _slots(self) -> list[Any]:
        for node in self.nodes:
            if node.is_running:
                with node.client(socket_timeout=2.0) as client:
                    return list(_raw(client, "CLUSTER", "SLOTS"))
        raise AssertionError("no node runs")

    def _server_at(self, port: int) -> RedisUnderTest:
        return next(node for node in self.nodes if node.port == port)

    # -- moving slots ------------------------------------------------------------------------------------------------

    @contextmanager
    def slot_in_motion(self, slot: int, target: RedisUnderTest) -> Iterator[tuple[Any, Any]]:
        """A slot that is on its way, with clients of the node that has it and of the one that gets it.

        Keys are moved by `move_keys`; at the end, all that are left, and the slot.
        """
        source = self.primary_of(slot)
        with source.client(decode_responses=False) as old, target.client(decode_responses=False) as new:
            old_id, new_id = (_raw(client, "CLUSTER", "MYID").decode() for client in (old, new))
            _raw(new, "CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
            _raw(old, "CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
            yield old, new
            while self.move_keys(old, slot, target):
                pass
            for client in (new, old):
                _raw(client, "CLUSTER", "SETSLOT", slot, "NODE", new_id)
        for node in self.primaries():
            with node.client() as client:
                _raw(client, "CLUSTER", "SETSLOT", slot, "NODE", new_id)

    def move_keys(self, source: Any, slot: int, target: RedisUnderTest, count: int = KEYS_PER_MOVE) -> list[bytes]:
        """Move some keys of a slot on its way, given a client of the node that has it; their names."""
        names: list[bytes] = _raw(source, "CLUSTER", "GETKEYSINSLOT", slot, count)
        if names:
            host, port = address_of(target).split(":")
            _raw(source, "MIGRATE", host, port, "", 0, 10_000, "AUTH", self.password, "KEYS", *names)
        return names

    def another_primary(self, slot: int) -> RedisUnderTest:
        """A server that has slots, but not this one."""
        nodes = self.primaries()
        return nodes[(nodes.index(self.primary_of(slot)) + 1) % len(nodes)]

    def move_slot(self, slot: int, *, keys_at_once: int = KEYS_PER_MOVE, pause_seconds: float = 0.0) -> None:
        """Move a slot with its keys to another primary, so many keys at a time."""
        target = self.another_primary(slot)
        with self.slot_in_motion(slot, target) as (source, _):
            while self.move_keys(source, slot, target, keys_at_once):
                time.sleep(pause_seconds)

    # -- forming -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        ports = free_ports(2 * PRIMARIES)
        for port in ports:
            data_dir = None if self._folder is None else self._folder / str(port)
            self.nodes.append(RedisUnderTest(data_dir, port=port, **self._options))
            self.nodes[-1].start()
        clients = [node.client() for node in self.nodes]
        try:
            self._form(clients)
        finally:
            for client in clients:
                client.close()

    def _form(self, clients: list[Any]) -> None:
        share = -(-SLOTS // PRIMARIES)
        for number, client in enumerate(clients):
            _raw(client, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            slots = range(number * share, min(SLOTS, (number + 1) * share))
            if number < PRIMARIES:
                _raw(client, "CLUSTER", "ADDSLOTS", *slots)
        for client in clients:
            for node in self.nodes:
                _raw(client, "CLUSTER", "MEET", *address_of(node).split(":"))
        ids = [_text(_raw(client, "CLUSTER", "MYID")) for client in clients]
        wait_until(lambda: all(_knows(client, ids) for client in clients), START_SECONDS)
        for primary, replica in zip(ids[:PRIMARIES], clients[PRIMARIES:], strict=True):
            _raw(replica, "CLUSTER", "REPLICATE", primary)
        wait_until(lambda: all(map(_is_whole, clients)), START_SECONDS)
        wait_until(lambda: all(map(_follows, clients[PRIMARIES:])), START_SECONDS)
        for client in clients:
            _raw(client, "CONFIG", "SET", "cluster-node-timeout", self._node_timeout)


def control_slot(namespace: str) -> int:
    """The slot of a namespace's control plane."""
    return int(key_slot(f"{{ls:{namespace}}}:meta".encode()))


def address_of(node: RedisUnderTest) -> str:
    return f"127.0.0.1:{node.port}"


def free_ports(count: int) -> list[int]:
    """Ports that are free, and so are those of the Cluster's bus."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(PORTS)
        if port not in found and _is_free(port) and _is_free(port + BUS):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _raw(client: Any, *parts: Any) -> Any:
    """The answer as the server gives it; the driver would make records of some."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*parts)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _knows(client: Any, ids: list[str]) -> bool:
    """Whether a node knows all others, and that they answer."""
    lines = _text(_raw(client, "CLUSTER", "NODES")).splitlines()
    return {line.split()[0] for line in lines if " connected" in line and "handshake" not in line} == set(ids)


def _is_whole(client: Any) -> bool:
    state = _text(_raw(client, "CLUSTER", "INFO"))
    slots = _raw(client, "CLUSTER", "SLOTS")
    return "cluster_state:ok" in state and all(len(part) == 4 for part in slots)  # range and two nodes


def _follows(client: Any) -> bool:
    try:
        return bool(client.info("replication").get("master_link_status") == "up")
    except redis_errors.RedisError:
        return False
