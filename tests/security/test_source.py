"""What the package's own source never does: run text as code, unpickle, or hand a line to a shell."""

import ast
import re
from pathlib import Path

import pytest

from lightning_store.backends.redis.scripts import lua_folder
from tests.support.shipped_redis import DEPLOY

PACKAGE = Path(__file__).parents[2] / "lightning_store"
SOURCES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "code", "codeop", "yaml", "pty"}
"""What nothing imports: each of them turns values into objects or code."""

BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "tempfile.mktemp", "numpy.load", "np.load",
}  # fmt: skip
FED_BY_PARENT = {"http/child.py", "http/processes.py"}
"""They unpickle what comes out of a pipe into which only their own parent can write."""

LOADED_BY_NAME = {"__init__.py", "runner/loading.py"}
"""Our own modules when first used; agents, named on the command line by whoever may run any program there."""


def dotted(node):
    """`a.b.c` as text; "" for what is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        below = dotted(node.value)
        return f"{below}.{node.attr}" if below else ""
    return ""


def objections(source, name="module.py"):
    """What must not stand there, with line numbers."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [(node.lineno, f"import {module}") for module in modules if module.split(".")[0] in MODULES]
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [(node.lineno, f"import {each}") for each in names if each in CALLS]
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            found.append((node.lineno, node.id))
        elif isinstance(node, ast.Attribute) and dotted(node) in CALLS:
            found.append((node.lineno, dotted(node)))
        elif isinstance(node, ast.Call):
            found += [(node.lineno, "shell=") for keyword in node.keywords if keyword.arg == "shell"]
            if dotted(node.func).endswith("import_module") and name not in LOADED_BY_NAME:
                found.append((node.lineno, "import_module"))
    return sorted(found)


@pytest.mark.parametrize("name", SOURCES)
def test_source_runs_no_text_as_code(name):
    found = objections(SOURCES[name].read_text(), name)
    assert [each for each in found if each[1] != "import pickle" or name not in FED_BY_PARENT] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from marshal import loads", "import yaml", "eval('1')", "f = exec",
        "import os; os.system('x')", "from os import system", "import subprocess; subprocess.run('x', shell=True)",
        "np.load('x')", "import importlib; importlib.import_module(name)", "await asyncio.create_subprocess_shell('x')",
    ],
)  # fmt: skip
def test_the_look_finds_what_it_looks_for(line):
    assert objections(f"async def f():\n    {line}")


@pytest.mark.parametrize("path", sorted(lua_folder().rglob("*.lua")), ids=lambda path: path.name)
def test_scripts_run_no_text_as_code(path):
    assert not re.search(r"\b(loadstring|load|dofile|require|setfenv)\s*[(\"']", path.read_text())


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.sh")), ids=lambda path: path.name)
def test_shell_scripts_evaluate_nothing(path):
    assert not re.search(r"\beval\b", path.read_text())
