"""Every store does whatever the memory store does: random histories, compared step by step.

`HYPOTHESIS_PROFILE=ci` looks further than the fast suite does, from another starting point each time.
"""

import os
import secrets

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.operations import OPERATIONS
from tests.model.machine import StoreMachine
from tests.support.ids import CountingIds
from tests.support.stores import make_backend, source_of, store_params

COMPOSED = frozenset({"add_otel_span"})
"""Conversion is a pure function; what is stored then goes through `add_many_spans`."""

FAST = settings(deadline=None, max_examples=25, stateful_step_count=30, derandomize=True, database=None)
CI = settings(deadline=None, max_examples=400, stateful_step_count=60)
SETTINGS = settings(
    CI if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else FAST,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def test_every_changing_operation_has_a_rule():
    changing = {name for name, row in OPERATIONS.items() if row.mutates}
    assert changing - vars(StoreMachine).keys() == COMPOSED


@pytest.mark.timeout(3600 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 300)
@pytest.mark.parametrize("kind", store_params("redis", "sqlite", "cluster"))
def test_store_and_memory_agree(kind, request):
    def make_stores(clock):
        source = source_of(kind, request)
        options = {"clock": clock, "max_queued": {"a": 2}}
        subject = make_backend(kind, source, f"model-{secrets.token_hex(6)}", ids=CountingIds(), **options)
        return InMemoryLightningStore(ids=CountingIds(), **options), subject

    run_state_machine_as_test(lambda: StoreMachine(make_stores), settings=SETTINGS)
