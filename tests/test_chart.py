"""The Helm chart renders to what the gateway needs, gives no rights away, and refuses nonsense."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.chart_renderer import ChartError, Renderer, built
from tests.deployed import CHART, USER, is_setting, mapping, read_yaml

from tutelage.runtime.config import load_config
from tutelage.version import __version__

ALL_ON: dict[str, Any] = {
    "admin": {"enabled": True},
    "affinity": {"podAntiAffinity": {}},
    "autoscaling": {"enabled": True},
    "flywheel": {
        "enabled": True,
        "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    },
    "imagePullSecrets": [{"name": "registry"}],
    "nodeSelector": {"disk": "fast"},
    "podAnnotations": {"team": "agents"},
    "podLabels": {"tier": "gateway"},
    "service": {"annotations": {"team": "agents"}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone"}],
}
"""Every value whose part of a template is left out otherwise."""
NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return mapping(CHART / "values.yaml")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return mapping(CHART / "values.schema.json")


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return built(tmp_path_factory.mktemp("renderer"))


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


@pytest.mark.parametrize("chosen", [{}, ALL_ON], ids=["usual", "all-on"])
def test_every_object_is_named_and_labelled_as_kubernetes_wants_it(
    renderer: Renderer, chosen: dict[str, Any]
) -> None:
    texts = renderer.texts(CHART, chosen)
    found = [one for name in texts if name.endswith(".yaml") for one in read_yaml(texts[name])]

    for one in found:
        assert one["apiVersion"]
        assert NAME.fullmatch(one["metadata"]["name"])
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert all(isinstance(value, str) for value in labels.values())
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names)) == (8 if chosen else 4)
    assert "kubectl" in texts["tutelage/templates/NOTES.txt"]


def test_values_replace_what_they_name_and_no_more(renderer: Renderer) -> None:
    spec = renderer.objects(CHART, **ALL_ON)["Deployment/demo-tutelage"]["spec"]["template"]["spec"]

    for name in ("affinity", "nodeSelector", "tolerations", "topologySpreadConstraints"):
        assert spec[name] == ALL_ON[name]
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"


@pytest.mark.parametrize(
    "broken",
    ["{{ .Values.image.tag", '{{ include "nobody" . }}', "{{ .Values.no.such }}", "{{ nothing }}"],
)
def test_a_template_that_is_wrong_is_found(renderer: Renderer, broken: str, tmp_path: Path) -> None:
    copy = tmp_path / "tutelage"
    shutil.copytree(CHART, copy)
    (copy / "templates" / "broken.yaml").write_text(f"name: {broken}\n", encoding="utf-8")

    with pytest.raises(ChartError, match=r"broken\.yaml"):
        renderer.texts(copy, {})


@pytest.mark.parametrize("chosen", [{}, ALL_ON], ids=["usual", "all-on"])
def test_helm_itself_finds_nothing_wrong_and_renders_the_same(
    renderer: Renderer, chosen: dict[str, Any], tmp_path: Path
) -> None:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("the program helm is not installed")
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps(chosen), encoding="utf-8")
    chart, given = str(CHART), str(values)

    linted = subprocess.run(
        [helm, "lint", "--strict", chart, "--values", given], capture_output=True, text=True
    )
    printed = subprocess.run(
        [helm, "template", "demo", chart, "--namespace", "agents", "--values", given],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert linted.returncode == 0, linted.stdout
    theirs = {f"{one['kind']}/{one['metadata']['name']}": one for one in read_yaml(printed)}
    assert renderer.objects(CHART, **chosen) == theirs


def test_the_pods_have_probes_and_no_rights(renderer: Renderer) -> None:
    objects = renderer.objects(CHART)
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


def test_another_configuration_rolls_the_pods(
    renderer: Renderer, values: Mapping[str, Any]
) -> None:
    def checksum(config: str) -> str:
        deployment = renderer.objects(CHART, config=config)["Deployment/demo-tutelage"]
        found = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        return str(found)

    assert checksum(values["config"]) == checksum(values["config"])
    assert checksum(values["config"]) != checksum(values["config"] + "workers = 2\n")


def test_the_configuration_reaches_the_pods_unchanged(
    renderer: Renderer, values: Mapping[str, Any]
) -> None:
    stored = renderer.objects(CHART)["ConfigMap/demo-tutelage"]["data"]["gateway.toml"]

    assert tomllib.loads(stored) == tomllib.loads(values["config"])


def test_replicas_cannot_share_a_file(renderer: Renderer) -> None:
    config = '[store]\nurl = "sqlite:///tutelage.sqlite"\n'

    with pytest.raises(ChartError, match="which replicas cannot share"):
        renderer.objects(CHART, config=config)
    alone = renderer.objects(CHART, config=config, replicaCount=1)["Deployment/demo-tutelage"]
    assert alone["spec"]["strategy"] == {"type": "Recreate"}


def test_what_is_switched_on_is_there(renderer: Renderer) -> None:
    objects = renderer.objects(
        CHART,
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


def test_the_flywheel_has_no_rights_and_gets_no_requests(renderer: Renderer) -> None:
    objects = renderer.objects(CHART, flywheel={"enabled": True, "image": "trainer:1"})
    spec = objects["CronJob/demo-tutelage-flywheel"]["spec"]
    pod = spec["jobTemplate"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]

    assert "CronJob/demo-tutelage-flywheel" not in renderer.objects(CHART)
    assert spec["concurrencyPolicy"] == "Forbid"
    assert container["args"][:2] == ["flywheel", "run"]
    assert container["image"] == "trainer:1"
    assert pod["spec"]["securityContext"]["runAsUser"] == USER
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    selector = objects["Service/demo-tutelage"]["spec"]["selector"]
    assert not selector.items() <= pod["metadata"]["labels"].items()
    assert [entry["name"] for entry in container["env"] if not is_setting(entry["name"])] == []


def test_the_flywheel_takes_the_image_of_the_gateway_unless_another_is_named(
    renderer: Renderer,
) -> None:
    objects = renderer.objects(CHART, flywheel={"enabled": True})
    pod = objects["CronJob/demo-tutelage-flywheel"]["spec"]["jobTemplate"]["spec"]["template"]
    claims = [
        one["persistentVolumeClaim"]
        for one in pod["spec"]["volumes"]
        if len(one) == 2 and "persistentVolumeClaim" in one
    ]

    assert pod["spec"]["containers"][0]["image"] == f"tutelage:{__version__}"
    assert claims == [{"claimName": "tutelage-releases"}]
