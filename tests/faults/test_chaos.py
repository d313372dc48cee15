"""`make chaos`: everything breaks while work goes on; nothing is lost, and a store that loses is found out."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from chaos.fleet import RUNNERS
from chaos.plan import Fault, course
from tests.support.processes import wait_until, wait_until_gone

CHECKOUT = Path(__file__).parents[2]
SEED = 11


def run_chaos(page: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "chaos", "--short", "--seed", str(SEED), "--output", str(page), *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=240, check=False)


def rows_of(page: str) -> dict[str, str]:
    """The rows of all tables of a page, by their first cells."""
    return dict(line.strip("| ").split(" | ", 1) for line in page.splitlines() if line.startswith("| "))


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_done_twice_while_everything_breaks(tmp_path: Path):
    page = tmp_path / "chaos.md"

    done = run_chaos(page)

    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    rows = rows_of(text)
    for verdict in ("lost", "completed twice", "claimed twice", "unexpected"):
        assert rows[verdict] == "0"
    for fault in course("always", 0.0, is_short=True).natures:
        strikes, measured, flows, *_ = rows[fault.value].split(" | ")
        assert int(strikes) >= int(measured) >= 1
        assert float(flows) < 60
    assert int(rows["enqueued and acknowledged, finished once"].replace(",", "")) > 100
    assert f'make chaos ARGS="--seed {SEED} --short"' in text
    assert "Failed" not in text
    assert str(CHECKOUT) not in text


@pytest.mark.timeout(300)
def test_power_cuts_take_the_last_second_at_most_and_the_run_goes_on(tmp_path: Path):
    page = tmp_path / "chaos.md"

    done = run_chaos(page, "--fsync", "everysec", "--only", "power_cut", "--seconds", "4")

    assert done.returncode == 0, done.stderr
    rows = rows_of(page.read_text(encoding="utf-8"))
    strikes, _, flows, *_ = rows[Fault.POWER_CUT.value].split(" | ")
    assert int(strikes) >= 3
    assert float(flows) < 60
    assert (rows["lost"], rows["unexpected"]) == ("0", "0")


@pytest.mark.timeout(300)
def test_store_that_forgets_and_loses_is_found_out(tmp_path: Path):
    page = tmp_path / "chaos.md"

    done = run_chaos(page, "--only", "flush_scripts", "--store-wrapper", "tests.support.broken_store:BrokenStore")

    assert done.returncode == 1, done.stderr
    text = page.read_text(encoding="utf-8")
    for said in (done.stderr, text):
        assert "lost: own-" in said or "lost: ro-" in said
        assert "and not there" in said
        assert "reported succeeded" in said
    assert "| lost | 0 |" not in text
    assert "| unexpected | 0 |" not in text
    assert "**Failed:**" in text


def test_no_process_outlives_a_run_that_is_killed(tmp_path: Path):
    command = [sys.executable, "-m", "chaos", "--short", "--output", str(tmp_path / "chaos.md")]
    run = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        # Watchdog and Redis, daemon, runners, algorithm.
        assert wait_until(lambda: len(psutil.Process(run.pid).children(recursive=True)) == RUNNERS + 4, 30)
        started = psutil.Process(run.pid).children(recursive=True)
    finally:
        run.kill()
        run.wait()

    assert all(wait_until_gone(process.pid) for process in started)
