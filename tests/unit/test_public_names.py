"""What `import lightning_store` gives, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_store


def test_import_loads_nothing_slow():
    program = (
        "import sys, lightning_store; print([m for m in ('redis', 'opentelemetry', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_memory_store_needs_neither_redis_nor_opentelemetry():
    program = (
        "import sys; from lightning_store import InMemoryLightningStore, LightningStoreThreaded;"
        "print([m for m in ('redis', 'opentelemetry') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", lightning_store.__all__)
def test_every_public_name_is_there(name):
    assert getattr(lightning_store, name) is not None


def test_names_for_type_checkers_are_the_public_ones():
    tree = ast.parse(Path(lightning_store.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        (node.module.removeprefix("lightning_store."), alias.name) for node in block.body for alias in node.names
    }
    assert imported == {(module, name) for name, module in lightning_store._MODULES.items()}
    assert {name for _, name in imported} == set(lightning_store.__all__)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = lightning_store.no_such_name


def test_dir_lists_the_public_names():
    assert set(lightning_store.__all__) <= set(dir(lightning_store))
