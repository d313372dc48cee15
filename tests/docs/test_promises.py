"""Each promise of the README has a test that breaks something, and that test is there."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
ROW: Final = re.compile(r"^\| (?!event |---)(.+?) \| (.+) \|$", re.MULTILINE)
TEST: Final = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows(path: str, heading: str) -> dict[str, str]:
    """The first table under a heading, as first and second column."""
    section = (ROOT / path).read_text().split(f"# {heading}\n", 1)[1]
    return dict(ROW.findall(section[section.index("|---") :].partition("\n\n")[0]))


def test_rows_are_those_of_the_readme():
    promised = rows("README.md", "Promises, and their limits")
    assert list(rows("docs/promises.md", "Promises, and the tests that break them")) == list(promised)
    assert promised


def test_tests_are_there():
    for event, shown_by in rows("docs/promises.md", "Promises, and the tests that break them").items():
        named = TEST.findall(shown_by)
        assert named, event
        for file, test in named:
            source = (ROOT / file).read_text()
            assert not test or re.search(rf"^ *(async )?def {test}\(", source, re.MULTILINE), f"{file}::{test}"
