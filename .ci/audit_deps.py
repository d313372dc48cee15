"""Fails when something that is installed has a known vulnerability; says so when nobody could be asked.

The audit is pip-audit's. What it looks up is what `pip freeze` lists: pip and setuptools are this machine's, not ours.
It asks OSV, which is there to be asked, and not the package index, which a hundred look-ups per run would burden.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Final

SERVICE: Final = "https://api.osv.dev/v1/query"
QUESTION: Final = {"package": {"name": "pip", "ecosystem": "PyPI"}, "version": "19.0"}
"""About a version that is known to have some."""

REACH_SECONDS: Final = 5.0
AUDIT_SECONDS: Final = 50.0
SKIPPED: Final = "skipped: the service cannot be reached"


def main(arguments: list[str]) -> int:
    """Audit, with more arguments for pip-audit, such as `--ignore-vuln ID`.

    Returns:
        The exit code: 1 when something was found, else 0.
    """
    why_not = _unreachable()
    found = None
    if why_not is None:
        with tempfile.TemporaryDirectory() as folder:
            found, why_not = _audit(Path(folder), arguments)
    if found is None:
        _say(f"{SKIPPED}: {why_not}")
        return 0
    vulnerable = [package for package in found["dependencies"] if package.get("vulns")]
    for package in vulnerable:
        for entry in package["vulns"]:
            mended = ", ".join(entry["fix_versions"]) or "no version yet"
            _say(f"{package['name']} {package['version']}: {entry['id']}, mended in {mended}")
    _say(f"{len(found['dependencies'])} packages audited, {len(vulnerable)} with known vulnerabilities")
    return 1 if vulnerable else 0


def _unreachable() -> str | None:
    """Why the service does not answer; None if it does."""
    try:
        with urllib.request.urlopen(SERVICE, json.dumps(QUESTION).encode(), timeout=REACH_SECONDS) as answer:
            is_good = bool(json.load(answer).get("vulns"))
    except (OSError, ValueError) as error:
        return str(error)
    return None if is_good else "what answers in its place knows of no vulnerabilities"


def _audit(folder: Path, arguments: list[str]) -> tuple[dict[str, Any] | None, str]:
    """What pip-audit found; None, and its last words, when it did not get to the end."""
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable", "--disable-pip-version-check"]
    pinned, answer = folder / "pinned.txt", folder / "answer.json"
    frozen = subprocess.run(freeze, capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    pinned.write_text(frozen.stdout)
    audit = [
        sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--requirement", str(pinned), "--no-deps",
        "--disable-pip", "--timeout", "10", "--progress-spinner", "off", "--format", "json", "--output", str(answer),
        *arguments,
    ]  # fmt: skip
    try:
        said = subprocess.run(  # noqa: S603 - our own words, and those of whoever started us
            audit, capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {AUDIT_SECONDS:g} s"
    try:
        return json.loads(answer.read_text()), ""
    except (OSError, ValueError):
        return None, (said.stderr.strip().splitlines() or ["no reason given"])[-1]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
