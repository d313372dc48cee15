"""The least that a command could be: scripts without bookkeeping, sent through the same connections as the store's."""

import hashlib

from lightning_store.backends.redis.scripts import Script


def _script(name: str, text: str, keys: tuple[str, ...], arguments: tuple[str, ...], rest: str = "") -> Script:
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha, keys, arguments, frozenset({rest}), writes=True)


CLAIM = _script(
    "minimal_claim",
    """
local id = redis.call("LPOP", KEYS[1])
if id then
  redis.call("HSET", KEYS[2] .. id, "status", "preparing", "worker", ARGV[1])
end
return id
""",
    ("queue", "records"),
    ("worker_id",),
)
"""A claim: LPOP and HSET."""

ENQUEUE = _script(
    "minimal_enqueue",
    """
for i = 1, #ARGV, 2 do
  redis.call("SET", KEYS[2] .. ARGV[i], ARGV[i + 1])
  redis.call("RPUSH", KEYS[1], ARGV[i])
end
return #ARGV / 2
""",
    ("queue", "records"),
    ("items",),
    "items",
)
"""An enqueue: SET and RPUSH per rollout."""

SPANS = _script(
    "minimal_spans",
    """
for i = 1, #ARGV do
  redis.call("XADD", KEYS[1], "*", "d", ARGV[i])
end
return #ARGV
""",
    ("stream",),
    ("payloads",),
    "payloads",
)
"""Spans: XADD of the same bytes per span."""

LOOK = _script(
    "minimal_sweep",
    """
return redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", "0", "LIMIT", 0, 10)
""",
    ("index",),
    (),
)
"""A look at an index."""

OFFER = _script(
    "minimal_offer",
    """
redis.call("RPUSH", KEYS[1], ARGV[1])
redis.call("RPUSH", KEYS[2], "1")
return 1
""",
    ("queue", "tokens"),
    ("id",),
)
"""Work for a runner that waits for hints: RPUSH of the work and of a token."""
