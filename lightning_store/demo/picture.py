"""The learning curve as a picture."""

from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from lightning_store.demo.training import TrainingResult

DOTS_PER_INCH: Final = 120


def save_picture(result: TrainingResult, seed: int, path: Path) -> None:
    """Write the curve as a PNG."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    versions = range(1, len(result.curve) + 1)
    axes.plot(versions, result.curve, marker="o", label="training batch of this version")
    axes.plot([1, result.versions], [result.first, result.last], "s", label="held-out tasks, first and last version")
    axes.set(
        title=f"Numbers game: {result.rollouts} rollouts, seed {seed}",
        xlabel="version of the policy",
        ylabel="mean reward",
        ylim=(0.0, 1.0),
        xticks=range(1, result.versions + 1),
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=DOTS_PER_INCH)
