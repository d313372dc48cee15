"""`lightning-store doctor`: is this server fit for a store?"""

import typer


def add_to(app: typer.Typer) -> None:
    """Add the command."""
