"""The command line. It knows arguments, signals, output and exit codes, and no rules of the store."""

from lightning_store.cli.app import app, main

__all__ = ["app", "main"]
