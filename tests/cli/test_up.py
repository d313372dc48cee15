"""`lightning-store up`, as a real process."""

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.support.command_line import run_process, start_process
from tests.support.processes import all_command_lines, wait_until_gone

Start = Callable[..., "tuple[subprocess.Popen[str], list[str]]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `up`, waits for the server, and returns the process and what it has printed; none outlives the test."""
    processes = []

    def begin(*options: str) -> "tuple[subprocess.Popen[str], list[str]]":
        process = start_process(["up", "--data", str(tmp_path / "data"), *options])
        processes.append(process)
        lines = []
        while not lines or not lines[-1].startswith("Ctrl-C"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            lines.append(line.rstrip("\n"))
        return process, lines

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_and_exits_0(start, tmp_path, number):
    process, _ = start()
    url = (tmp_path / "data" / "url").read_text().strip()
    with redis.Redis.from_url(url, decode_responses=True) as client:
        server = client.info("server")["process_id"]

    process.send_signal(number)
    _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (0, "")
    assert wait_until_gone(server)
    assert not (tmp_path / "data" / "url").exists()


def test_the_password_is_in_a_file_of_the_owner_only_and_nowhere_else(start, tmp_path):
    process, lines = start()
    file = tmp_path / "data" / "url"
    url = file.read_text().strip()
    password = url.split("@")[0].removeprefix("redis://:")
    mode = stat.S_IMODE(file.stat().st_mode)
    arguments = all_command_lines()

    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)

    assert mode == 0o600
    assert len(password) > 20
    assert password not in "".join(lines) + out + err + arguments


def test_the_printed_line_leads_to_a_store_that_works(start, tmp_path):
    process, lines = start("--maxmemory", "1gb")
    (export,) = (line.strip() for line in lines if "export" in line)
    found = re.fullmatch(r'export LIGHTNING_STORE_URL="\$\(cat (.+)\)"', export)
    environment = {"LIGHTNING_STORE_URL": Path(found[1]).read_text().strip()}

    result = run_process(["doctor", "--json"], environment=environment)

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert result.code == 0, result.out
    levels = {finding["check"]: finding["level"] for finding in result.json["findings"]}
    del levels["latency"]  # depends on how busy this machine is
    assert set(levels.values()) == {"ok"}, result.out


def test_the_data_is_found_again(start, tmp_path):
    for expected in ("", "enqueued before\n"):
        process, _ = start("--unix-socket", "--appendfsync", "always")
        environment = {"LIGHTNING_STORE_URL": (tmp_path / "data" / "url").read_text().strip()}
        listed = run_process(["rollouts", "list", "--json"], environment=environment).json["total"]
        assert listed == (1 if expected else 0)
        tasks = tmp_path / "tasks.jsonl"
        tasks.write_text("1\n")
        assert run_process(["enqueue", str(tasks)], environment=environment).code == 0
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_a_server_that_dies_is_an_error(start, tmp_path):
    process, _ = start()
    with redis.Redis.from_url((tmp_path / "data" / "url").read_text().strip()) as client:
        server = client.info("server")["process_id"]
    os.kill(server, signal.SIGKILL)
    _, err = process.communicate(timeout=30)

    assert process.returncode == 5
    assert err.startswith("error: The embedded Redis has ended")
    assert err.count("\n") == 1
    assert not (tmp_path / "data" / "url").exists()


def test_a_folder_in_use_is_an_error(start, tmp_path):
    process, _ = start()

    result = run_process(["up", "--data", str(tmp_path / "data")])

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert result.code == 5
    assert "in use" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("options", [["--port", "70000"], ["--port", "6000", "--unix-socket"], ["--appendfsync", "no"]])
def test_options_that_make_no_sense_are_mistakes_of_use(tmp_path, options):
    result = run_process(["up", "--data", str(tmp_path / "data"), *options])

    assert result.code == 2
    assert result.err.count("\n") == 1


def test_without_a_server_program_the_error_says_what_to_install(tmp_path):
    code = (
        "import sys, lightning_store.embedded_binary as binary\n"
        "binary._candidates = lambda: iter(())\n"
        "from lightning_store.cli import main\n"
        f"sys.exit(main(['up', '--data', {str(tmp_path / 'data')!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert result.returncode == 5
    assert "apt install redis-server" in result.stderr
    assert not (tmp_path / "data").exists()


def test_up_refuses_what_is_no_size(offline, tmp_path):
    result = offline("up", "--data", str(tmp_path / "data"), "--maxmemory", "much")

    assert (result.code, result.err) == (2, "error: --maxmemory: expected a size such as 512mb or 2gb, got 'much'\n")
    assert not (tmp_path / "data").exists()
