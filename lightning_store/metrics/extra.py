"""Whether the extra that metrics need is installed."""

from importlib.util import find_spec
from typing import Final

from lightning_store.errors import InvalidRequestError

HINT: Final = "pip install 'lightning-store[metrics]'"


def is_installed() -> bool:
    """Whether there can be metrics."""
    return find_spec("prometheus_client") is not None


def check_installed(option: str) -> None:
    """Refuse an option that wants metrics where there can be none.

    Args:
        option: Its name, for the message.

    Raises:
        InvalidRequestError: prometheus-client is not installed.
    """
    if not is_installed():
        raise InvalidRequestError(f"{option}: prometheus-client is not installed; {HINT}")
