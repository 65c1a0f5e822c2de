"""Manifests by which serving stacks on Kubernetes take up a release."""

from __future__ import annotations

import json
from typing import Literal

from tutelage.runtime.errors import ReleaseRefused
from tutelage.runtime.release import Release

Stack = Literal["llm-d", "production-stack"]
STACKS: tuple[Stack, ...] = ("llm-d", "production-stack")
VOLUME = "tutelage-releases"
"""The PersistentVolumeClaim that holds the folder ``weights`` of ``releases.folder``."""


def manifest(release: Release, stack: Stack, base: str | None = None) -> str:
    """YAML that has a release served under its immutable name.

    ``production-stack``: values of its chart for merged weights, and a ``LoraAdapter`` for an
    adapter. ``llm-d``: values of the chart ``llm-d-modelservice``.

    Args:
        release: Which.
        stack: For what.
        base: Name of the served base model; an adapter needs it.

    Raises:
        ReleaseRefused: An adapter without a base.
    """
    if release.kind == "adapter" and base is None:
        raise ReleaseRefused(f"{release.name} is an adapter: name its base model with --base")
    lines = {"llm-d": _llm_d, "production-stack": _production_stack}[stack](release, base or "")
    head = f"# {release.name}, weights {release.weights_sha256[:16]}"
    return "\n".join([head, *lines]) + "\n"


def object_name(release: Release) -> str:
    """The name as Kubernetes takes it, such as ``student-7``."""
    allowed = "".join(c if c.isascii() and c.isalnum() else "-" for c in release.name.lower())
    return allowed.strip("-")[:52]


def _production_stack(release: Release, base: str) -> list[str]:
    if release.kind == "adapter":
        return [
            "apiVersion: production-stack.vllm.ai/v1alpha1",
            "kind: LoraAdapter",
            "metadata:",
            f"  name: {object_name(release)}",
            "spec:",
            f"  baseModel: {_text(base)}",
            "  adapterSource:",
            "    type: local",
            f"    adapterName: {_text(release.name)}",
            f"    adapterPath: {_text(release.folder)}",
            "  loraAdapterDeploymentConfig:",
            "    algorithm: default",
        ]
    return [
        "servingEngineSpec:",
        "  modelSpec:",
        f"    - name: {object_name(release)}",
        "      repository: vllm/vllm-openai",
        "      tag: latest # Pin it to the version that the release was tested with.",
        f"      modelURL: {_text(release.folder)}",
        "      replicaCount: 1",
        "      requestGPU: 1",
        "      vllmConfig:",
        "        extraArgs:",
        "          - --served-model-name",
        f"          - {_text(release.name)}",
        "          - --enable-prefix-caching",
        "      extraVolumes:",
        "        - name: releases",
        "          persistentVolumeClaim:",
        f"            claimName: {VOLUME}",
        "            readOnly: true",
        "      extraVolumeMounts:",
        "        - name: releases",
        f"          mountPath: {_text(_parent(release.folder))}",
        "          readOnly: true",
    ]


def _llm_d(release: Release, base: str) -> list[str]:
    folder = _parent(release.folder)
    served = (
        ["--served-model-name", release.name]
        if release.kind == "full"
        else ["--enable-lora", "--lora-modules", f"{release.name}={release.folder}"]
    )
    model = release.folder if release.kind == "full" else base
    return [
        "modelArtifacts:",
        f"  name: {_text(release.name if release.kind == 'full' else base)}",
        f"  uri: {_text(f'pvc://{VOLUME}/{_last(release.folder)}')}",
        "decode:",
        "  create: true",
        "  replicas: 1",
        "  containers:",
        "    - name: vllm",
        "      image: vllm/vllm-openai:latest # Pin it to the version that was tested.",
        "      modelCommand: custom",
        "      command: [vllm, serve]",
        "      args:",
        *(f"        - {_text(one)}" for one in [model, *served, "--enable-prefix-caching"]),
        "      volumeMounts:",
        "        - name: releases",
        f"          mountPath: {_text(folder)}",
        "          readOnly: true",
        "  volumes:",
        "    - name: releases",
        "      persistentVolumeClaim:",
        f"        claimName: {VOLUME}",
        "prefill:",
        "  create: false",
    ]


def _parent(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[0] or "/"


def _last(folder: str) -> str:
    return folder.rstrip("/").rpartition("/")[2]


def _text(value: str) -> str:
    """A text as YAML reads it, whatever is in it: JSON strings are YAML."""
    return json.dumps(value)
