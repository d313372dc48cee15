"""Keeps the number of label values bounded, whatever names users choose."""

from typing import Final

MOST: Final = 100
OTHER: Final = "other"


class Bounded:
    """Hands out names as labels: the first hundred as they are, all others as `other`; may be used from any thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """The label of a name; the same for as long as the process lives."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name
