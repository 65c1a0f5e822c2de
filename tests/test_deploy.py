"""The files under ``deploy`` name what exists, hold no secret, and give no rights away."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.deployed import DEPLOY, ROOT, USER, is_setting, mapping
from tests.dockerfile import (
    Instructions,
    all_of,
    copied,
    healthcheck,
    instructions,
    start,
)

from tutelage.cli.main import app
from tutelage.runtime.config import ENVIRONMENT_PREFIX, Config, GatewayConfig, load_config
from tutelage.version import __version__

UNIT = DEPLOY / "systemd" / "tutelage.service"
TEXTS = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
SECRETS = ("TUTELAGE_PEPPER", "OPENAI_API_KEY", "STUDENT_API_KEY", "POSTGRES_PASSWORD")
SECRET_TEXT = re.compile(r"\b(sk-[\w-]{8,}|tut(admin)?-[\w-]{20,}|[0-9a-f]{32,})\b")
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return mapping(DEPLOY / "compose.yaml")


@pytest.fixture(scope="module")
def image() -> Instructions:
    return instructions()


# Secrets and configuration.


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_no_file_holds_a_secret(path: Path) -> None:
    assert SECRET_TEXT.search(path.read_text("utf-8")) is None


def test_the_configuration_loads_and_finds_its_keys_in_the_environment() -> None:
    config = load_config(DEPLOY / "gateway.toml", environment={})

    assert (config.teacher.api_key_env, config.student.api_key_env) == SECRETS[1:3]
    assert config.gateway.pepper_env == SECRETS[0]
    assert config.store.url.startswith("postgresql+psycopg://")
    assert {alias.mode for alias in config.aliases.values()} == {"cascade", "passthrough"}


def test_what_the_configuration_shows_as_comments_is_valid_too() -> None:
    text = (DEPLOY / "gateway.toml").read_text("utf-8")
    shown = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)

    config = Config.model_validate(tomllib.loads(shown))

    assert config.aliases["claude"].upstreams == ("claude",)
    assert config.upstreams["claude"].wires == ("messages",)


def test_the_example_of_the_env_file_names_all_that_compose_needs() -> None:
    text = (DEPLOY / ".env.example").read_text("utf-8")
    named = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    found = VARIABLE.findall((DEPLOY / "compose.yaml").read_text("utf-8"))

    assert set(named) == {name for name, _, _ in found}
    assert {name for name, kind, _ in found if kind == "?"} == set(SECRETS)
    assert [named[name] for name in SECRETS] == [""] * len(SECRETS)


# Compose.


def test_compose_sets_only_keys_that_exist(compose: Mapping[str, Any]) -> None:
    named = [
        name
        for service in compose["services"].values()
        for name in service.get("environment", {})
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name
    ]

    assert [name for name in named if not is_setting(name)] == []
    assert is_setting("TUTELAGE_GATEWAY__PORT")
    assert not is_setting("TUTELAGE_GATEWAY__PROT")
    assert not is_setting("TUTELAGE_GATEWAYS__PORT")


def test_each_service_of_compose_gets_its_own_secrets(compose: Mapping[str, Any]) -> None:
    config = load_config(DEPLOY / "gateway.toml", environment={})
    given = {name: service["environment"] for name, service in compose["services"].items()}

    assert set(given["gateway"]) >= {
        config.gateway.pepper_env,
        config.teacher.api_key_env,
        config.student.api_key_env,
        "PGPASSWORD",
    }
    assert given["vllm"]["VLLM_API_KEY"] == given["gateway"]["STUDENT_API_KEY"]
    assert given["postgres"]["POSTGRES_PASSWORD"] == given["gateway"]["PGPASSWORD"]
    for other in ("vllm", "postgres"):
        assert not {"OPENAI_API_KEY", "TUTELAGE_PEPPER"} & set(given[other])


def test_student_and_database_are_out_of_reach(compose: Mapping[str, Any]) -> None:
    services = compose["services"]

    assert compose["networks"]["private"]["internal"] is True
    for name in ("vllm", "postgres"):
        assert services[name]["networks"] == ["private"]
        assert "ports" not in services[name]
        assert services[name]["healthcheck"]["test"]
    assert services["gateway"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_the_ports_of_compose_are_those_of_the_configuration(compose: Mapping[str, Any]) -> None:
    gateway = load_config(DEPLOY / "gateway.toml", environment={}).gateway
    published = [port.rsplit(":", 2) for port in compose["services"]["gateway"]["ports"]]

    assert [(int(outside), int(inside)) for _, outside, inside in published] == [
        (gateway.port, gateway.port),
        (gateway.admin_port, gateway.admin_port),
    ]
    assert [address for address, _, _ in published] == [
        "${GATEWAY_ADDRESS:-127.0.0.1}",
        "127.0.0.1",
    ]


def test_the_gateway_of_compose_has_no_rights(compose: Mapping[str, Any]) -> None:
    gateway = compose["services"]["gateway"]

    assert gateway["read_only"] is True
    assert gateway["cap_drop"] == ["ALL"]
    assert gateway["security_opt"] == ["no-new-privileges:true"]
    assert gateway["tmpfs"][0].startswith("/tmp:")


def test_compose_waits_longer_than_the_gateway_takes_to_stop(compose: Mapping[str, Any]) -> None:
    gateway = load_config(DEPLOY / "gateway.toml", environment={}).gateway
    grace = re.fullmatch(r"(\d+)s", compose["services"]["gateway"]["stop_grace_period"])

    assert grace is not None
    assert int(grace[1]) > gateway.shutdown_s


def test_every_image_has_a_version(compose: Mapping[str, Any], image: Instructions) -> None:
    named = [service["image"] for service in compose["services"].values()]
    named += [rest.partition("=")[2] for rest in all_of(image, "ARG") if "IMAGE" in rest]

    for name in named:
        repository, _, tag = name.rpartition(":")
        assert repository, f"{name} has no tag"
        assert tag != "latest"
    assert compose["services"]["gateway"]["image"] == f"tutelage:{__version__}"


def test_compose_itself_takes_the_file_and_asks_for_every_secret(
    compose: Mapping[str, Any], tmp_path: Path
) -> None:
    program = compose_program()
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    if program == ["docker-compose"]:
        # The first version of Compose, which Debian has, knows no name of a project.
        text = text.replace(f"name: {compose['name']}\n", "")
    file = tmp_path / "compose.yaml"
    file.write_text(text, encoding="utf-8")
    command = [*program, "-f", str(file), "--project-directory", str(DEPLOY), "config", "--quiet"]
    filled = dict.fromkeys(SECRETS, "filled in")

    def answer(variables: Mapping[str, str]) -> int:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **variables}
        return subprocess.run(command, env=environment, capture_output=True).returncode

    assert answer(filled) == 0
    for name in SECRETS:
        assert answer({**filled, name: ""}) != 0, name


def compose_program() -> list[str]:
    for program in (["docker", "compose"], ["docker-compose"]):
        found = shutil.which(program[0])
        if found and not subprocess.run([*program, "version"], capture_output=True).returncode:
            return program
    pytest.skip("Compose is not installed: apt-get install docker-compose")


# The image.


def test_the_image_runs_as_a_fixed_user_without_rights(image: Instructions) -> None:
    words = [word for word, _ in image]

    assert all_of(image, "USER") == [f"{USER}:{USER}"]
    assert words.index("USER") > max(at for at, word in enumerate(words) if word == "RUN")
    assert words.index("USER") < words.index("ENTRYPOINT")


def test_the_image_fetches_no_url_and_takes_no_secret(image: Instructions) -> None:
    assert all_of(image, "ADD") == []
    assert not any("curl " in rest or "wget " in rest for rest in all_of(image, "RUN"))
    set_by_image = " ".join(all_of(image, "ENV") + all_of(image, "ARG"))
    assert not re.search(r"(PEPPER|API_KEY|PASSWORD|SECRET|TOKEN)\b", set_by_image)


def test_the_image_is_built_in_two_stages_of_one_base(image: Instructions) -> None:
    between = [rest for rest in all_of(image, "COPY") if rest.startswith("--from")]

    assert all_of(image, "FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    assert all_of(image, "ARG")[0].startswith("PYTHON_IMAGE=python:3.")
    assert between == ["--from=build /opt/tutelage /opt/tutelage"]


def test_the_daemon_gets_only_what_the_image_is_built_of(image: Instructions) -> None:
    text = (ROOT / ".dockerignore").read_text("utf-8")
    rules = [line for line in text.splitlines() if line and not line.startswith("#")]
    sent = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}

    assert rules[0] == "*"
    assert copied(image) == sent
    assert all((ROOT / name).exists() for name in sent)
    assert any(fnmatch.fnmatch("src/.env", rule) for rule in rules if rule[0] != "!")


def test_the_image_installs_extras_that_exist_and_the_packages_of_minilm(
    image: Instructions,
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    commands = all_of(image, "RUN")
    (asked,) = [found for one in commands if (found := re.search(r'"\.\[([\w,]+)\]"', one))]
    (alone,) = [one for one in commands if "--no-deps" in one]

    assert {"postgres", "otel"} <= set(asked[1].split(",")) <= set(extras)
    assert set(extras["minilm"]) <= set(alone.split())


def test_the_image_starts_the_gateway_and_asks_it_whether_it_lives(image: Instructions) -> None:
    asks = healthcheck(image)
    settings = re.findall(rf"({ENVIRONMENT_PREFIX}\w+__\w+)=", " ".join(all_of(image, "ENV")))

    assert start(image)[:2] == ["tutelage", "serve"]
    assert "serve" in {command.name for command in app.registered_commands}
    assert all_of(image, "STOPSIGNAL") == ["SIGTERM"]
    assert asks[:2] == ["python", "-c"]
    assert "/healthz" in asks[2]
    compile(asks[2], "healthcheck", "exec")
    assert settings
    assert [name for name in settings if not is_setting(name)] == []


@pytest.mark.slow
def test_the_image_is_built_where_a_docker_daemon_answers() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True).returncode != 0:
        pytest.skip("no docker daemon answers here")
    build = [docker, "build", "-q", "-f", "deploy/Dockerfile", "-t", "tutelage:test", "."]
    run = [docker, "run", "--rm", "--read-only", "tutelage:test", "--help"]

    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run(run, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


# systemd.


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_reloads_and_stops_as_the_gateway_does(unit: Mapping[str, list[str]]) -> None:
    assert unit["Type"] == ["exec"]
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert unit["ExecStart"][0].split()[1:3] == ["serve", "--config"]
    assert int(unit["TimeoutStopSec"][0]) > GatewayConfig().shutdown_s
    assert unit["KillMode"] == ["mixed"]


def test_the_unit_gives_the_gateway_no_rights(unit: Mapping[str, list[str]]) -> None:
    assert unit["User"] == ["tutelage"]
    assert unit["CapabilityBoundingSet"] == [""]
    assert unit["ProtectSystem"] == ["strict"]
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices"):
        assert unit[name] == ["yes"], name


def test_systemd_finds_the_unit_valid(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # It looks whether the program is there.
    program = tmp_path / "tutelage"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8").replace("/opt/tutelage/bin/tutelage", str(program))
    copy.write_text(text, encoding="utf-8")

    done = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
