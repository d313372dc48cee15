"""Agents are found by name, and what is wrong with a name is said in one line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_store.errors import InvalidRequestError
from lightning_store.runner.loading import load_agent
from lightning_store.runner.options import RunnerOptions


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory of the test; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_agent_of_the_current_directory_is_found(folder):
    (folder / "my_agents.py").write_text("def agent(rollout, resources, tracer):\n    return 7\n")
    assert load_agent("my_agents:agent")(None, {}, None) == 7


def test_agent_in_a_package_and_an_object_is_found(folder):
    (folder / "my_package").mkdir()
    (folder / "my_package" / "module.py").write_text(
        "class Agents:\n    @staticmethod\n    def one(*_):\n        return 1\n"
    )
    assert load_agent("my_package.module:Agents.one")(None, {}, None) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_agents", "expected package.module:name, got 'my_agents'"),
        (":agent", "expected package.module:name, got ':agent'"),
        ("missing_module:agent", "no module 'missing_module' (looked in {folder} too)"),
        ("my_agents.sub:agent", "no module 'my_agents.sub' (looked in {folder} too)"),
        ("my_agents:missing", "my_agents has no 'missing'"),
        ("my_agents:number", "expected a function, got int"),
        (
            "my_agents:lonely",
            "expected a function of rollout, resources and tracer, got (rollout): too many positional",
        ),
        ("needy:agent", "{folder}/needy.py:1: No module named 'not_installed'"),
        ("broken:agent", "{folder}/broken.py:2: ZeroDivisionError: division by zero"),
        ("garbled:agent", "garbled.py, line 1"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder, name, message):
    (folder / "my_agents.py").write_text("number = 1\ndef lonely(rollout): ...\n")
    (folder / "needy.py").write_text("import not_installed\n")
    (folder / "broken.py").write_text("\n1 / 0\n")
    (folder / "garbled.py").write_text("1 2\n")
    with pytest.raises(InvalidRequestError) as caught:
        load_agent(name)
    text = str(caught.value)
    assert "\n" not in text
    assert message.format(folder=folder) in text


def test_options_do_not_show_the_url():
    assert "secret" not in repr(RunnerOptions("m:a", "redis://:secret@host"))


def test_options_survive_their_way_to_another_process():
    options = RunnerOptions("m:a", "redis://host", queues=("a", "b"), concurrency=3, worker_id="w")
    assert RunnerOptions.from_json(options.as_json()) == options
