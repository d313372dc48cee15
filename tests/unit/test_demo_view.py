"""What people see of the demo."""

import re
import sys

import pytest
from rich.console import Console

from lightning_store.demo.curve import chart
from lightning_store.demo.options import DemoOptions
from lightning_store.demo.picture import save_picture
from lightning_store.demo.policy import Policy
from lightning_store.demo.training import TrainingResult
from lightning_store.demo.view import Frame, LiveView, PlainView, Process, choose_view, draw

FRAME = Frame(
    planned=200, finished=50, queued=30, active=4, version=3, retries="2 of 3 rollouts run again",
    processes=(Process("runner-1", 4711, "plays 4"), Process("runner-2", 4712, "killed with SIGKILL", is_gone=True)),
    curve=(0.1, 0.4),
)  # fmt: skip


def text_of(picture):
    console = Console(width=100, record=True, file=sys.stderr, force_terminal=False)
    with console.capture() as capture:
        console.print(picture)
    return capture.get()


def test_the_picture_shows_queue_workers_retries_and_curve():
    text = text_of(draw(FRAME, ["[  1.0 s] something happened"]))
    for part in (
        "policy version 3", "50 of 200 finished", "30 waiting, 4 running", "2 of 3 rollouts run again", "runner-1",
        "4711", "plays 4", "killed with SIGKILL", "the latest 0.400", "something happened",
    ):  # fmt: skip
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_picture_of_the_beginning_has_no_numbers_yet():
    text = text_of(draw(Frame(planned=200), []))
    assert "0 of 200 finished" in text
    assert "none yet" in text


def test_bars_grow_with_their_values():
    lines = chart([0.0, 0.5, 1.0], height=2)
    assert [line.split("│")[1] for line in lines] == ["          ████", "     ████ ████"]


def test_many_bars_are_narrow_enough_for_the_picture():
    assert max(map(len, chart([0.5] * 60))) <= 76


def test_lines_are_told_with_the_time(capsys):
    with PlainView() as view:
        view.tell("begun")
        view.show(FRAME)
    assert re.fullmatch(r"\[ +0\.\d s\] begun\n", capsys.readouterr().out)


def test_without_a_terminal_lines_are_written():
    assert isinstance(choose_view(is_plain=False), PlainView)


def test_on_a_terminal_the_picture_is_drawn_unless_lines_are_wanted(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert isinstance(choose_view(is_plain=False), LiveView)
    assert isinstance(choose_view(is_plain=True), PlainView)


def test_the_live_view_ends_with_the_last_picture(capsys):
    with LiveView() as view:
        view.tell("begun")
        view.show(FRAME)
    assert "50 of 200 finished" in capsys.readouterr().out


def test_the_curve_is_saved_as_a_png(tmp_path):
    result = TrainingResult(Policy(), versions=4, rollouts=12, curve=[0.1, 0.2, 0.4], first=0.1, last=0.5)
    save_picture(result, seed=0, path=tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_knows_how_many_rollouts_there_will_be():
    assert DemoOptions(iterations=3, tasks_per_batch=5, group_size=4).planned_rollouts == 3 * 5 * 4 + 2 * 64 * 2


@pytest.mark.parametrize("name", ["iterations", "tasks_per_batch", "group_size", "runners", "concurrency"])
def test_options_that_cannot_work_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0, expected at least"):
        DemoOptions(**{name: 0})


def test_the_url_does_not_show_with_the_options():
    assert "secret" not in repr(DemoOptions(store_url="redis://:secret@localhost"))
