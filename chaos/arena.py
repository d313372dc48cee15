"""Where a run takes place: a real Redis behind a proxy, clients as processes, and the faults that strike them."""

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from chaos.evidence import Window
from chaos.fleet import ALGORITHM, DAEMON, HOUR, Common, Fleet, log_line
from chaos.plan import Fault, Strike
from chaos.recovery import Struck
from tests.support.proxy import Fault as Misdeed
from tests.support.proxy import Proxy, now_and_then
from tests.support.redis_server import RedisUnderTest

SAMPLE_SECONDS: Final = 0.02
POSTPONED_SECONDS: Final = 2.0
"""With `everysec`, Redis puts off writing to its file for up to so long while the disk is busy syncing."""

SHARE_DROPPED: Final = 0.3
SETTLING_SECONDS: Final = 3.0
DRAIN_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1


class Arena:
    """One run.

    Attributes:
        server: Redis itself.
        struck: The strikes so far.
        windows: When what was acknowledged may have been lost; empty with `always`.
        incidents: What went wrong besides: processes that ended by themselves or not at all.
    """

    def __init__(self, folder: Path, fsync: str, common: Common) -> None:
        """Set up; nothing is started.

        Args:
            folder: For data, journals and logs.
            fsync: The server's `appendfsync`.
            common: What all clients are told.
        """
        self._folder = folder
        self._fsync = fsync
        self._common = common
        # The power cut needs one file that only grows.
        rewrites = {"auto-aof-rewrite-percentage": "0"} if fsync == "everysec" else {}
        self.server = RedisUnderTest(folder / "redis", appendfsync=fsync, settings=rewrites)
        self.struck: list[Struck] = []
        self.windows: list[Window] = []
        self.incidents: list[str] = []
        self._samples: list[tuple[float, int]] = []
        self._began = 0.0
        self._faults: Mapping[Fault, Callable[[Strike, random.Random], Awaitable[tuple[str | None, str]]]] = {
            Fault.KILL_RUNNER: self._kill_runner,
            Fault.KILL_DAEMON: self._kill_daemon,
            Fault.SUSPEND_RUNNER: self._suspend_runner,
            Fault.SUSPEND_DAEMON: self._suspend_daemon,
            Fault.KILL_CLIENTS: self._kill_clients,
            Fault.FLUSH_SCRIPTS: self._flush_scripts,
            Fault.KILL_REDIS: self._kill_redis,
            Fault.POWER_CUT: self._power_cut,
            Fault.FREEZE_3: self._freeze,
            Fault.FREEZE_10: self._freeze,
            Fault.FREEZE_60: self._freeze,
            Fault.CUT: self._cut,
            Fault.DROP_ANSWERS: self._drop_answers,
            Fault.SHIFT_CLOCKS: self._shift_clocks,
            Fault.FILL_MEMORY: self._fill_memory,
        }

    @property
    def journals(self) -> Path:
        """Folder of the clients' journals."""
        return self._folder / "journals"

    async def run(self, strikes: Sequence[Strike], settle: Callable[[], Awaitable[bool]]) -> None:
        """Start everything, let the strikes happen, let the work end, stop the clients; the server goes on.

        Args:
            strikes: What is to happen.
            settle: Asked again and again when the algorithm has ended: whether no work is left.
        """
        self._began = time.monotonic()
        async with Proxy(self.server.url) as self._proxy:
            self._fleet = Fleet(self._folder, self._proxy.url, self._common)
            sampler = asyncio.ensure_future(self._sample_file())
            try:
                self._fleet.start()
                await asyncio.sleep(SETTLING_SECONDS)
                await self._strike_all(strikes)
                await asyncio.sleep(SETTLING_SECONDS)
                await self._wind_down(settle)
            finally:
                sampler.cancel()
                self._fleet.kill_all()

    # -- the course --------------------------------------------------------------------------------------------------

    async def _strike_all(self, strikes: Sequence[Strike]) -> None:
        lasting: list[asyncio.Future[None]] = []
        for number, strike in enumerate(strikes):
            if lasting and not strike.overlaps:
                await asyncio.gather(*lasting)
                lasting.clear()
            await asyncio.sleep(strike.gap_seconds)
            is_followed = number + 1 < len(strikes) and strikes[number + 1].overlaps
            lasting.append(asyncio.ensure_future(self._strike(strike, not strike.overlaps and not is_followed)))
        await asyncio.gather(*lasting)

    async def _strike(self, strike: Strike, alone: bool) -> None:
        self._look_for_the_dead()
        dice = random.Random(strike.chance)  # noqa: S311 - repeatable on purpose
        began = time.monotonic()
        process, detail = await self._faults[strike.fault](strike, dice)
        struck = Struck(strike, began, time.monotonic(), process, alone, detail)
        self.struck.append(struck)
        self.tell(f"{strike.fault.value}; {struck.ended - began:.1f} s {detail}{'' if alone else ' (overlapping)'}")

    async def _wind_down(self, settle: Callable[[], Awaitable[bool]]) -> None:
        """Let the algorithm see the end of all its work, then end everybody."""
        self._look_for_the_dead()
        self.tell("no more faults, waiting for the end of the work")
        self._fleet.ask_to_stop(ALGORITHM)
        await self._until(self._has_ended(ALGORITHM), DRAIN_SECONDS, "the algorithm did not see the end of its work")
        await self._until(settle, STOP_SECONDS, "work is left that nobody finishes")
        others = [*self._fleet.runners, DAEMON]
        self._fleet.ask_to_stop(*others)
        await self._until(self._has_ended(*others), STOP_SECONDS, "some clients did not stop")
        self.incidents += [member.last_words() for member in self._fleet.dead() if member.child.exit_code]

    def _has_ended(self, *names: str) -> Callable[[], Awaitable[bool]]:
        async def has_ended() -> bool:
            return self._fleet.is_over(*names)

        return has_ended

    async def _until(self, condition: Callable[[], Awaitable[bool]], seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while not await condition():
            if time.monotonic() > deadline:
                self.incidents.append(f"{complaint} within {seconds:g} s")
                return
            await asyncio.sleep(LOOK_SECONDS)

    def _look_for_the_dead(self) -> None:
        """Whoever ended by itself is an incident, and is started again."""
        for member in self._fleet.dead():
            self.incidents.append(member.last_words())
            self._fleet.start_member(member.name)

    def tell(self, text: str) -> None:
        """A line for whoever watches."""
        sys.stderr.write(log_line(text, self._began) + "\n")
        sys.stderr.flush()

    # -- the faults: who was hit, if it is one process, and what else there is to tell --------------------------------

    async def _kill_runner(self, _strike: Strike, dice: random.Random) -> tuple[str | None, str]:
        return self._fleet.kill(dice.choice(self._fleet.runners)), ""

    async def _kill_daemon(self, _strike: Strike, _dice: random.Random) -> tuple[str | None, str]:
        return self._fleet.kill(DAEMON), ""

    async def _suspend_runner(self, strike: Strike, dice: random.Random) -> tuple[str | None, str]:
        return await self._suspend(dice.choice(self._fleet.runners), strike.seconds)

    async def _suspend_daemon(self, strike: Strike, _dice: random.Random) -> tuple[str | None, str]:
        return await self._suspend(DAEMON, strike.seconds)

    async def _suspend(self, name: str, seconds: float) -> tuple[str, str]:
        member = self._fleet.members[name]
        member.child.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            member.child.resume()
        return member.life, ""

    async def _kill_clients(self, _strike: Strike, _dice: random.Random) -> tuple[str | None, str]:
        killed = await self._command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return None, f"{killed} connections"

    async def _flush_scripts(self, _strike: Strike, _dice: random.Random) -> tuple[str | None, str]:
        await self._command("SCRIPT", "FLUSH")
        return None, ""

    async def _kill_redis(self, _strike: Strike, _dice: random.Random) -> tuple[str | None, str]:
        before = time.monotonic()
        await asyncio.to_thread(self.server.kill)
        if self._fsync == "everysec":
            self.windows.append(Window(before - POSTPONED_SECONDS, time.monotonic(), Fault.KILL_REDIS))
        await asyncio.to_thread(self.server.start)
        return None, ""

    async def _power_cut(self, _strike: Strike, dice: random.Random) -> tuple[str | None, str]:
        """What a loss of power may leave: the server's file as it was at some moment of the last second.

        Killing the process alone loses nothing that reached the kernel, so the file is cut as well.
        """
        moment = time.monotonic() - dice.uniform(0.0, 1.0)
        await asyncio.to_thread(self.server.kill)
        killed_at = time.monotonic()
        sampled_at, size = next(sample for sample in reversed(self._samples) if sample[0] <= moment)
        file = self._file()
        cut = file.stat().st_size - size
        os.truncate(file, size)
        self.windows.append(Window(sampled_at - POSTPONED_SECONDS, killed_at, Fault.POWER_CUT))
        self._samples.clear()
        await asyncio.to_thread(self.server.start)
        return None, f"{cut} bytes cut, of the last {killed_at - sampled_at:.2f} s"

    async def _freeze(self, strike: Strike, _dice: random.Random) -> tuple[str | None, str]:
        self.server.pause()
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            self.server.resume()
        return None, ""

    async def _cut(self, _strike: Strike, _dice: random.Random) -> tuple[str | None, str]:
        return None, f"{self._proxy.cut()} connections"

    async def _drop_answers(self, strike: Strike, dice: random.Random) -> tuple[str | None, str]:
        before = self._proxy.lost
        self._proxy.fault = Misdeed.LOST_ANSWER
        self._proxy.judge = now_and_then(SHARE_DROPPED, dice.getrandbits(32))
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            self._proxy.judge = None
        return None, f"{self._proxy.lost - before} answers"

    async def _shift_clocks(self, strike: Strike, dice: random.Random) -> tuple[str | None, str]:
        for name in self._fleet.members:
            self._fleet.shift_clock(name, dice.choice((-HOUR, HOUR)))
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            for name in self._fleet.members:
                self._fleet.shift_clock(name, 0.0)
        return None, ""

    async def _fill_memory(self, strike: Strike, _dice: random.Random) -> tuple[str | None, str]:
        await self._command("CONFIG", "SET", "maxmemory", "1")
        try:
            await asyncio.sleep(strike.seconds)
        finally:
            await self._command("CONFIG", "SET", "maxmemory", "0")
        return None, ""

    # -- the server --------------------------------------------------------------------------------------------------

    async def _command(self, *words: str) -> Any:
        """One command of the administrator, past the proxy."""

        def send() -> Any:
            with self.server.client() as client:
                return client.execute_command(*words)

        return await asyncio.to_thread(send)

    def _file(self) -> Path:
        """The append-only file that grows: since Redis 7 one of several."""
        folder = self._folder / "redis"
        parts = sorted(folder.glob("appendonlydir/*.incr.aof"))
        return parts[-1] if parts else folder / "appendonly.aof"

    async def _sample_file(self) -> None:
        """Note again and again how long the file is: what was acknowledged before has been written by then."""
        while self._fsync == "everysec":
            now = time.monotonic()
            self._samples.append((now, self._file().stat().st_size))
            await asyncio.sleep(SAMPLE_SECONDS)
