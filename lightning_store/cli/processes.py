"""`lightning-store up`, `run`, `healthcheck`, `demo`: commands that go on until they are told to stop."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
