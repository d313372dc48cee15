"""Every command in README.md and docs/ is run, in the order of its document, against a real Redis."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.console import ROOT, Block, Console, blocks_of, prints
from tests.support.redis_server import RedisUnderTest

DOCUMENTS = [path for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))) if path.exists()]
BLOCKS = [(path, block) for path in DOCUMENTS for block in blocks_of(path.read_text())]
SHELLS = {"sh", "bash", "shell", "zsh"}

EXAMPLE_HOST = re.compile(r"redis://\S*@redis-host\S*")
"""What documents write for the reader's own server."""

EXAMPLE_AGENT = """
def agent(rollout, resources, tracer):
    return 1.0
"""


def place(path: Path, block: Block) -> str:
    return f"{path.relative_to(ROOT)}:{block.line}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "document",
    [pytest.param(path, marks=[] if path.name == "README.md" else pytest.mark.wide) for path in DOCUMENTS],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_commands_do_what_the_document_says(
    document: Path, private_redis: Callable[..., RedisUnderTest], tmp_path: Path
) -> None:
    commands = [
        command
        for block in blocks_of(document.read_text())
        if block.language == "console" and block.reason is None
        for command in block.commands
    ]
    if not commands:
        return
    folder = tmp_path / "folder"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "module.py").write_text(EXAMPLE_AGENT)
    url = private_redis(settings={"maxmemory": "200mb"}).url
    console = Console(folder, {"LIGHTNING_STORE_URL": url})
    try:
        for command in commands:
            console.run(type(command)(EXAMPLE_HOST.sub(url, command.text), command.output))
    finally:
        console.close()


@pytest.mark.parametrize(
    ("path", "block"),
    [pytest.param(path, block, id=place(path, block)) for path, block in BLOCKS if block.reason is not None],
)
def test_commands_that_are_not_run_here(path: Path, block: Block) -> None:
    """Stands in the list of skipped tests, with the reason that the document gives."""
    texts = "; ".join(command.text for command in block.commands)
    pytest.skip(f"{place(path, block)}: {texts}: {block.reason}")


def test_commands_stand_in_console_blocks() -> None:
    others = [place(path, block) for path, block in BLOCKS if block.language in SHELLS]

    assert others == [], "write ```console and `$ ` before each command, so that it is run"


def test_blocks_are_read_as_they_are_written() -> None:
    text = (
        "```console\n$ one\nout\n$ two <<END\n> body\n> END\n```\n\n"
        "<!-- not run: needs Docker -->\n```console\n$ docker\n```\n```python\n1\n```\n"
    )

    first, second, third = blocks_of(text)

    assert [(command.text, command.output) for command in first.commands] == [
        ("one", ["out"]), ("two <<END\nbody\nEND", []),
    ]  # fmt: skip
    assert (second.reason, second.language, third.language, third.reason) == ("needs Docker", "console", "python", None)


def test_output_is_compared_but_for_widths_and_dots() -> None:
    assert prints(["A  B", "x  …  z"], "A      B\nx  1 2  z\n")
    assert not prints(["A  B"], "A  C\n")
    assert not prints(["A"], "A\nB\n")
    assert prints(["A", "…"], "A\nB\nC\n")


def test_a_command_that_fails_is_noticed(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    console = Console(folder, {})
    (good,) = blocks_of("```console\n$ export A=1; mkdir b; cd b\n```\n")[0].commands
    after, wrong, failing = blocks_of("```console\n$ echo $A $(basename $PWD)\n1 b\n$ echo x\ny\n$ false\n```\n")[
        0
    ].commands

    console.run(good)
    console.run(after)
    with pytest.raises(AssertionError, match="prints"):
        console.run(wrong)
    with pytest.raises(AssertionError, match="exit code 1"):
        console.run(failing)
    console.close()
