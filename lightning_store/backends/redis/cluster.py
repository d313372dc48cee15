"""Redis Cluster: which node has which slot, and the connections of one event loop to all of them."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from redis import exceptions as redis_errors
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from lightning_store.addresses import Address
from lightning_store.backends.redis.scripts import Argument
from lightning_store.backends.redis.server import SendTo, ToServer
from lightning_store.backends.redis.settings import ConnectionSettings
from lightning_store.errors import InvalidRequestError

NewPool = Callable[[ConnectionSettings], ToServer]
"""Makes the connections to one server."""

_LEAST_BETWEEN_LOOKS: Final = 0.1
_LOOK_SECONDS: Final = 2.0
"""For how long one node is asked for the slots; then the next one is."""

_KEYLESS: Final = frozenset({"CLUSTER", "INFO", "PING", "SCAN", "SCRIPT", "TIME", "WAIT"})
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA"})
_KEY_AT: Final = {"EVAL": 3, "EVALSHA": 3, "MEMORY": 2, "XINFO": 2}
_UNKNOWN_HOSTS: Final = frozenset({"", "?"})
"""What a node says that does not know its own address: the one under which it was asked is meant."""


class SlotMap:
    """Which node has which slot, as far as is known; shared by all event loops of a store object."""

    def __init__(self, start: Sequence[Address]) -> None:
        """Know nothing but some nodes to ask."""
        self._start = tuple(start)
        self._by_slot: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._nodes: tuple[Address, ...] = ()
        self._is_stale = True
        self._looked = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask a node: something has changed, and nobody has just asked."""
        return self._is_stale and time.monotonic() - self._looked >= _LEAST_BETWEEN_LOOKS

    @property
    def is_known(self) -> bool:
        """Whether any node was ever heard."""
        return bool(self._nodes)

    def suspect(self) -> None:
        """Note that a node was lost or has sent somebody away: the map may be old."""
        self._is_stale = True

    def looked(self) -> None:
        """Note that somebody asks now."""
        self._looked = time.monotonic()

    def learn(self, ranges: Sequence[Sequence[Any]], asked: Address) -> None:
        """Take over what a node answers to CLUSTER SLOTS."""
        by_slot: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        nodes: dict[Address, None] = {}
        for first, last, *servers in ranges:
            addresses = [address_of(server, asked[0]) for server in servers]
            nodes.update(dict.fromkeys(addresses))
            by_slot[first : last + 1] = [addresses[0]] * (last + 1 - first)
        self._by_slot, self._nodes, self._is_stale = by_slot, tuple(nodes), False

    def move(self, slot: int, address: Address) -> None:
        """Note where a slot lies, as the node says that had it; more may have moved."""
        self._by_slot[slot] = address
        self._is_stale = True

    def primary_of(self, slot: int) -> Address:
        """The node that has a slot.

        Raises:
            ClusterDownError: Nobody has it.
        """
        address = self._by_slot[slot]
        if address is None:
            self._is_stale = True
            raise redis_errors.ClusterDownError(f"no node has slot {slot}")
        return address

    def primaries(self) -> list[Address]:
        """All nodes that have slots."""
        return list(dict.fromkeys(address for address in self._by_slot if address is not None))

    def to_ask(self) -> list[Address]:
        """Nodes to ask, known ones in any order before those of the URL."""
        known = random.sample(self._nodes, len(self._nodes))
        return list(dict.fromkeys((*known, *self._start)))


class ClusterPool:
    """Sends commands to the nodes that have their keys; what `ToServer` is to a single one.

    What a node answers with MOVED is noted and left to the caller to repeat, like any other transient error. A script
    in a slot that is on its way is not taken to the node that gets it, for it would miss there what is still to come:
    it waits. A command that reads one key is; the key is where it is sent, or does not exist.
    """

    def __init__(self, settings: ConnectionSettings, slots: SlotMap, new_pool: NewPool) -> None:
        """Make a pool.

        Args:
            settings: How to reach the nodes.
            slots: Where the slots are.
            new_pool: Makes the connections to one node.
        """
        self._settings = settings
        self._slots = slots
        self._new_pool = new_pool
        self._pools: dict[Address, ToServer] = {}
        self._looking = asyncio.Lock()
        self._is_closed = False

    async def send(
        self, commands: Sequence[Sequence[Argument]], until: float | None = None, *, blocking_seconds: float = 0.0
    ) -> list[Any]:
        """Send commands, those for one node in one go; their answers in order, errors that servers answer among them.

        Args:
            commands: What to send; without a key, to where the others go. A WAIT at the end goes to every node that
                has one of them; its answer is the lowest.
            until: See `ToServer.send`.
            blocking_seconds: See `ToServer.send`; such commands are for one node.

        Raises:
            RedisError: A connection failed, or no node is known; what the servers have executed is not known.
        """
        await self._look(until)
        wait = list(commands[-1:]) if len(commands) > 1 and commands[-1][0] == "WAIT" else []
        commands = commands[: len(commands) - len(wait)]
        slots = _slots_of(commands)
        by_node: dict[Address, list[int]] = {}
        for at, slot in enumerate(slots):
            by_node.setdefault(self._slots.primary_of(slot), []).append(at)
        sends = [
            self._send_to(address, [*(commands[at] for at in places), *wait], until, blocking_seconds)
            for address, places in by_node.items()
        ]
        parts = [await sends[0]] if len(sends) == 1 else await _all_of(sends)
        answers: list[Any] = [None] * len(commands)
        for places, part in zip(by_node.values(), parts, strict=True):
            for at, answer in zip(places, part[: len(places)], strict=True):
                answers[at] = answer
        for at, answer in enumerate(answers):
            if isinstance(answer, redis_errors.MovedError):
                self._slots.move(slots[at], _sent_to(answer))
            elif isinstance(answer, redis_errors.AskError) and _reads_one_key(commands[at], blocking_seconds):
                asking = [("ASKING",), commands[at]]
                answers[at] = (await self._send_to(_sent_to(answer), asking, until))[1]
            elif isinstance(answer, redis_errors.ClusterDownError):
                self._slots.suspect()
        return [*answers, _lowest([part[-1] for part in parts])] if wait else answers

    async def primaries(self) -> list[SendTo]:
        """How to send to each of the nodes that have slots."""
        await self._look(None)
        return [partial(self._send_to, address) for address in self._slots.primaries()]

    async def close(self) -> None:
        """Close all connections, for good."""
        self._is_closed = True
        for pool in self._pools.values():
            await pool.close()

    def hang_up(self) -> None:
        """Close the sockets of a loop that is closed."""
        for pool in self._pools.values():
            pool.hang_up()

    async def _send_to(
        self,
        address: Address,
        commands: Sequence[Sequence[Argument]],
        until: float | None,
        blocking_seconds: float = 0.0,
    ) -> list[Any]:
        try:
            return await self._pool_of(address).send(commands, until, blocking_seconds=blocking_seconds)
        except (redis_errors.RedisError, OSError):
            self._slots.suspect()
            raise

    def _pool_of(self, address: Address) -> ToServer:
        if self._is_closed:
            raise redis_errors.ConnectionError("the connections were closed")
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = self._new_pool(self._settings.at(address))
        return pool

    async def _look(self, until: float | None) -> None:
        """Ask the nodes where the slots are, if it is time to; who comes meanwhile waits for the answer."""
        if not self._slots.is_due and self._slots.is_known:
            return
        async with self._looking:
            if self._slots.is_due:
                self._slots.looked()
                await self._ask(until)
        if not self._slots.is_known:
            raise redis_errors.ConnectionError("no node of the Cluster has answered")

    async def _ask(self, until: float | None) -> None:
        """Ask one node after the other; if none answers, what is known stays.

        Raises:
            RedisError: None has ever answered, and this is what the last one said.
        """
        failure: Exception | None = None
        for address in self._slots.to_ask():
            now = asyncio.get_running_loop().time()
            latest = now + _LOOK_SECONDS if until is None else min(until, now + _LOOK_SECONDS)
            try:
                [answer] = await self._pool_of(address).send([("CLUSTER", "SLOTS")], latest)
            except (redis_errors.RedisError, OSError) as error:
                failure = error
                continue
            if not isinstance(answer, Exception):
                self._slots.learn(answer, address)
                return
            failure = _explained(answer)
        if failure is not None and not self._slots.is_known:
            raise failure


async def _all_of(sends: "Sequence[Any]") -> list[Any]:
    """What all of them answer; an error is raised when the last one has ended, so that none is left running."""
    answers = await asyncio.gather(*sends, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


def _lowest(confirmed: Sequence[Any]) -> Any:
    """How many replicas have confirmed on the node with the fewest; an error if one has answered that."""
    return next((each for each in confirmed if isinstance(each, Exception)), None) or min(confirmed)


def _slots_of(commands: Sequence[Sequence[Argument]]) -> list[int]:
    """The slot of each command; one without a key takes that of another, or any."""
    slots = [slot_of(command) for command in commands]
    common = next((slot for slot in slots if slot is not None), 0)
    return [common if slot is None else slot for slot in slots]


def slot_of(command: Sequence[Argument]) -> int | None:
    """The slot of a command's first key; None when it has none."""
    name = command[0]
    if name in _KEYLESS:
        return None
    key = command[command.index("STREAMS") + 1 if name == "XREAD" else _KEY_AT.get(str(name), 1)]
    return int(key_slot(key.encode() if isinstance(key, str) else bytes(key)))


def _reads_one_key(command: Sequence[Argument], blocking_seconds: float) -> bool:
    return command[0] not in _SCRIPTS and not blocking_seconds


def _sent_to(error: redis_errors.AskError) -> Address:
    return str(error.host), int(error.port)


def address_of(server: Sequence[Any], asked: str) -> Address:
    """Where a server of the answer to CLUSTER SLOTS is, which was given by the host that was asked."""
    host = server[0].decode() if isinstance(server[0], bytes) else str(server[0] or "")
    return asked if host in _UNKNOWN_HOSTS else host, int(server[1])


def _explained(error: Exception) -> Exception:
    if "cluster support disabled" in str(error):
        return InvalidRequestError("redis url: the server is no node of a Cluster; its URL begins with redis://")
    return error
