from __future__ import annotations

import builtins
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tests.outcomes import DEFERRED, make_outcome, make_trace

from tutelage.runtime.config import Config, GatewayConfig
from tutelage.runtime.errors import MissingExtra
from tutelage.runtime.gateway.telemetry import NoTelemetry, Telemetry, telemetry_from

SECRET = "sk-seeded-3f9a1c77e2"
START_NS = 1_700_000_000_000_000_000


class Seen:
    """Spans that were made, by their names."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def attributes(self, name: str) -> dict[str, Any]:
        return dict(self.spans[name].attributes or {})

    def window_ms(self, name: str) -> tuple[int, int]:
        span = self.spans[name]
        assert span.start_time is not None
        assert span.end_time is not None
        return tuple(  # type: ignore[return-value]
            round((at_ns - START_NS) / 1e6) for at_ns in (span.start_time, span.end_time)
        )


@pytest.fixture
def seen() -> Iterator[Seen]:
    seen = Seen()
    yield seen
    seen.provider.shutdown()


@pytest.fixture
def telemetry(seen: Seen) -> Telemetry:
    return Telemetry(
        seen.provider,
        models={"student": "small", "teacher": "large"},
        providers={"teacher": "anthropic"},
    )


def test_a_request_is_a_server_span_with_client_spans_of_what_it_took(
    telemetry: Telemetry, seen: Seen
) -> None:
    telemetry.record(make_outcome(trace=DEFERRED, streamed=True, first_chunk_s=0.3))

    assert set(seen.spans) == {
        "chat agent", "retrieval demonstrations", "chat small", "chat large",
    }  # fmt: skip
    root = seen.spans["chat agent"]
    assert root.kind == SpanKind.SERVER
    assert root.parent is None
    assert root.status.status_code == StatusCode.UNSET
    for name in ("retrieval demonstrations", "chat small", "chat large"):
        child = seen.spans[name]
        assert child.kind == SpanKind.CLIENT
        assert child.parent == root.get_span_context()
    assert seen.window_ms("chat agent") == (0, 750)
    assert seen.window_ms("retrieval demonstrations") == (0, 10)
    assert seen.window_ms("chat small") == (12, 212)
    assert seen.window_ms("chat large") == (213, 713)
    scope = root.instrumentation_scope
    assert scope is not None
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.41.1"


def test_spans_carry_the_names_of_the_conventions_and_ours_for_the_rest(
    telemetry: Telemetry, seen: Seen
) -> None:
    telemetry.record(make_outcome(trace=DEFERRED, streamed=True, first_chunk_s=0.3))

    root = seen.attributes("chat agent")
    assert root.pop("tutelage.overhead_s") == pytest.approx(0.05)
    assert root.pop("tutelage.cost_usd") == pytest.approx(0.021)
    assert root == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "tutelage",
        "gen_ai.request.model": "agent",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.3,
        "gen_ai.conversation.id": "episode-1",
        "http.response.status_code": 200,
        "tutelage.mode": "cascade",
        "tutelage.tenant": "acme",
        "tutelage.key.id": "key-7",
        "tutelage.decision.id": "decision-1",
        "tutelage.served": "teacher",
        "tutelage.reason": "disagreed",
        "tutelage.samples": 3,
        "tutelage.demonstrations": 2,
        "tutelage.cost_baseline_usd": 0.03,
    }
    assert seen.attributes("chat small") == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small",
        "gen_ai.request.choice.count": 3,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_creation.input_tokens": 0,
        "tutelage.role": "student",
    }
    assert seen.attributes("chat large")["gen_ai.provider.name"] == "anthropic"
    assert seen.attributes("chat large")["gen_ai.usage.cache_creation.input_tokens"] == 10
    documents = seen.attributes("retrieval demonstrations")["gen_ai.retrieval.documents"]
    assert json.loads(documents) == [{"id": "t1:0"}, {"id": "t2:3"}]
    (event,) = seen.spans["chat agent"].events
    assert event.name == "gen_ai.evaluation.result"
    assert dict(event.attributes or {}) == {
        "gen_ai.evaluation.name": "agreement",
        "gen_ai.evaluation.score.value": 0.4,
        "gen_ai.evaluation.score.label": "disagreed",
    }


def test_the_clients_span_is_the_parent(
    telemetry: Telemetry,
    seen: Seen,
) -> None:
    telemetry.record(make_outcome(), "00-" + "a" * 32 + "-" + "b" * 16 + "-01")

    parent = seen.spans["chat agent"].parent
    assert parent is not None
    assert parent.trace_id == int("a" * 32, 16)
    assert parent.span_id == int("b" * 16, 16)


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_malformed_parent_is_none(
    header: str,
    telemetry: Telemetry,
    seen: Seen,
) -> None:
    telemetry.record(make_outcome(), header)

    assert seen.spans["chat agent"].parent is None


def test_a_span_that_happens_to_be_current_is_no_parent(
    telemetry: Telemetry,
    seen: Seen,
) -> None:
    with seen.provider.get_tracer("other").start_as_current_span("other"):
        telemetry.record(make_outcome())

    assert seen.spans["chat agent"].parent is None


@pytest.mark.parametrize(
    ("end", "status", "expected"),
    [
        ("upstream_error", 502, StatusCode.ERROR),
        ("internal_error", 500, StatusCode.ERROR),
        ("cancelled", 200, StatusCode.ERROR),
        ("client_error", 400, StatusCode.UNSET),
        ("refused", 401, StatusCode.UNSET),
    ],
)
def test_a_request_that_failed_names_its_error(
    end: str,
    status: int,
    expected: StatusCode,
    telemetry: Telemetry,
    seen: Seen,
) -> None:
    telemetry.record(make_outcome(end=end, status=status))

    assert seen.spans["chat agent"].status.status_code == expected
    assert seen.attributes("chat agent")["error.type"] == end


def test_a_route_or_model_without_a_name_of_its_own_makes_no_new_span_name(
    telemetry: Telemetry,
    seen: Seen,
) -> None:
    telemetry.record(make_outcome(route="models", alias=None, mode=None, tenant=None, key_id=None))
    telemetry.record(make_outcome(route="messages", alias="*"))

    assert set(seen.spans) == {"models", "chat"}
    assert "gen_ai.operation.name" not in seen.attributes("models")


def test_a_student_that_works_aside_is_laid_beside_the_teacher(
    telemetry: Telemetry, seen: Seen
) -> None:
    trace = DEFERRED.model_copy(update={"mode": "shadow"})
    telemetry.record(make_outcome(trace=trace))

    assert seen.window_ms("chat large") == (0, 500)
    assert seen.window_ms("chat small") == (12, 212)


def test_no_hop_outlasts_its_request(telemetry: Telemetry, seen: Seen) -> None:
    telemetry.record(make_outcome(trace=DEFERRED, duration_s=0.3))

    assert seen.window_ms("chat large") == (213, 300)


def test_without_leave_no_span_carries_content(
    telemetry: Telemetry,
    seen: Seen,
) -> None:
    trace = make_trace(
        goal=SECRET,
        observation=SECRET,
        answer=SECRET,
        prompt=({"role": "user", "content": SECRET},),
        error=f"BadResponse: {SECRET}",
    )
    telemetry.record(make_outcome(end="upstream_error", trace=trace))

    assert len(seen.spans) == 3
    assert all(SECRET not in span.to_json() for span in seen.spans.values())


def test_with_leave_spans_carry_prompt_and_answer(seen: Seen) -> None:
    prompt = (
        {"role": "user", "content": [{"type": "text", "text": "A room."}, {"type": "image_url"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "function": {"name": "look", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "A desk."},
    )
    telemetry = Telemetry(seen.provider, capture_content=True)
    telemetry.record(make_outcome(trace=DEFERRED.model_copy(update={"prompt": prompt})))

    output = seen.attributes("chat agent")["gen_ai.output.messages"]
    assert json.loads(output) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "go to desk 1"}]}
    ]
    calls: dict[str, dict[str, Any]] = {
        str((span.attributes or {})["tutelage.role"]): dict(span.attributes or {})
        for span in seen.exporter.get_finished_spans()
        if span.name == "chat"
    }
    assert json.loads(calls["student"]["gen_ai.input.messages"]) == [
        {
            "role": "user",
            "parts": [{"type": "text", "content": "A room."}, {"type": "image_url"}],
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": "{}"}],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "result": "A desk."}],
        },
    ]
    assert "gen_ai.input.messages" not in calls["teacher"]
    assert calls["teacher"]["gen_ai.request.model"] == "agent"


async def test_without_an_endpoint_there_are_no_spans() -> None:
    telemetry = telemetry_from(Config())
    telemetry.record(make_outcome())
    await telemetry.aclose()

    assert isinstance(telemetry, NoTelemetry)


@pytest.mark.parametrize("tail", ["", "/", "/v1/traces"])
async def test_with_an_endpoint_spans_are_sent_there(
    tail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter

    made: list[str] = []
    exporter = InMemorySpanExporter()

    def make(endpoint: str) -> InMemorySpanExporter:
        made.append(endpoint)
        return exporter

    monkeypatch.setattr(trace_exporter, "OTLPSpanExporter", make)
    config = Config(
        gateway=GatewayConfig(otlp_endpoint=f"http://127.0.0.1:4318{tail}"),
        student={"model": "small"},
        teacher={"model": "large"},
    )
    telemetry = telemetry_from(config)
    telemetry.record(make_outcome(trace=DEFERRED))
    await telemetry.aclose()

    assert made == ["http://127.0.0.1:4318/v1/traces"]
    spans = exporter.get_finished_spans()
    assert {span.name for span in spans} >= {"chat agent", "chat small", "chat large"}
    assert spans[0].resource.attributes["service.name"] == "tutelage"


def test_without_opentelemetry_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    config = Config(gateway=GatewayConfig(otlp_endpoint="http://127.0.0.1:4318"))

    with pytest.raises(MissingExtra, match=r"tutelage\[otel\]"):
        telemetry_from(config)


def test_opentelemetry_is_not_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; from tutelage.runtime.gateway.telemetry import telemetry_from;"
        "from tutelage.runtime.config import Config; telemetry_from(Config());"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert loaded.stdout.strip() == "[]"
