"""The built wheel works where there is nothing but the wheel: scripts inside, typed, from any folder."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SCRIPTS = sorted(str(path.relative_to(CHECKOUT / "lua")) for path in (CHECKOUT / "lua").rglob("*.lua"))

CLAIM = """
import asyncio, os, sys
import lightning_store
from lightning_store import RedisLightningStore

async def main():
    store = RedisLightningStore(os.environ["LIGHTNING_STORE_URL"], namespace=sys.argv[1])
    try:
        queued = await store.enqueue_rollout(input={"question": "6 * 7"})
        claimed = await store.dequeue_rollout(worker_id="worker-1")
        assert claimed.rollout_id == queued.rollout_id, (queued, claimed)
        assert claimed.attempt.worker_id == "worker-1"
    finally:
        await store.close()

asyncio.run(main())
print(lightning_store.__file__)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What the command prints, with nothing of the checkout on its path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    done = subprocess.run(
        command, cwd=cwd, env={**environment, **variables}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder with the source archive and the wheel that was built from that archive, not from the checkout."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, CHECKOUT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The interpreter of a virtual environment that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    return python


def test_wheel_carries_every_script_and_the_types_marker(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert SCRIPTS
    assert {f"lightning_store/lua/{script}" for script in SCRIPTS} <= names
    assert "lightning_store/py.typed" in names


def test_wheel_carries_nothing_but_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lightning_store"}


def test_source_archive_carries_tests_and_licence(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "compose.yaml", "tests/conftest.py"} <= names


def test_installed_wheel_claims_a_rollout(installed, redis_url, namespace, tmp_path):
    where = run(installed, "-c", CLAIM, namespace, cwd=tmp_path, LIGHTNING_STORE_URL=redis_url)
    assert Path(where.strip()).is_relative_to(installed.parents[1])


def test_installed_command_answers(installed, tmp_path):
    assert "demo" in run(installed.with_name("lightning-store"), "--help", cwd=tmp_path)


def test_editable_install_claims_a_rollout(installed, redis_url, namespace, tmp_path):
    """Comes last: it takes the wheel's place in the environment."""
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--editable")
    run(installed, "-m", "pip", "install", *options, CHECKOUT, cwd=tmp_path)
    where = run(installed, "-c", CLAIM, namespace, cwd=tmp_path, LIGHTNING_STORE_URL=redis_url)
    assert Path(where.strip()).is_relative_to(CHECKOUT)
