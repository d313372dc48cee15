"""What grows is measured on a real server: a few calls of everything; `make scaling` takes them all."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.slow
def test_everything_is_measured_and_drawn_and_nothing_is_lost(tmp_path: Path):
    pytest.importorskip("matplotlib")
    command = [sys.executable, "-m", "benchmarks.scaling", "--smoke", "--folder", str(tmp_path)]

    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"scaling.json", *(f"{name}.svg" for name in ("runners", "waiters", "queue", "kept", "spans"))}
