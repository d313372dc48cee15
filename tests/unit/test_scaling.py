"""The figures of growth: their file, the page that is made from them, and their pictures."""

from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.curves import Cost, Curve, Growth, Panel, read, write
from benchmarks.measuring import Sample
from benchmarks.scaling_page import with_tables

FIGURES = Growth(
    ["a fact"],
    {"any": "3 rounds.", "costs": "2 rounds."},
    [
        Curve(
            "any",
            "Any",
            "things",
            [Panel("latency", "ms", {"p50": {1: Sample((0.5, 1.5, 1.0)), 2000: Sample((123.4, 5.0, 1234.0))}}, True)],
        )
    ],
    {"claim": Cost(Sample((99.5, 101.5, 100.5)), 200, 400)},
    {"event, bytes": 205.5},
)


def test_figures_are_read_as_they_were_written(tmp_path: Path):
    write(tmp_path / "figures.json", FIGURES)

    assert read(tmp_path / "figures.json") == FIGURES


def test_a_part_that_is_measured_anew_takes_the_place_of_the_old_one():
    other = Curve("other", "Other", "things", [])
    anew = Growth(taken={"any": "4 rounds."}, curves=[Curve("any", "Anew", "things", [])])

    both = FIGURES.renewed(Growth(curves=[other])).renewed(anew)

    assert [curve.title for curve in both.curves] == ["Anew", "Other"]
    assert both.taken == {"any": "4 rounds.", "costs": "2 rounds."}
    assert (both.facts, both.costs, both.sizes) == (FIGURES.facts, FIGURES.costs, FIGURES.sizes)


def test_tables_have_the_medians():
    names = ("taken", "any", "costs")
    page = "".join(f"<!-- scaling-{name}:begin -->\n<!-- scaling-{name}:end -->\n" for name in names)

    lines = with_tables(page, FIGURES).splitlines()

    assert "- a fact" in lines
    assert "3 rounds." in lines
    assert lines[lines.index("| things | 1 | 2,000 |") + 2] == "| p50: ms | 1.00 | 123 |"
    assert "| claim | 100 | 200 | 400 |" in lines
    assert "| event, bytes | 206 |" in lines


def test_page_is_that_of_the_figures():
    """`make scaling ARGS=--draw-only` writes it anew, for instance after a change of the calculator."""
    page = scaling.PAGE.read_text(encoding="utf-8")

    assert page == with_tables(page, read(scaling.RESULTS))


def test_every_curve_has_its_picture_and_its_table():
    names = {curve.name for curve in read(scaling.RESULTS).curves}

    assert names == {path.stem for path in scaling.PICTURES.glob("*.svg")}
    assert names == {*scaling.CURVES, "waiters"}
    page = scaling.PAGE.read_text(encoding="utf-8")
    assert all(f"](scaling/{name}.svg)" in page and f"<!-- scaling-{name}:begin -->" in page for name in names)


def test_figures_and_pictures_name_no_place_of_the_machine():
    for path in (scaling.RESULTS, *scaling.PICTURES.glob("*.svg")):
        text = path.read_text(encoding="utf-8")
        assert str(scaling.ROOT) not in text
        assert str(Path.home()) + "/" not in text
        assert "<dc:date>" not in text


def test_same_figures_make_the_same_picture(tmp_path: Path):
    pytest.importorskip("matplotlib")
    from benchmarks.drawing import draw  # noqa: PLC0415 - not there without the extra `demo`

    first, second = (draw(FIGURES.curves[0], tmp_path).read_bytes() for _ in range(2))

    assert first == second
    assert b">latency: ms<" in first
    assert len(first) < 100_000
