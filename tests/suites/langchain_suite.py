"""LangChain's own integration tests of chat models; run by ``test_langchain``.

They skip what fetches files from the internet (images, PDF), audio, and cassettes of traffic.
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from tests.suites.conftest import Door


class Suite(ChatModelIntegrationTests):
    """The suite with the model of a door."""

    door: Door

    @pytest.fixture(autouse=True)
    def _through(self, door: Door) -> None:
        type(self).door = door

    @property
    def model_override_value(self) -> str:
        return "teacher"

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.door.model,
            "base_url": self.door.openai_url,
            "api_key": "unused",
            "stream_usage": True,
            "use_responses_api": False,
            "max_retries": 0,
        }


class TestChat(Suite):
    """Over Chat Completions."""


class TestResponses(Suite):
    """Over Responses."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}
