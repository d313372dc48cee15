"""Space is bounded: a small soak; `make soak` runs the large one."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.slow
def test_memory_stays_bounded_when_few_of_many_rollouts_are_kept(tmp_path: Path):
    page = tmp_path / "soak.md"
    sizes = ["--rollouts", "5000", "--first", "1500", "--keep", "200", "--events-kept", "1000"]
    command = [sys.executable, "-m", "benchmarks.soak", *sizes, "--output", str(page)]

    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "MiB after 5,000, both when all was quiet" in page.read_text(encoding="utf-8")
