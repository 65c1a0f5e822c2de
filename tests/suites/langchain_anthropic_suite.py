"""LangChain's own integration tests of its Anthropic chat model; run by ``test_langchain``."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from tests.suites.conftest import Door


class TestMessages(ChatModelIntegrationTests):
    """Over Messages."""

    door: Door

    @pytest.fixture(autouse=True)
    def _through(self, door: Door) -> None:
        type(self).door = door

    @property
    def model_override_value(self) -> str:
        return "teacher"

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.door.model,
            "base_url": self.door.url,
            "api_key": "unused",
            "max_tokens": 64,
            "max_retries": 0,
        }
