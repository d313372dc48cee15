"""Whether the extra that metrics need is installed."""

from importlib.util import find_spec

from lightning_store.errors import MissingExtraError

EXTRA = "metrics"


def is_installed() -> bool:
    """Whether there can be metrics."""
    return find_spec("prometheus_client") is not None


def check_installed(what: str) -> None:
    """Refuse what wants metrics where there can be none.

    Args:
        what: What wants them, for the message.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """
    if not is_installed():
        raise MissingExtraError.of(what, EXTRA)
