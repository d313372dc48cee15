"""What the command line prints."""

import io
import sys

import pytest

from lightning_store.cli.output import (
    Table,
    brief,
    clean,
    counted,
    drawn,
    duration,
    moment,
    plain,
    say_json,
    show,
    size,
)
from lightning_store.cli.span_tree import tree_lines
from lightning_store.spans import Span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0, "0ms"), (0.0123, "12ms"), (1, "1.0s"), (59.94, "59.9s"), (60, "1m00s"), (3599.6, "1h00m"),
        (3725, "1h02m"), (90000, "1d01h"), (-5, "-5.0s"),
    ],
)  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "-"), (5, "5 B"), (1536, "1.5 KiB"), (5 * 2**20, "5.0 MiB"), (3 * 2**40, "3072.0 GiB")]
)
def test_sizes(count, text):
    assert size(count) == text


def test_times_out_of_any_calendar_are_shown_as_numbers():
    assert moment(1e30) == "1e+30"
    assert moment(None) == "-"


def test_counts_agree_with_their_nouns():
    assert (counted(0, "line"), counted(1, "line"), counted(2, "line")) == ("0 lines", "1 line", "2 lines")


def test_cells_are_one_line_without_control_characters():
    assert clean("a\nb\x1b[0m\x9b\u202e\ud800") == "a\\nb\\x1b[0m\\x9b\\u202e\\ud800"
    assert (clean(None), clean(""), clean(0)) == ("-", "-", "0")


def test_long_values_are_cut():
    assert brief("x" * 100, 10) == '"xxxxxxxx…'


def test_plain_tables_are_aligned_and_never_cut():
    table = Table("things", ("name", "n"), [("a", 1), ("x" * 300, None)])

    lines = plain([table]).splitlines()

    assert lines == ["things:", "NAME" + " " * 298 + "N", "a" + " " * 301 + "1", "x" * 300 + "  -"]


def test_an_empty_table_shows_its_headings():
    assert plain([Table("", ("name", "n"))]) == "NAME  N"


class Terminal(io.StringIO):
    """A stream that people read."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_drawn_tables_in_which_markup_is_text(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")

    show(Table("things", ("name",), [("[red]not markup[/red]",)]), Table("facts", (), [("key", "value")]))
    say_json({"a": 1})

    assert "[red]not markup[/red]" in terminal.getvalue()
    assert "─" in terminal.getvalue()
    assert '{\n  "a": 1\n}' in terminal.getvalue()


def test_tables_without_rows_can_be_drawn():
    assert drawn([Table("none", ("a", "b")), Table("nothing")]).renderables


def make_span(number: int, parent: int | None) -> Span:
    return Span.from_attributes(
        attributes={},
        rollout_id="ro-1",
        attempt_id="at-1",
        sequence_id=number,
        span_id=f"s{number}",
        parent_id=None if parent is None else f"s{parent}",
        name=f"n{number}",
    )


def test_spans_in_a_circle_are_all_shown():
    spans = [make_span(1, 2), make_span(2, 1), make_span(3, 3), make_span(4, 3)]

    lines = list(tree_lines(spans, with_attributes=False))

    assert sorted(line.split()[-2] for line in lines[1:]) == ["n1", "n2", "n3", "n4"]


def test_a_tree_deeper_than_pythons_stack_is_shown():
    spans = [make_span(number, number - 1 if number else None) for number in range(3000)]

    lines = list(tree_lines(spans, with_attributes=False))

    assert len(lines) == 3001
    assert lines[-1].endswith("n2999  ?")
