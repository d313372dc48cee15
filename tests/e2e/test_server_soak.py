"""Many clients of one server lose nothing: a short soak; `python -m benchmarks.server_soak` runs the long one."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_many_clients_of_one_server_lose_nothing_and_see_no_error(tmp_path: Path):
    """A few seconds say nothing about memory that is bounded, so any growth is allowed here."""
    page = tmp_path / "soak.md"
    sizes = ["--clients", "16", "--seconds", "3", "--most-growth", "100"]
    command = [sys.executable, "-m", "benchmarks.server_soak", *sizes, "--output", str(page)]

    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=280, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1:-1] for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == ["memory", "Redis"]
    for row in rows[1:]:
        assert int(row[1].replace(",", "")) > 0
        assert [cell.strip() for cell in row[7:11]] == ["0", "0", "0", "0"]
