"""Draws curves as SVG: text stays text, and the same figures make the same file."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.curves import Curve, Panel, Points

_PANEL_INCHES = (3.7, 3.1)
_THOUSANDS = ((1_000_000, "M"), (1_000, "k"))


def draw(curve: Curve, folder: Path) -> Path:
    """Write the picture of a curve; where it is."""
    path = folder / f"{curve.name}.svg"
    width, height = _PANEL_INCHES
    # Text as text, ids that do not change from run to run.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "lightning_store", "font.size": 9}):
        figure = Figure(figsize=(width * len(curve.panels), height), layout="constrained")
        figure.suptitle(curve.title, fontsize=11)
        grid = figure.subplots(1, len(curve.panels), squeeze=False)
        for axes, panel in zip(grid[0], curve.panels, strict=True):
            _draw_panel(axes, panel, curve.grows)
        figure.savefig(path, format="svg", metadata={"Date": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path


def _draw_panel(axes: Axes, panel: Panel, grows: str) -> None:
    for number, (name, points) in enumerate(panel.lines.items()):
        _draw_line(axes, name, points, f"C{number}")
    ticks = sorted({x for points in panel.lines.values() for x in points})
    axes.set_xscale("log")
    axes.set_xticks(*_ticks(ticks))
    axes.minorticks_off()
    axes.set_xlabel(grows)
    axes.set_title(f"{panel.title}: {panel.unit}", fontsize=9)
    if panel.is_log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,g}")
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=7)


def _draw_line(axes: Axes, name: str, points: Points, colour: str) -> None:
    """Medians as a line, from the lowest to the highest round as a band."""
    xs = list(points)
    axes.plot(xs, [points[x].median for x in xs], marker="o", markersize=3, linewidth=1.2, color=colour, label=name)
    axes.fill_between(
        xs, [points[x].low for x in xs], [points[x].high for x in xs], color=colour, alpha=0.2, linewidth=0
    )


def _ticks(values: Sequence[float]) -> tuple[list[float], list[str]]:
    """Powers of ten within the values, with short labels."""
    powers = [10.0**power for power in range(8) if values[0] <= 10**power <= values[-1]]
    chosen = [*powers, *([values[-1]] if values[-1] not in powers else [])]
    return chosen, [_short(value) for value in chosen]


def _short(value: float) -> str:
    for size, name in _THOUSANDS:
        if value >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"
