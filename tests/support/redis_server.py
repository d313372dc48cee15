"""Real redis-servers for tests: private, on free ports, breakable on purpose."""

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lightning_store.embedded import EmbeddedRedis
from lightning_store.embedded_binary import ServerBinary, find_server, read_binary

BINARY_VARIABLE: Final = "LIGHTNING_STORE_TEST_REDIS_SERVER"


def binary_under_test() -> ServerBinary:
    """The server that the environment names, else the one that users without one would get."""
    named = os.environ.get(BINARY_VARIABLE)
    return read_binary(Path(named)) if named else find_server()


class RedisUnderTest(EmbeddedRedis):
    """An embedded server that can be killed, suspended and started again; port and password stay."""

    def __init__(self, data_dir: Path | None = None, *, settings: Mapping[str, str] | None = None, **options: Any):
        binary = binary_under_test()
        # Since Redis 7 DEBUG must be allowed; before, the setting is unknown.
        debug = {"enable-debug-command": "yes"} if binary.name != "redis" or binary.version >= (7, 0, 0) else {}
        super().__init__(data_dir, settings={**debug, **(settings or {})}, binary=binary.path, **options)

    @property
    def port(self) -> int:
        """Where it listens, also when it is stopped."""
        assert self._port is not None
        return self._port

    def kill(self) -> None:
        """End the server as a power cut of its process would; returns when it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def restart(self) -> None:
        """Stop and start; data stays if the server was made with a data folder."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Suspend the server: it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def client(self, **options: Any) -> "redis.Redis":
        """A synchronous client that tries once and answers with text; the caller closes it."""
        settings = {
            "protocol": 2,
            "decode_responses": True,
            "socket_timeout": 10.0,
            "socket_connect_timeout": 10.0,
            "retry": Retry(NoBackoff(), 0),
        }
        client = redis.Redis.from_url(self.url, **settings)
        client.connection_pool.connection_kwargs.update(
            options
        )  # these win over the URL, whose password would win otherwise
        return client
