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
        "Claims beside redis-benchmark",
        "Waiting for work",
        "Round trips",
        "Declared",
        "Waits",
        "Starting",
    ):
        assert f"\n## {title}" in text
    assert redis_url not in text
    assert "beside other queues" not in text


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_peer_is_measured_in_its_own_environment(tmp_path: Path):
    page = tmp_path / "results.md"
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--only", "peers", "--peer", "rq", "--output", str(page)]

    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=390, check=False)

    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "Not measured" not in text
    for figure in (
        "a `Runner` beside rq, results stored | per second",
        "the store's calls beside rq, no results | per second",
        "the store's calls beside rq, results stored, p50 | ms",
        "enqueued one at a time, beside rq, results stored | per second",
    ):
        assert f"\n| {figure} | " in text
