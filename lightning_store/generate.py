"""Renders what is derived from Python tables into the checkout: `python -m lightning_store.generate [--check]`.

Rendered are `lua/shared/status.lua`, the status table of README.md, the table of keys of docs/redis.md and that of exit
codes of docs/cli.md, the tables between `<!-- name:begin -->` and `<!-- name:end -->`.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lightning_store import exits, status
from lightning_store.backends.redis import keys

CHECKOUT: Final = Path(__file__).parents[1]


def with_table(text: str, name: str, table: str) -> str:
    """A document with the table between its markers replaced; unchanged if it has no such markers."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: begin + table + end, text)


def rendered(checkout: Path) -> dict[Path, str]:
    """What the derived files have to contain; documents that do not exist are left out."""
    files = {checkout / "lua" / "shared" / "status.lua": status.render_lua()}
    tables = {
        checkout / "README.md": ("status", status.render_markdown()),
        checkout / "docs" / "redis.md": ("keys", keys.render_markdown()),
        checkout / "docs" / "cli.md": ("exit-codes", exits.render_markdown()),
    }
    for path, (name, table) in tables.items():
        if path.exists():
            files[path] = with_table(path.read_text(encoding="utf-8"), name, table)
    return files


def stale(checkout: Path) -> dict[Path, str]:
    """The derived files that do not contain what they have to, with what they should contain."""
    return {
        path: text
        for path, text in rendered(checkout).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: Sequence[str] | None = None, checkout: Path = CHECKOUT) -> int:
    """Write the derived files, or with `--check` only name those that are stale.

    Returns:
        1 if `--check` found stale files, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m lightning_store.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    check = parser.parse_args(arguments).check
    for path, text in stale(checkout).items():
        name = path.relative_to(checkout)
        if check:
            sys.stderr.write(f"{name} is stale; run: make generate\n")
        else:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name} written\n")
    return 1 if check and stale(checkout) else 0


if __name__ == "__main__":
    sys.exit(main())
