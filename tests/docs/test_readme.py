"""The README's program is the one in examples/, and it runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_program_of_the_readme_is_the_example():
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert block.group(1) == (ROOT / "examples/quickstart.py").read_text()


@pytest.mark.redis
def test_example_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/quickstart.py")],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert "['succeeded', 'succeeded', 'succeeded', 'succeeded', 'succeeded']" in done.stdout
    assert sorted(re.findall(r": (0\.0|1\.0)", done.stdout)) == ["0.0", "0.0", "0.0", "0.0", "1.0"]
    assert done.stderr == ""
