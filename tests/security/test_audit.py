"""The audit of dependencies: it fails on a finding, and only on one."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit_deps.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the source distribution leaves .ci out")


@pytest.fixture
def audit():
    spec = importlib.util.spec_from_file_location("audit_deps", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_service_is_no_finding():
    environment = {**os.environ, "https_proxy": "http://127.0.0.1:1"}
    result = subprocess.run([sys.executable, SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stdout.startswith("skipped: the service cannot be reached: ")


@pytest.mark.parametrize(
    ("vulnerabilities", "code", "said"),
    [
        ([], 0, "1 packages audited, 0 with known vulnerabilities\n"),
        ([{"id": "PYSEC-1", "fix_versions": ["2"]}], 1, "box 1: PYSEC-1, mended in 2\n"),
        ([{"id": "PYSEC-1", "fix_versions": []}], 1, "box 1: PYSEC-1, mended in no version yet\n"),
    ],
)
def test_findings_decide(audit, monkeypatch, capsys, vulnerabilities, code, said):
    found = {"dependencies": [{"name": "box", "version": "1", "vulns": vulnerabilities}]}
    monkeypatch.setattr(audit, "_unreachable", lambda: None)
    monkeypatch.setattr(audit, "_audit", lambda folder, arguments: (found, ""))
    assert audit.main([]) == code
    assert said in capsys.readouterr().out


def test_audit_that_does_not_end_is_no_finding(audit, monkeypatch, capsys):
    monkeypatch.setattr(audit, "_unreachable", lambda: None)
    monkeypatch.setattr(audit, "_audit", lambda folder, arguments: (None, "no answer within 50 s"))
    assert audit.main([]) == 0
    assert capsys.readouterr().out == "skipped: the service cannot be reached: no answer within 50 s\n"
