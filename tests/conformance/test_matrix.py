"""The tables in README.md name every test of this suite, and no other."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent


def existing_tests():
    """`module::name` of every test, without the prefixes `test_`."""
    found = set()
    for path in HERE.glob("test_*.py"):
        if path.name == Path(__file__).name:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add(f"{path.stem.removeprefix('test_')}::{node.name.removeprefix('test_')}")
    return found


def named_tests():
    return set(re.findall(r"`(\w+::\w+)`", (HERE / "README.md").read_text(encoding="utf-8")))


def test_every_test_in_the_tables_exists():
    assert named_tests() - existing_tests() == set()


def test_every_test_is_in_the_tables():
    assert existing_tests() - named_tests() == set()
