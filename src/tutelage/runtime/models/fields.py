"""Which fields of a client's chat request may reach a self-hosted model server.

Such servers take more fields than the public API, and several of those have been ways in: prompt
embeddings that corrupt memory, templates that run code, media options that fetch addresses. What is
not part of the public API is therefore dropped, unknown fields included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tutelage.runtime.errors import BadRequest

PUBLIC_FIELDS = frozenset(
    {
        "model", "messages", "audio", "frequency_penalty", "function_call", "functions",
        "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata", "modalities",
        "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
        "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop",
        "store", "stream", "stream_options", "temperature", "tool_choice", "tools", "top_k",
        "top_logprobs", "top_p", "user", "verbosity", "web_search_options",
    }
)  # fmt: skip
"""Fields of the public chat completions API, and ``top_k``."""

MESSAGE_FIELDS = frozenset(
    {
        "role", "content", "name", "tool_calls", "tool_call_id", "refusal", "reasoning",
        "reasoning_content", "function_call", "audio",
    }
)  # fmt: skip
"""Fields of a message, with the two names under which servers return reasoning."""

PART_TYPES = frozenset({"text", "image_url", "input_audio", "file", "refusal"})
"""Parts of a message's content; servers also take embeddings, which corrupt memory."""

RESPONSE_FORMATS = frozenset({"text", "json_object", "json_schema"})
"""Types of ``response_format``; others choose a server's own grammar backend."""

ROUTING_FIELDS = frozenset(
    {
        "api_base", "api_key", "api_type", "api_version", "base_url", "custom_host",
        "custom_llm_provider", "extra_body", "extra_headers", "fallbacks", "host", "litellm_params",
        "model_list", "organization", "provider_url", "proxy", "upstream", "upstream_url",
        "vertex_credentials", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
        "azure_ad_token",
    }
)  # fmt: skip
"""Fields by which other gateways let a client choose where its request goes, and with which key."""


def only_public(
    body: Mapping[str, Any], allowed: Collection[str] = PUBLIC_FIELDS
) -> dict[str, Any]:
    """The request without what is not public: its fields, those of messages, parts of content."""
    kept = {name: value for name, value in body.items() if name in allowed}
    messages = kept.get("messages")
    if isinstance(messages, list):
        kept["messages"] = [_public_message(message) for message in messages]
    wanted = kept.get("response_format")
    if isinstance(wanted, Mapping) and wanted.get("type") not in RESPONSE_FORMATS:
        del kept["response_format"]
    return kept


def _public_message(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return message
    kept = {name: value for name, value in message.items() if name in MESSAGE_FIELDS}
    if isinstance(kept.get("content"), list):
        kept["content"] = [
            part
            for part in kept["content"]
            if not isinstance(part, Mapping) or part.get("type") in PART_TYPES
        ]
    return kept


def reject_routing_fields(body: Mapping[str, Any]) -> None:
    """Refuses a body that says where it is to be sent.

    Raises:
        BadRequest: It does; ``param`` is the field.
    """
    for name in body:
        if name in ROUTING_FIELDS:
            raise BadRequest(
                f"{name}: where a request goes is set in the gateway's configuration; leave it out",
                param=name,
                code="routing_field",
            )
