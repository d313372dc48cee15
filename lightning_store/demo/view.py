"""What people see of the demo: a live view on a terminal, lines of text anywhere else."""

import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol

from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from lightning_store.demo.curve import chart

KEPT_LINES: Final = 6
BAR_WIDTH: Final = 40


@dataclass(frozen=True)
class Process:
    """One process of the demo as the view shows it.

    Attributes:
        state: What it is doing, in a few words.
        is_gone: It has ended.
    """

    name: str
    pid: int
    state: str
    is_gone: bool = False


@dataclass(frozen=True)
class Frame:
    """All that the live view shows at one moment.

    Attributes:
        planned: Rollouts that there will be in all.
        finished: Rollouts that have finished.
        queued: Rollouts that wait to be claimed.
        active: Rollouts that runners are at work on.
        version: Version of the policy that is being played; 0 before the first.
        retries: What became of the rollouts of the killed runner, in a few words.
        processes: All processes, in the order of their start.
        curve: Mean rewards of the training batches so far.
    """

    planned: int
    finished: int = 0
    queued: int = 0
    active: int = 0
    version: int = 0
    retries: str = ""
    processes: Sequence[Process] = ()
    curve: Sequence[float] = ()


class View(Protocol):
    """Where the demo tells what happens; a context that ends with the last word."""

    is_live: bool
    """Whether it shows frames; if not, nobody needs to make them."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End; what was shown stays on the screen."""
        ...

    def tell(self, line: str) -> None:
        """Say that something happened."""
        ...

    def show(self, frame: Frame) -> None:
        """Show how things are."""
        ...


def choose_view(*, is_plain: bool) -> View:
    """The live view if a person looks at a terminal, else lines."""
    return LiveView() if sys.stdout.isatty() and not is_plain else PlainView()


class _Clock:
    """Seconds since the view began, as a prefix of its lines."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def stamp(self, line: str) -> str:
        return f"[{time.monotonic() - self._began:5.1f} s] {line}"


class PlainView(View):
    """One line per event."""

    is_live = False

    def __init__(self) -> None:
        self._clock = _Clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return

    def tell(self, line: str) -> None:
        """Write the line."""
        sys.stdout.write(self._clock.stamp(line) + "\n")
        sys.stdout.flush()

    def show(self, frame: Frame) -> None:
        """Nothing: lines tell of events only."""


class LiveView(View):
    """One picture that is drawn again and again, with the latest events below."""

    is_live = True

    def __init__(self) -> None:
        self._clock = _Clock()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._live = Live(auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def tell(self, line: str) -> None:
        """Add the line to the next picture."""
        self._lines.append(self._clock.stamp(line))

    def show(self, frame: Frame) -> None:
        """Draw the picture."""
        self._live.update(draw(frame, self._lines), refresh=True)


def draw(frame: Frame, lines: Sequence[str]) -> RenderableType:
    """The picture of a frame, for a terminal of 80 columns or more."""
    title = f"The numbers game · policy version {frame.version}" if frame.version else "The numbers game"
    events = Text("\n".join(["", *lines]), style="dim")
    parts = (_rollouts(frame), _processes(frame.processes), _curve(frame.curve), events)
    return Panel(Group(*parts), title=title, width=80)


def _rollouts(frame: Frame) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    progress = ProgressBar(total=frame.planned, completed=frame.finished, width=BAR_WIDTH)
    grid.add_row("rollouts", progress, f"{frame.finished} of {frame.planned} finished")
    unfinished = max(1, frame.queued + frame.active)
    queue = ProgressBar(total=unfinished, completed=frame.queued, width=BAR_WIDTH)
    grid.add_row("queue", queue, f"{frame.queued} waiting, {frame.active} running")
    grid.add_row("retries", Text(frame.retries or "none yet"))
    return grid


def _processes(processes: Sequence[Process]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("process", "pid", "state"):
        table.add_column(heading)
    for process in processes:
        table.add_row(process.name, str(process.pid), process.state, style="red" if process.is_gone else "")
    return table


def _curve(curve: Sequence[float]) -> RenderableType:
    heading = "mean reward of each version" + (f", the latest {curve[-1]:.3f}" if curve else "")
    return Text("\n".join([heading, *chart(curve)]))
