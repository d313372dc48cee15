"""`make bench` measures each figure and writes the page."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.slow
def test_each_figure_is_measured_and_written(redis_url: str, tmp_path: Path):
    page = tmp_path / "results.md"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--redis-url", redis_url, "--output", str(page)]

    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    for title in (
        "Claims",
        "Pickup",
        "Memory",
        "Pages",
        "Health checks",
        "Enqueue",
        "Spans",
        "Whole lives",
        "Declared",
    ):
        assert f"\n## {title}" in text
    assert redis_url not in text
