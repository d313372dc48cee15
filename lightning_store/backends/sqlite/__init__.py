"""The store in one SQLite file, for many processes of one host."""

from lightning_store.backends.sqlite.store import SQLiteLightningStore

__all__ = ["SQLiteLightningStore"]
