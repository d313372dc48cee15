"""Finding an agent by name: `package.module:agent`."""

import importlib
import os
import sys
import traceback
from typing import Any

from lightning_store.errors import InvalidRequestError
from lightning_store.runner.calling import Agent, check_agent


def load_agent(name: str) -> Agent:
    """Import an agent, looking in the current directory first, as `python -m` does.

    Args:
        name: `package.module:agent`; behind the colon may stand a path of attributes.

    Raises:
        InvalidRequestError: It cannot be imported, or it cannot be called; the message is one line.
    """
    module_name, separator, path = name.partition(":")
    if not (separator and module_name and path):
        raise InvalidRequestError(f"agent: expected package.module:name, got {name!r}")
    folder = os.getcwd()  # noqa: PTH109 - an entry of sys.path is text
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    found: Any = _import(module_name, name, folder)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise InvalidRequestError(f"agent {name}: {module_name} has no {path!r}")
        found = getattr(found, attribute)
    return check_agent(found, name)


def _import(module_name: str, name: str, folder: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InvalidRequestError(f"agent {name}: no module {error.name!r} (looked in {folder} too)") from error
        raise InvalidRequestError(f"agent {name}: {_where(error)}{error}") from error
    except Exception as error:
        text = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise InvalidRequestError(f"agent {name}: {_where(error)}{text}") from error


def _where(error: Exception) -> str:
    """The last place of a traceback, before what went wrong there."""
    if isinstance(error, SyntaxError):
        return ""  # tells its place itself
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
