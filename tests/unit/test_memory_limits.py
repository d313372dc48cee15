"""Thresholds of memory: shares or bytes, rising from safe to eviction to high water."""

import math

import pytest

from lightning_store.backends.memory import InMemoryLightningStore
from lightning_store.backends.redis.store import RedisLightningStore
from lightning_store.errors import InvalidRequestError
from lightning_store.memory_limits import MemoryLimits, MemoryThresholds


@pytest.mark.parametrize(
    ("thresholds", "capacity", "expected"),
    [
        (MemoryThresholds(), 1000, MemoryLimits(560, 700, 900)),
        (MemoryThresholds(0.5, 0.5, 0.5), 1000, MemoryLimits(500, 500, 500)),
        (MemoryThresholds(300, 200, 400), None, MemoryLimits(200, 300, 400)),
        (MemoryThresholds(), None, MemoryLimits(math.inf, math.inf, math.inf)),
        (MemoryThresholds(2000, 100, 0.9), 1000, MemoryLimits(100, 900, 900)),
        (MemoryThresholds(0.7, None, 100), 1000, MemoryLimits(80, 100, 100)),
    ],
)
def test_thresholds_become_bytes(thresholds, capacity, expected):
    assert thresholds.of(capacity) == expected


@pytest.mark.parametrize(
    "make", [InMemoryLightningStore, lambda **options: RedisLightningStore("redis://x", **options)]
)
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"eviction_memory_threshold": 0.0}, "eviction_memory_threshold"),
        ({"eviction_memory_threshold": 1.5}, "eviction_memory_threshold"),
        ({"eviction_memory_threshold": math.nan}, "eviction_memory_threshold"),
        ({"eviction_memory_threshold": 0.95}, "eviction_memory_threshold"),
        ({"safe_memory_threshold": 0.75}, "safe_memory_threshold"),
        ({"safe_memory_threshold": "80%"}, "safe_memory_threshold"),
        ({"high_water_memory_threshold": True}, "high_water_memory_threshold"),
        ({"high_water_memory_threshold": 0.6}, "eviction_memory_threshold"),
        ({"high_water_memory_threshold": 10, "eviction_memory_threshold": 20}, "eviction_memory_threshold"),
    ],
)
def test_thresholds_out_of_bounds_are_refused_by_name(make, options, field):
    with pytest.raises(InvalidRequestError, match=f"^{field}: expected"):
        make(**options)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "5"])
def test_interval_of_looks_out_of_bounds_is_refused(seconds):
    with pytest.raises(InvalidRequestError, match="memory_check_seconds"):
        RedisLightningStore("redis://x", memory_check_seconds=seconds)
