"""A process is killed after each command of a longer operation: nothing is in between, and a repeat completes it."""

import pytest

from tests.support.clock import START_TIME
from tests.support.crashing import on_clock, run_and_die
from tests.support.invariants import findings
from tests.support.keyspace import read_keyspace
from tests.support.long_operations import LEASE_SECONDS, OPERATIONS

NEVER = 10**6


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_process_that_is_killed_after_any_command_leaves_nothing_in_between(
    operation, redis_url, redis_server, namespace
):
    it = operation()

    def attempt(name, commands):
        """Kill a process after so many commands; whether it came to that, and the outcome after sweep and repeat."""
        on_clock(redis_url, name, 0, it.prepare)
        passed = it.seconds_before
        killed = run_and_die(redis_url, name, START_TIME + passed, operation.work, commands)
        with redis_server.client(decode_responses=False) as raw:
            assert findings(read_keyspace(raw, name)) == [], f"after {commands} commands"
        later = passed + 2 * LEASE_SECONDS
        on_clock(redis_url, name, later, lambda store: store.expire_attempts(limit=10_000))
        on_clock(redis_url, name, later, operation.work)  # by another process, this one
        with redis_server.client(decode_responses=False) as raw:
            assert findings(read_keyspace(raw, name)) == [], f"after {commands} commands and a repeat"
        return killed, on_clock(redis_url, name, later, it.outcome)

    _, undisturbed = attempt(f"{namespace}-calm", NEVER)
    commands, killed = 0, True
    while killed:
        commands += 1
        killed, outcome = attempt(f"{namespace}-{commands}", commands)
        assert outcome == undisturbed, f"after {commands} commands"
    assert commands > it.least_commands
