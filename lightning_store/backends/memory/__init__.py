"""The in-memory store: the executable specification of the contract."""

from lightning_store.backends.memory.store import InMemoryLightningStore

__all__ = ["InMemoryLightningStore"]
