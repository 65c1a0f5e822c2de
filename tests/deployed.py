"""What the tests of the files under ``deploy`` share."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from tests.absence import absent

from tutelage.runtime.config import ENVIRONMENT_PREFIX, Config

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "tutelage"
USER = 10001
"""Of the image, which volumes and Kubernetes name too."""


def read_yaml(text: str) -> list[Any]:
    """The documents of a YAML text that are not empty."""
    if importlib.util.find_spec("yaml") is None:
        absent("PyYAML is not installed: pip install 'tutelage[alfworld]'")
    yaml: Any = importlib.import_module("yaml")
    return [document for document in yaml.safe_load_all(text) if document is not None]


def mapping(path: Path) -> dict[str, Any]:
    """The one document of a YAML file."""
    (document,) = read_yaml(path.read_text("utf-8"))
    assert isinstance(document, dict)
    return document


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
