"""compose.yaml without Docker: what it says parses, and the commands it runs exist.

Its Redis and its users are tested in tests/security/.
"""

import os
import re
import shutil
import subprocess

import pytest
import typer
import yaml

from lightning_store.cli import app
from lightning_store.cli.serve import DEFAULT_PORT
from lightning_store.http.options import ServerOptions
from lightning_store.http.processes import KILL_SECONDS
from tests.support.compose import CHECKOUT, VARIABLE, filled, read_compose
from tests.support.shipped_redis import VARIABLES


@pytest.fixture(scope="module")
def compose():
    return read_compose()


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


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
        """The server and what watches them come only when they are asked for."""
        usual = {name for name, service in services.items() if "profiles" not in service}
        assert usual == {"redis", "healthcheck", "runner"}
        assert {name: services[name]["profiles"] for name in set(services) - usual} == {
            "server": ["server"], "prometheus": ["metrics"], "grafana": ["metrics"],
        }  # fmt: skip

    @pytest.mark.parametrize("service", ["healthcheck", "runner", "server"])
    def test_commands_and_their_options_exist(self, services, service):
        name, *arguments = [filled(word) for word in services[service]["command"]]
        command = typer.main.get_command(app).commands[name]
        with command.make_context(name, arguments) as context:
            assert context.command is command

    def test_agent_that_runs_by_default_can_be_imported(self, services):
        module, name = filled(services["runner"]["command"][1]).split(":")
        assert callable(getattr(__import__(module, fromlist=[name]), name))

    def test_runner_scales(self, services):
        """A container's name or a published port would let only one start."""
        assert not {"container_name", "ports"} & set(services["runner"])

    def test_everything_waits_for_a_redis_that_answers(self, services):
        for service in ("healthcheck", "runner", "server"):
            assert services[service]["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert services["redis"]["healthcheck"]["test"]

    def test_ports_are_published_on_loopback_only(self, services):
        published = {name: service["ports"] for name, service in services.items() if "ports" in service}
        assert set(published) == {"redis", "server", "prometheus", "grafana"}
        assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)

    def test_data_outlives_the_container(self, compose, services):
        assert "redis-data:/data" in services["redis"]["volumes"]
        assert "redis-data" in compose["volumes"]

    def test_holds_no_password(self, compose):
        words = " ".join(strings(compose))
        passwords = [match for match in VARIABLE.finditer(words) if "PASSWORD" in match["name"]]
        assert passwords
        assert all(match["kind"] == "?" for match in passwords)
        assert not re.search(r"redis://[^$@]*:[^$@]+@", words)

    @pytest.mark.parametrize(
        ("service", "user"), [("healthcheck", "daemon"), ("runner", "runner"), ("server", "algorithm")]
    )
    def test_programs_know_where_the_store_is_and_are_users_of_its_file(self, services, service, user):
        url = services[service]["environment"]["LIGHTNING_STORE_URL"]
        assert url.startswith(f"redis://{user}:${{LIGHTNING_STORE_{user.upper()}_PASSWORD:?")

    def test_redis_gets_the_password_of_every_user_and_programs_only_their_own(self, services):
        known = {name: VARIABLE.findall(" ".join(strings(service))) for name, service in services.items()}
        passwords = {name: {word for word, *_ in found if "PASSWORD" in word} for name, found in known.items()}
        assert {name: words for name, words in passwords.items() if words} == {
            "redis": set(VARIABLES),
            "healthcheck": {"LIGHTNING_STORE_DAEMON_PASSWORD"},
            "runner": {"LIGHTNING_STORE_RUNNER_PASSWORD"},
            "server": {"LIGHTNING_STORE_ALGORITHM_PASSWORD"},
        }

    def test_files_that_it_mounts_exist(self, services):
        for service in services.values():
            for volume in service.get("volumes", []):
                source = filled(volume).split(":")[0]
                assert not source.startswith(".") or (CHECKOUT / source).exists()

    def test_image_runs_the_command_line(self):
        lines = (CHECKOUT / "Dockerfile").read_text().splitlines()
        assert 'ENTRYPOINT ["lightning-store"]' in lines


class TestServer:
    """Its life on that Redis is tested in tests/security/."""

    def test_image_has_its_extra_and_that_of_its_clients(self):
        assert "[server,client,metrics]" in (CHECKOUT / "Dockerfile").read_text()

    def test_publishes_the_port_that_it_listens_on_and_is_asked_at(self, services):
        service = services["server"]
        assert "--port" not in service["command"]
        assert filled(service["ports"][0]) == f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}"
        assert f"http://127.0.0.1:{DEFAULT_PORT}/ready" in service["healthcheck"]["test"][-1]

    def test_has_the_time_that_its_end_may_take(self, services):
        drain, kill = ServerOptions.drain_seconds, KILL_SECONDS
        assert float(services["server"]["stop_grace_period"].removesuffix("s")) > drain + kill

    def test_needs_tokens_only_when_it_runs(self, services):
        """Compose asks for every variable that must be set, whichever services are to run."""
        assert services["server"]["environment"]["LIGHTNING_STORE_TOKENS"] == "${LIGHTNING_STORE_TOKENS:-}"


class TestMetrics:
    def test_images_have_versions(self, services):
        assert all(re.search(r":v?\d+\.\d+\.\d+$", services[name]["image"]) for name in ("prometheus", "grafana"))

    @pytest.mark.parametrize(("service", "option"), [("healthcheck", "--port"), ("runner", "--metrics-port")])
    def test_prometheus_scrapes_the_ports_that_are_listened_on(self, services, service, option):
        jobs = yaml.safe_load((CHECKOUT / "deploy/prometheus/prometheus.yaml").read_text())["scrape_configs"]
        (found,) = [sd for job in jobs for sd in job["dns_sd_configs"] if sd["names"] == [service]]
        words = [filled(word) for word in services[service]["command"]]
        assert words[words.index(option) + 1] == str(found["port"])
        host = "--host" if service == "healthcheck" else "--metrics-host"
        assert words[words.index(host) + 1] == "0.0.0.0", "other containers have to reach it"

    def test_prometheus_reads_the_configuration_that_is_mounted(self, services):
        mounted = {
            source: target for source, target, _ in (v.split(":") for v in services["prometheus"]["volumes"][:1])
        }
        (file,) = [word.partition("=")[2] for word in services["prometheus"]["command"] if "config.file" in word]
        assert file == f"{mounted['./deploy/prometheus']}/prometheus.yaml"

    def test_grafana_finds_its_data_source_and_the_dashboard(self, services):
        provisioning = CHECKOUT / "deploy/grafana/provisioning"
        (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
        assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
        (provider,) = yaml.safe_load((provisioning / "dashboards/lightning-store.yaml").read_text())["providers"]
        mounts = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
        home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        assert home in mounts
        assert home.startswith(provider["options"]["path"] + "/")
        assert "/etc/grafana/provisioning" in mounts

    def test_nobody_can_log_in_to_grafana(self, services):
        settings = services["grafana"]["environment"]
        assert settings["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
        assert settings["GF_AUTH_BASIC_ENABLED"] == "false"
        assert settings["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"


def test_documented_check_is_a_real_command():
    """`docker compose config --quiet` is what the documents tell people to run; here only where Docker has it."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("this machine's docker has no compose")
    subprocess.run(
        [docker, "compose", "config", "--quiet"], cwd=CHECKOUT, env={**os.environ, **VARIABLES}, check=True, timeout=60
    )
