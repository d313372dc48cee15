"""The tables of the file, and the steps that bring an older file up to date.

A file is ours by its `application_id`; its version is `user_version`, the number of steps that were carried out. A step
is never changed once it was released: what changes is a further step.

Conventions. Rollouts are called by their creation number inside of the file, attempts by rollout and sequence id. Text
that may be any text (of spans) is kept as bytes, with surrogates, because SQLite's own text cannot hold them; their
order as bytes is that of their code points. A missing value is NULL. Payloads are JSON, compressed when long.
"""

from collections.abc import Sequence
from typing import Final

APPLICATION_ID: Final = 0x4C_53_74_6F
"""Marks our files, in the field of SQLite's header that is there for it: `LSto`."""

_FIRST: Final = (
    """
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        last_time REAL,                         -- of the last call that noted its time
        resumed_time REAL,                      -- when the store could be reached again after the last outage
        last_completion INTEGER NOT NULL DEFAULT 0,
        latest_resources_id TEXT,
        attempts INTEGER NOT NULL DEFAULT 0,
        spans INTEGER NOT NULL DEFAULT 0,
        span_bytes INTEGER NOT NULL DEFAULT 0
    )
    """,
    "INSERT INTO meta (id) VALUES (1)",
    "CREATE TABLE status_counts (status TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE rollouts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        rollout_id TEXT NOT NULL UNIQUE,
        digest TEXT,
        start_time REAL NOT NULL,
        end_time REAL,
        mode TEXT,
        resources_id TEXT,
        status TEXT NOT NULL,
        config BLOB,                            -- NULL: all defaults
        queue TEXT NOT NULL,
        group_id TEXT,
        uncounted INTEGER NOT NULL DEFAULT 0,
        losses INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,    -- also the number of the latest
        deadline REAL,                          -- not after the true one; NULL: never
        queued_time REAL NOT NULL,
        queue_place INTEGER,                    -- NULL: no entry; void unless the status is a queued one
        ready_time REAL,                        -- of a retry that waits for its delay
        finish_number INTEGER,                  -- of its last completion
        last_sequence_id INTEGER NOT NULL DEFAULT 0,
        spans INTEGER NOT NULL DEFAULT 0,
        span_bytes INTEGER NOT NULL DEFAULT 0,
        evicted INTEGER NOT NULL DEFAULT 0      -- attempts up to this one have lost their spans
    )
    """,
    "CREATE INDEX rollouts_by_status ON rollouts (status, number)",
    "CREATE INDEX rollouts_by_group ON rollouts (group_id, number) WHERE group_id IS NOT NULL",
    "CREATE INDEX rollouts_by_start ON rollouts (start_time, number)",
    "CREATE INDEX rollouts_in_queues ON rollouts (queue, queue_place) WHERE queue_place IS NOT NULL",
    "CREATE INDEX rollouts_delayed ON rollouts (ready_time, rollout_id) WHERE ready_time IS NOT NULL",
    "CREATE INDEX rollouts_by_deadline ON rollouts (deadline, rollout_id) WHERE deadline IS NOT NULL",
    "CREATE INDEX rollouts_by_finish ON rollouts (finish_number) WHERE finish_number IS NOT NULL",
    "CREATE INDEX rollouts_with_spans ON rollouts (finish_number) WHERE finish_number IS NOT NULL AND spans > 0",
    """
    CREATE TABLE tasks (                        -- apart from the rollouts, which change often
        rollout INTEGER PRIMARY KEY REFERENCES rollouts (number) ON DELETE CASCADE,
        input BLOB NOT NULL,
        metadata BLOB
    )
    """,
    """
    CREATE TABLE attempts (
        rollout INTEGER NOT NULL REFERENCES rollouts (number) ON DELETE CASCADE,
        sequence_id INTEGER NOT NULL,
        attempt_id TEXT NOT NULL,
        start_time REAL NOT NULL,
        end_time REAL,
        status TEXT NOT NULL,
        worker_id TEXT,
        last_heartbeat_time REAL,
        metadata BLOB,
        cause TEXT,
        lease_seconds REAL,
        resources_id TEXT,
        resources_version TEXT,                 -- text: it has no upper limit
        uncounted TEXT,
        grace_end REAL,
        reward TEXT,                            -- of the last span that had one; text keeps NaN
        reward_sequence_id INTEGER,
        PRIMARY KEY (rollout, sequence_id)
    ) WITHOUT ROWID
    """,
    "CREATE UNIQUE INDEX attempts_by_id ON attempts (rollout, attempt_id)",
    """
    CREATE TABLE queues (                       -- those that ever had an entry
        name TEXT PRIMARY KEY,
        live INTEGER NOT NULL DEFAULT 0,
        delayed INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE completions (
        number INTEGER PRIMARY KEY,             -- given out once, see meta.last_completion
        rollout INTEGER NOT NULL REFERENCES rollouts (number) ON DELETE CASCADE,
        status TEXT NOT NULL,
        mode TEXT,
        group_id TEXT,
        end_time REAL NOT NULL
    )
    """,
    "CREATE INDEX completions_of_rollouts ON completions (rollout)",
    "CREATE INDEX completions_of_groups ON completions (group_id, number) WHERE group_id IS NOT NULL",
    "CREATE TABLE consumers (name TEXT PRIMARY KEY, number INTEGER NOT NULL, update_time REAL NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        time REAL NOT NULL,
        rollout_id TEXT NOT NULL,
        attempt_id TEXT,
        status TEXT NOT NULL,
        attempt_status TEXT,
        cause TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE spans (
        number INTEGER PRIMARY KEY,             -- the order in which they were stored
        rollout INTEGER NOT NULL REFERENCES rollouts (number) ON DELETE CASCADE,
        attempt INTEGER NOT NULL,
        sequence_id INTEGER NOT NULL,
        span_id BLOB NOT NULL,
        trace_id BLOB NOT NULL,
        parent_id BLOB,
        name BLOB NOT NULL,
        start_time REAL,                        -- infinite: none was given; NULL: not a number
        end_time REAL,
        data BLOB NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX spans_by_id ON spans (rollout, attempt, span_id)",
    "CREATE INDEX spans_by_sequence ON spans (rollout, sequence_id, number)",
    """
    CREATE TABLE resources (
        number INTEGER PRIMARY KEY,
        resources_id TEXT NOT NULL UNIQUE,
        create_time REAL NOT NULL,
        update_time REAL NOT NULL,
        version INTEGER NOT NULL,
        data BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE workers (
        number INTEGER PRIMARY KEY,
        worker_id TEXT NOT NULL UNIQUE,
        status TEXT NOT NULL,
        heartbeat_stats BLOB,
        last_heartbeat_time REAL,
        last_dequeue_time REAL,
        last_busy_time REAL,
        last_idle_time REAL,
        current_rollout_id TEXT,
        current_attempt_id TEXT
    )
    """,
)

Migrations = Sequence[Sequence[str]]
"""Statements of each step; step n makes version n of version n - 1."""

MIGRATIONS: Final[Migrations] = (_FIRST,)
