"""Sends requests until they are answered: time limits, repeats and their delays, and a look at the server's health."""

import asyncio
import io
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

from lightning_store.errors import LightningStoreError, ServerBusyError, StoreUnavailableError
from lightning_store.http.failures import error_of
from lightning_store.http.protocol import API_HEADER, API_VERSION, JSON_TYPE, KEY_HEADER, PREFIX, TRY_HEADER
from lightning_store.http.sessions import Sessions
from lightning_store.http.trust import distrust

_LONG_BYTES: Final = 1 << 18
_SUCCESS: Final = range(200, 300)
_DELAY_DIGITS: Final = 9


@dataclass(frozen=True)
class Patience:
    """Time limits of a client, in seconds.

    Attributes:
        request_seconds: Longest time for one try, without what the call itself waits for at the server.
        connect_seconds: Longest time to connect, within that.
        retry_seconds: For how long a call is repeated.
        retry_delays: Pauses before the repeats; the last one goes on. Each is varied by half.
        health_seconds: Before a repeat the server is asked whether it lives, for so long; None = it is not asked.
    """

    request_seconds: float = 30.0
    connect_seconds: float = 5.0
    retry_seconds: float = 30.0
    retry_delays: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0, 2.0)
    health_seconds: float | None = 2.0


@dataclass(frozen=True)
class Request:
    """One call as it is sent.

    Attributes:
        path: Below the prefix, with its escapes and query.
        body: JSON; None = no body.
        key: The same for each try; None where a repeat does no harm.
        is_safe: A repeat does no harm even if the server knows nothing of keys.
        wait_seconds: How long the call may wait at the server.
    """

    method: str
    path: str
    body: bytes | None = None
    key: str | None = None
    is_safe: bool = True
    wait_seconds: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class _Failure:
    """A try that brought no answer to the call.

    Attributes:
        error: What to raise if it was the last one.
        cause: Of the error, if there is one.
        was_received: The server may have carried the call out.
        asked_seconds: So long the server asks to be left alone; 0 = it does not say.
    """

    error: LightningStoreError
    cause: BaseException | None = None
    was_received: bool = True
    asked_seconds: float = 0.0


class Sender:
    """Sends the requests of one client to one server.

    Attributes:
        is_ours: Whether the server is one of ours, which knows keys; None before it has answered.
    """

    def __init__(self, root: str, token: str | None, patience: Patience, sessions: Sessions) -> None:
        """Set up; nothing is sent.

        Args:
            root: URL of the server without the prefix of the API.
            token: Bearer token; None = none.
            patience: Time limits.
            sessions: Where connections come from.
        """
        self.is_ours: bool | None = None
        self._api = root + PREFIX
        self._patience = patience
        self._sessions = sessions
        self._headers = {API_HEADER: API_VERSION, **({} if token is None else {"Authorization": f"Bearer {token}"})}

    async def send(self, request: Request) -> Answer:
        """The answer to a request, which is repeated until there is one.

        A server that says when to come again is not asked before, unless the time is over sooner.

        Raises:
            LightningStoreError: What the server says.
            ServerBusyError: It has had no room for the call all the time.
            StoreUnavailableError: No answer in time; or the server's certificate is not trusted, which is told at once.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience.retry_seconds
        tries = 0
        while True:
            outcome = await self._outcome(request, tries + 1)
            if isinstance(outcome, Answer):
                return outcome
            pause = self._pause(tries)
            tries += 1
            left = until - loop.time()
            if pause >= left:
                raise outcome.error from outcome.cause
            await asyncio.sleep(min(max(pause, outcome.asked_seconds * random.uniform(1.0, 1.2)), left))  # noqa: S311
            await self._revived(until)
            if outcome.was_received and not self.is_ours and not request.is_safe:
                raise StoreUnavailableError(f"{outcome.error}; the call may have taken effect") from outcome.cause

    async def _outcome(self, request: Request, number: int) -> "Answer | _Failure":
        """What became of one try that may be worth another.

        Raises:
            LightningStoreError: What the server says, or that it is not trusted; another try would bring the same.
        """
        try:
            answer = await self._try(request, number)
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._unavailable(distrust(f"{error.host}:{error.port}", error.certificate_error)) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            was_received = not isinstance(error, aiohttp.ClientConnectorError)
            return _Failure(self._unavailable(str(error) or type(error).__name__), error, was_received)
        if answer.status in _SUCCESS:
            return answer
        told = error_of(answer.status, answer.body, answer.headers)
        if told is not None and not isinstance(told, ServerBusyError):
            raise told
        return _Failure(told or self._unavailable(f"HTTP {answer.status}"), asked_seconds=_retry_after(answer.headers))

    async def recognise(self) -> bool:
        """Whether the server is one of ours, which it is asked before the first call.

        Raises:
            StoreUnavailableError: No answer in time.
        """
        if self.is_ours is None:
            await self.send(Request("GET", "/health"))
        return bool(self.is_ours)

    async def ask_health(self) -> bool:
        """Whether the server lives; also finds out whether it is one of ours."""
        seconds = self._patience.health_seconds or self._patience.connect_seconds
        try:
            return (await self._exchange(Request("GET", "/health"), seconds)).status in _SUCCESS
        except aiohttp.ClientConnectorCertificateError:
            return True  # a server that is not trusted; the next try tells so
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
            return False

    async def _revived(self, until: float) -> None:
        """Returns when the server lives again, or the time is over."""
        loop = asyncio.get_running_loop()
        tries = 0
        if self._patience.health_seconds is None and self.is_ours is not None:
            return
        while not await self.ask_health() and loop.time() + (pause := self._pause(tries)) < until:
            await asyncio.sleep(pause)
            tries += 1

    def _pause(self, tries: int) -> float:
        delays = self._patience.retry_delays
        return delays[min(tries, len(delays) - 1)] * random.uniform(0.5, 1.5)  # noqa: S311 - jitter needs no secrecy

    def _unavailable(self, problem: str) -> LightningStoreError:
        return StoreUnavailableError(f"{self._api}: {problem}")

    async def _try(self, request: Request, number: int) -> Answer:
        return await self._exchange(request, self._patience.request_seconds + request.wait_seconds, number)

    async def _exchange(self, request: Request, seconds: float, number: int = 1) -> Answer:
        headers = dict(self._headers)
        if request.key is not None:
            headers[KEY_HEADER] = request.key
            if number > 1:
                headers[TRY_HEADER] = str(number)
        if request.body is not None:
            headers["Content-Type"] = JSON_TYPE
        async with self._sessions.get(waits=request.wait_seconds > 0).request(
            request.method,
            URL(self._api + request.path, encoded=True),
            data=_payload(request.body),
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=self._patience.connect_seconds),
        ) as response:
            body = await response.read()
            self._learn(response.status, response.headers)
            return Answer(response.status, body, response.headers)

    def _learn(self, status: int, headers: Mapping[str, str]) -> None:
        """Whose server it is. A refusal without our header does not tell: a proxy or guard may have sent it."""
        if API_HEADER in headers:
            self.is_ours = True
        elif status in _SUCCESS:
            self.is_ours = False


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    """A body as aiohttp wants it: long ones in pieces, between which others get a turn."""
    return io.BytesIO(body) if body is not None and len(body) >= _LONG_BYTES else body


def _retry_after(headers: Mapping[str, str]) -> float:
    """In how many seconds to come again, as the server says; 0 when it does not say so in digits."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= _DELAY_DIGITS else 0.0
