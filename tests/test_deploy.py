"""The files under ``deploy`` name what exists, hold no secret, and give no rights away."""

from __future__ import annotations

import fnmatch
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.absence import absent

from tutelage.cli.main import app
from tutelage.runtime.config import ENVIRONMENT_PREFIX, Config, GatewayConfig, load_config
from tutelage.version import __version__

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "tutelage"
UNIT = DEPLOY / "systemd" / "tutelage.service"
TEXTS = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
USER = 10001
"""Of the image, which volumes and Kubernetes name too."""
SECRETS = ("TUTELAGE_PEPPER", "OPENAI_API_KEY", "STUDENT_API_KEY", "POSTGRES_PASSWORD")
SECRET_TEXT = re.compile(r"\b(sk-[\w-]{8,}|tut(admin)?-[\w-]{20,}|[0-9a-f]{32,})\b")
VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")

Instructions = list[tuple[str, str]]


def read_yaml(text: str) -> list[Any]:
    """The documents of a YAML text that are not empty."""
    if importlib.util.find_spec("yaml") is None:
        absent("PyYAML is not installed: pip install 'tutelage[alfworld]'")
    yaml: Any = importlib.import_module("yaml")
    return [document for document in yaml.safe_load_all(text) if document is not None]


def mapping(path: Path) -> dict[str, Any]:
    (document,) = read_yaml(path.read_text("utf-8"))
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return mapping(DEPLOY / "compose.yaml")


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return mapping(CHART / "values.yaml")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return mapping(CHART / "values.schema.json")


@pytest.fixture(scope="module")
def image() -> Instructions:
    """The instructions of the Dockerfile, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    lines = (line.strip().partition(" ") for line in joined.splitlines() if line.strip())
    return [(word.upper(), rest.strip()) for word, _, rest in lines]


def all_of(image: Instructions, word: str) -> list[str]:
    return [rest for found, rest in image if found == word]


def is_setting(variable: str) -> bool:
    """Whether an environment variable sets a key of the configuration that exists."""
    section: Any = Config
    *above, last = variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    for part in above:
        field = section.model_fields.get(part)
        section = getattr(field, "annotation", None)
        if not hasattr(section, "model_fields"):
            return False
    return last in section.model_fields


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
    copied = [rest for rest in all_of(image, "COPY") if rest.startswith("--from")]

    assert all_of(image, "FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]
    assert all_of(image, "ARG")[0].startswith("PYTHON_IMAGE=python:3.")
    assert copied == ["--from=build /opt/tutelage /opt/tutelage"]


def test_the_daemon_gets_only_what_the_image_is_built_of(image: Instructions) -> None:
    text = (ROOT / ".dockerignore").read_text("utf-8")
    rules = [line for line in text.splitlines() if line and not line.startswith("#")]
    sent = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied: set[str] = set()
    for rest in all_of(image, "COPY"):
        if not rest.startswith("--from"):
            copied |= {name.removeprefix("./") for name in rest.split()[:-1]}

    assert rules[0] == "*"
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
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
    start = json.loads(all_of(image, "ENTRYPOINT")[0]) + json.loads(all_of(image, "CMD")[0])
    asks = json.loads(all_of(image, "HEALTHCHECK")[0].partition("CMD ")[2])
    settings = re.findall(rf"({ENVIRONMENT_PREFIX}\w+__\w+)=", " ".join(all_of(image, "ENV")))

    assert start[:2] == ["tutelage", "serve"]
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


# The chart.


def test_the_configuration_of_the_chart_loads(values: Mapping[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(values["config"], encoding="utf-8")

    config = load_config(file, environment={})

    assert config.store.url.startswith("postgresql+psycopg://")
    needed_s = values["preStopSeconds"] + config.gateway.shutdown_s
    assert values["terminationGracePeriodSeconds"] > needed_s


def test_the_chart_is_of_this_release() -> None:
    chart = mapping(CHART / "Chart.yaml")

    assert chart["apiVersion"] == "v2"
    assert chart["appVersion"] == __version__


def test_the_schema_of_the_chart_takes_its_values_and_no_others(
    values: Mapping[str, Any], schema: Mapping[str, Any]
) -> None:
    from jsonschema import Draft7Validator

    Draft7Validator.check_schema(schema)
    validator = Draft7Validator(schema)

    assert list(validator.iter_errors(values)) == []
    assert set(values) == set(schema["properties"]) - {"global"}
    for wrong in (
        {**values, "replicas": 3},
        {**values, "image": {**values["image"], "tag": "latest"}},
        {**values, "secretName": ""},
        {**values, "service": {"port": 0}},
        {**values, "serviceMonitor": {"interval": "often"}},
    ):
        assert list(validator.iter_errors(wrong)), wrong


def test_every_value_that_a_template_reads_exists(values: Mapping[str, Any]) -> None:
    read: set[str] = set()
    for path in (CHART / "templates").iterdir():
        read |= set(re.findall(r"\.Values\.([\w.]+)", path.read_text("utf-8")))

    for dotted in read:
        place: Any = values
        for part in dotted.split("."):
            assert part in place, f".Values.{dotted}"
            place = place[part]
    assert {dotted.partition(".")[0] for dotted in read} == set(values)


def test_the_blocks_of_every_template_are_closed() -> None:
    for path in (CHART / "templates").iterdir():
        depth = 0
        for keyword in re.findall(r"\{\{-?\s*(\w+)", path.read_text("utf-8")):
            depth += keyword in ("if", "with", "range", "define")
            depth -= keyword == "end"
            assert depth >= 0, path.name
        assert depth == 0, path.name


@pytest.fixture(scope="module")
def helm() -> Any:
    """Helm's own library, which renders as ``helm template`` does and lints as ``helm lint``."""
    if importlib.util.find_spec("helm_python") is None:
        # Not ``absent``: the checks above need no Helm.
        pytest.skip("Helm is not installed: pip install helm-python-sdk")
    return importlib.import_module("helm_python")


def rendered(helm: Any, **values: Any) -> dict[str, Any]:
    """The objects of a release ``demo``, by kind and name."""
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name="demo", namespace="agents")
    objects = [
        found for name, text in texts.items() if name.endswith(".yaml") for found in read_yaml(text)
    ]
    return {f"{found['kind']}/{found['metadata']['name']}": found for found in objects}


def test_helm_finds_nothing_wrong_with_the_chart(helm: Any) -> None:
    report = helm.lint(str(CHART), strict=True)

    assert report["errors"] == []
    assert {message["error"] for message in report["messages"]} <= {"icon is recommended"}


def test_the_pods_have_probes_and_no_rights(helm: Any) -> None:
    objects = rendered(helm)
    pod = objects["Deployment/demo-tutelage"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert pod["securityContext"]["runAsUser"] == USER
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"/etc/tutelage", "/var/lib/tutelage", "/tmp"}
    assert container["image"] == f"tutelage:{__version__}"
    assert [entry["name"] for entry in container["env"] if not is_setting(entry["name"])] == []
    assert "PodDisruptionBudget/demo-tutelage" in objects


def test_another_configuration_rolls_the_pods(helm: Any, values: Mapping[str, Any]) -> None:
    def checksum(config: str) -> str:
        deployment = rendered(helm, config=config)["Deployment/demo-tutelage"]
        found = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        return str(found)

    assert checksum(values["config"]) == checksum(values["config"])
    assert checksum(values["config"]) != checksum(values["config"] + "workers = 2\n")


def test_the_configuration_reaches_the_pods_unchanged(helm: Any, values: Mapping[str, Any]) -> None:
    stored = rendered(helm)["ConfigMap/demo-tutelage"]["data"]["gateway.toml"]

    assert tomllib.loads(stored) == tomllib.loads(values["config"])


def test_replicas_cannot_share_a_file(helm: Any) -> None:
    config = '[store]\nurl = "sqlite:///tutelage.sqlite"\n'

    with pytest.raises(helm.HelmError, match="which replicas cannot share"):
        rendered(helm, config=config)
    alone = rendered(helm, config=config, replicaCount=1)["Deployment/demo-tutelage"]
    assert alone["spec"]["strategy"] == {"type": "Recreate"}


def test_what_is_switched_on_is_there(helm: Any) -> None:
    objects = rendered(
        helm,
        admin={"enabled": True},
        autoscaling={"enabled": True},
        serviceMonitor={"enabled": True},
    )
    (endpoint,) = objects["ServiceMonitor/demo-tutelage"]["spec"]["endpoints"]

    assert endpoint["authorization"]["credentials"] == {"name": "tutelage", "key": "METRICS_KEY"}
    assert "HorizontalPodAutoscaler/demo-tutelage" in objects
    assert "replicas" not in objects["Deployment/demo-tutelage"]["spec"]
    assert objects["Service/demo-tutelage-admin"]["spec"]["type"] == "ClusterIP"
    assert [port["name"] for port in objects["Service/demo-tutelage"]["spec"]["ports"]] == ["http"]
