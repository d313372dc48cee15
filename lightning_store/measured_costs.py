"""What things cost Redis: the figures of benchmarks/results.md ("Memory") and benchmarks/scaling.json, as constants.

A test compares them with the figures that were taken last, and another what follows for memory with a real namespace.
"""

from typing import Final, NamedTuple

# -- memory, in bytes --------------------------------------------------------------------------------------------------

QUEUED_BYTES: Final = 624
"""results.md, "queued rollout with 200 B of input", without these 200."""

FINISHED_BYTES: Final = 1126
"""results.md, "finished rollout with one attempt", without 200 B of input."""

STREAM_BYTES: Final = 560
"""The stream of a rollout's spans and the set of their ids, besides nodes. This and the next three make up results.md,
"span of 1,000 B, over its bytes", which is of rollouts with 100 spans each."""

NODE_BYTES: Final = 170
"""What a node of a stream takes besides its spans."""

NODE_CAPACITY: Final = 4096
"""Redis' `stream-node-max-bytes`: a node holds so much, or one larger span, and the last one is as large from the first
span on."""

ENTRY_BYTES: Final = 60
"""What a span takes in its node, and its id, besides its own bytes."""

TOKEN_BYTES: Final = 210
"""Of a claim, an end or a call with spans, with its share of Redis' tables (docs/redis.md, "Memory"); results.md has
226 for an end and its share of a claim in bulk ("the tokens of its claim and its end")."""

TOKEN_SECONDS: Final = 240
"""results.md, "the tokens of its claim and its end, for 240 s"."""

WORKER_BYTES: Final = 660
"""scaling.json, "worker with its heartbeat, bytes"."""

CONNECTION_BYTES: Final = 17_000
"""scaling.json, "waiting runner with two connections, bytes", without its record."""

EVENTS_BYTES: Final = 1_120_000
"""scaling.json, "event, bytes", of which 10,000 are kept."""

# -- processor and network, per call -----------------------------------------------------------------------------------
# Microseconds depend on the machine and on what else it does; what one call takes beside another hardly does. So those
# of a claim are from results.md, and the others from scaling.json in proportion to them. Bytes are as they are there.


class Call(NamedTuple):
    """What a call costs Redis: microseconds of its processor, bytes from the client, bytes to it."""

    micros: float
    bytes_in: float
    bytes_out: float


CLAIM: Final = Call(130, 221, 359)
"""results.md, between "claims, one at a time" (204) and "64 coroutines" (96), where calls of many hosts lie: some come
alone, some together. Bytes without 200 of input."""

ENQUEUE: Final = Call(90, 176, 38)
"""scaling.json, "enqueue", without 200 B of input; results.md has 185 alone and 37 in bulk."""

SUCCESS: Final = Call(110, 218, 256)
"""scaling.json, "success"; results.md has it in "lives"."""

SPAN_CALL: Final = Call(103, 345, 1)
"""scaling.json, "call with 1 span of 1 kB", without the span."""

SPAN: Final = Call(6, 43, 8)
"""scaling.json, between calls with 20 spans and 1, without its bytes; results.md has 19 for 1 kB, 100 a call."""

SPAN_KILOBYTE_MICROS: Final = 4.0
"""scaling.json, between calls with 1 span of 20 kB and of 1 kB."""

HEARTBEAT: Final = Call(65, 438, 17)
"""scaling.json, "heartbeat"."""

WAITING: Final = Call(30, 65, 90)
"""scaling.json, "waiting runner, µs of Redis CPU per second": per second, not per call."""

WAITING_COMMANDS: Final = 0.6
"""scaling.json, "waiting runner, commands per second"."""

HEARTBEAT_SECONDS: Final = 20.0
"""Between two heartbeats of a worker, of the runner's usual lease of 60 s."""

CONNECTIONS: Final = 4
"""Of a runner process: calls, the wait for its queues, heartbeats, spans."""

MAXCLIENTS: Final = 10_000
"""Redis' own setting for most connections, unless it is raised."""
