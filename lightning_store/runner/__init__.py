"""Runs agents on rollouts: claims, traces, renews leases, reports."""

from lightning_store.runner.runner import Runner
from lightning_store.scope import cancelled

__all__ = ["Runner", "cancelled"]
