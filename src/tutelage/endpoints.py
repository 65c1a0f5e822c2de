"""Configured endpoints: their models, keys and deadlines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tutelage.runtime.config import ModelConfig
from tutelage.runtime.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.runtime.models.deadlines import Timeouts
    from tutelage.runtime.models.openai import OpenAIModel
    from tutelage.runtime.secret import Secret


def endpoint(model: ModelConfig, role: str) -> OpenAIModel:
    """The model at a configured endpoint; close it after use.

    Raises:
        ConfigError: ``base_url`` or ``model`` is not set, or the key's variable is not.
    """
    from tutelage.runtime.models.fields import PUBLIC_FIELDS
    from tutelage.runtime.models.openai import OpenAIModel
    from tutelage.runtime.models.retries import Retries

    if model.base_url is None or model.model is None:
        missing = "base_url" if model.base_url is None else "model"
        raise ConfigError(f"{role}.{missing} is not set: `tutelage init` writes an example")
    return OpenAIModel(
        model.base_url,
        model.model,
        api_key=api_key(model, role),
        timeouts=timeouts(model),
        retries=Retries(attempts=model.attempts),
        extra_body={"logprobs": True} if getattr(model, "logprobs", False) else None,
        allowed_fields=PUBLIC_FIELDS if role == "student" else None,
        output_limit=model.output_limit,
    )


def api_key(model: ModelConfig, role: str) -> Secret | None:
    """The key of an endpoint, from the environment.

    Raises:
        ConfigError: Its variable is not set.
    """
    from tutelage.runtime.secret import Secret, shown_variable

    if model.api_key_env is None:
        return None
    value = os.environ.get(model.api_key_env)
    if not value:
        name = shown_variable(model.api_key_env)
        raise ConfigError(
            f"{role}.api_key_env = {name!r}, but that variable is not set: export {name}=…"
        )
    return Secret(value)


def timeouts(model: ModelConfig) -> Timeouts:
    """The deadlines of an endpoint."""
    from tutelage.runtime.models.deadlines import Timeouts

    limits = model.timeouts
    return Timeouts(
        connect_s=limits.connect_s,
        first_byte_s=limits.first_byte_s,
        idle_s=limits.idle_s,
        total_s=limits.total_s,
    )
