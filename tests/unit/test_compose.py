"""compose.yaml without Docker: what it says parses, and the commands it runs exist.

Its Redis and its users are tested in tests/security/.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from lightning_store.cli import app
from tests.support.shipped_redis import VARIABLES

CHECKOUT = Path(__file__).parents[2]
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((CHECKOUT / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


def with_defaults(word: str) -> str:
    """A word as compose reads it when no variable is set; one that must be set stays as it is."""
    return VARIABLE.sub(lambda match: match["rest"] if match["kind"] == "-" else match[0], str(word))


def strings(value):
    if isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    else:
        yield str(value)


class TestFile:
    def test_has_a_redis_a_healthcheck_daemon_and_runners(self, services):
        assert set(services) == {"redis", "healthcheck", "runner"}

    @pytest.mark.parametrize("service", ["healthcheck", "runner"])
    def test_commands_and_their_options_exist(self, services, service):
        name, *arguments = [with_defaults(word) for word in services[service]["command"]]
        command = typer.main.get_command(app).commands[name]
        with command.make_context(name, arguments) as context:
            assert context.command is command

    def test_agent_that_runs_by_default_can_be_imported(self, services):
        module, name = with_defaults(services["runner"]["command"][1]).split(":")
        assert callable(getattr(__import__(module, fromlist=[name]), name))

    def test_runner_scales(self, services):
        """A container's name or a published port would let only one start."""
        assert not {"container_name", "ports"} & set(services["runner"])

    def test_everything_waits_for_a_redis_that_answers(self, services):
        for service in ("healthcheck", "runner"):
            assert services[service]["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert services["redis"]["healthcheck"]["test"]

    def test_redis_is_published_on_loopback_only(self, services):
        assert all(port.startswith("127.0.0.1:") for port in services["redis"]["ports"])

    def test_data_outlives_the_container(self, compose, services):
        assert "redis-data:/data" in services["redis"]["volumes"]
        assert "redis-data" in compose["volumes"]

    def test_holds_no_password(self, compose):
        words = " ".join(strings(compose))
        passwords = [match for match in VARIABLE.finditer(words) if "PASSWORD" in match["name"]]
        assert passwords
        assert all(match["kind"] == "?" for match in passwords)
        assert not re.search(r"redis://[^$@]*:[^$@]+@", words)

    @pytest.mark.parametrize(("service", "user"), [("healthcheck", "daemon"), ("runner", "runner")])
    def test_programs_know_where_the_store_is_and_are_users_of_their_own(self, services, service, user):
        url = services[service]["environment"]["LIGHTNING_STORE_URL"]
        assert url.startswith(f"redis://{user}:${{LIGHTNING_STORE_{user.upper()}_PASSWORD:?")

    def test_redis_gets_the_password_of_every_user_and_programs_only_their_own(self, services):
        known = {name: VARIABLE.findall(" ".join(strings(service))) for name, service in services.items()}
        passwords = {name: {word for word, *_ in found if "PASSWORD" in word} for name, found in known.items()}
        assert passwords == {
            "redis": set(VARIABLES),
            "healthcheck": {"LIGHTNING_STORE_DAEMON_PASSWORD"},
            "runner": {"LIGHTNING_STORE_RUNNER_PASSWORD"},
        }

    def test_files_that_it_mounts_exist(self, services):
        for service in services.values():
            for volume in service.get("volumes", []):
                source = with_defaults(volume).split(":")[0]
                assert not source.startswith(".") or (CHECKOUT / source).exists()

    def test_image_runs_the_command_line(self):
        lines = (CHECKOUT / "Dockerfile").read_text().splitlines()
        assert 'ENTRYPOINT ["lightning-store"]' in lines


def test_documented_check_is_a_real_command():
    """`docker compose config --quiet` is what the documents tell people to run; here only where Docker has it."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("this machine's docker has no compose")
    subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=CHECKOUT, env={**os.environ, **VARIABLES}, check=True, timeout=60
    )
