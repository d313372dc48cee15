"""What compose.yaml says, as compose reads it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

CHECKOUT: Final = Path(__file__).parents[2]
VARIABLE: Final = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


def read_compose() -> dict[str, Any]:
    """The file."""
    found: dict[str, Any] = yaml.safe_load((CHECKOUT / "compose.yaml").read_text())
    return found


def filled(word: Any, variables: Mapping[str, str] | None = None) -> str:
    """A word with these variables set and no others; one that must be set and is not stays as it is."""
    known = variables or {}

    def value(match: "re.Match[str]") -> str:
        return known.get(match["name"]) or (match["rest"] if match["kind"] == "-" else match[0])

    return VARIABLE.sub(value, str(word))


def program_of(name: str, variables: Mapping[str, str], *, redis_port: int) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of one of our programs, whose Redis is on this machine.

    Args:
        name: Of the service.
        variables: Those that whoever starts it has set.
        redis_port: Where the Redis listens.
    """
    service = read_compose()["services"][name]
    environment = {key: filled(value, variables) for key, value in service["environment"].items()}
    environment["LIGHTNING_STORE_URL"] = environment["LIGHTNING_STORE_URL"].replace(
        "@redis:6379", f"@127.0.0.1:{redis_port}"
    )
    return [filled(word, variables) for word in service["command"]], environment
