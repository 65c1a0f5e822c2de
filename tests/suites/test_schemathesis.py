"""Generated calls, right and wrong ones, against the gateway's own description."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from tests.suites.conftest import GATEWAYS, MODES

from tutelage.runtime.gateway.openapi import openapi

pytestmark = pytest.mark.suites

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
schema = schemathesis.openapi.from_dict(openapi())


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_no_call_gets_a_server_error_or_an_undocumented_answer(
    case: Any, gateways: dict[str, Any]
) -> None:
    case.call_and_validate(base_url=gateways["agrees"].url, checks=CHECKS)


@pytest.mark.parametrize("mode", MODES)
@schema.include(path_regex="chat/completions|responses$|messages$").parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_no_step_gets_a_server_error_whoever_serves(
    case: Any, mode: str, gateways: dict[str, Any]
) -> None:
    if isinstance(case.body, dict):
        case.body["model"] = mode
    gateway = gateways[GATEWAYS.get(mode, "agrees")]
    case.call_and_validate(base_url=gateway.url, checks=CHECKS)
