from __future__ import annotations

from typing import Any

import pytest
from tests.deployed import read_yaml
from tests.made_releases import draft

from tutelage.runtime.errors import ReleaseRefused
from tutelage.runtime.release import Release
from tutelage.training.serving_manifest import STACKS, Stack, manifest, object_name


def read(release: Release, stack: Stack, base: str | None = None) -> Any:
    (document,) = read_yaml(manifest(release, stack, base))
    return document


def test_merged_weights_become_a_model_of_the_production_stack() -> None:
    (model,) = read(draft(), "production-stack")["servingEngineSpec"]["modelSpec"]
    assert model["name"] == "student-1"
    assert model["modelURL"] == "/releases/weights/abc"
    assert model["vllmConfig"]["extraArgs"][:2] == ["--served-model-name", "student@1"]
    assert model["extraVolumeMounts"][0]["mountPath"] == "/releases/weights"


def test_an_adapter_becomes_an_object_of_the_production_stack() -> None:
    made = read(draft(kind="adapter"), "production-stack", "smollm2")
    assert (made["kind"], made["metadata"]["name"]) == ("LoraAdapter", "student-1")
    assert made["spec"]["baseModel"] == "smollm2"
    assert made["spec"]["adapterSource"] == {
        "type": "local",
        "adapterName": "student@1",
        "adapterPath": "/releases/weights/abc",
    }


def test_llm_d_serves_merged_weights_by_their_release_name() -> None:
    made = read(draft(), "llm-d")
    assert made["modelArtifacts"]["name"] == "student@1"
    (container,) = made["decode"]["containers"]
    assert container["args"][:3] == ["/releases/weights/abc", "--served-model-name", "student@1"]


def test_llm_d_serves_an_adapter_beside_its_base() -> None:
    made = read(draft(kind="adapter"), "llm-d", "smollm2")
    (container,) = made["decode"]["containers"]
    assert container["args"][0] == "smollm2"
    assert "student@1=/releases/weights/abc" in container["args"]


@pytest.mark.parametrize("stack", STACKS)
def test_an_adapter_needs_a_base(stack: Stack) -> None:
    with pytest.raises(ReleaseRefused, match="--base"):
        manifest(draft(kind="adapter"), stack)


@pytest.mark.parametrize("stack", STACKS)
def test_a_path_with_marks_of_yaml_stays_a_text(stack: Stack) -> None:
    folder = '/data/a: b #1/"x" {y}'
    made = read(draft(folder=folder), stack)
    assert folder in str(made)


def test_names_of_objects_are_those_of_kubernetes() -> None:
    assert object_name(draft(student="My.Student_2")) == "my-student-2-1"
    assert len(object_name(draft(student="s" * 63))) <= 52
