"""The learning curve as text, for terminals."""

from collections.abc import Sequence
from typing import Final

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
HEIGHT: Final = 6
WIDTH: Final = 70
WIDEST_BAR: Final = 4


def chart(values: Sequence[float], height: int = HEIGHT) -> list[str]:
    """Values from 0 to 1 as bars, with a scale on the left; from the top line to the bottom line.

    Of more values than columns, the latest are shown.
    """
    shown = values[-WIDTH // 2 :]
    bar = max(1, min(WIDEST_BAR, WIDTH // max(1, len(shown)) - 1))
    lines: list[str] = []
    for row in reversed(range(height)):
        cells = (BLOCKS[max(0, min(8, round((value * height - row) * 8)))] * bar for value in shown)
        lines.append(f"{(row + 1) / height:4.2f} │" + " ".join(cells))
    return lines
