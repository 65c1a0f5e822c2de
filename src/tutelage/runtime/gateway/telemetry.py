"""OpenTelemetry spans of requests that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from tutelage.runtime.config import Config
from tutelage.runtime.errors import MissingExtra
from tutelage.runtime.gateway import names
from tutelage.runtime.gateway.outcome import Outcome
from tutelage.runtime.types import Served, Trace, Usage
from tutelage.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

_LONGEST: Final = 256
_FAILED: Final = frozenset({"upstream_error", "internal_error", "cancelled"})
# In the order in which a request passes them.
_HOPS: Final = ("retrieve", "render", "student", "agree", "teacher")


class Spans(Protocol):
    """Makes spans of requests that have ended."""

    def record(self, outcome: Outcome, traceparent: str | None = None) -> None:
        """Makes the spans of one request.

        Args:
            outcome: How it ended.
            traceparent: The header of that name that the client sent.
        """
        ...

    async def aclose(self) -> None:
        """Sends what waits."""
        ...


class NoTelemetry:
    """Makes no spans."""

    def record(self, outcome: Outcome, traceparent: str | None = None) -> None:
        """Does nothing."""

    async def aclose(self) -> None:
        """Does nothing."""


class Telemetry:
    """Makes a server span for each request, with client spans of what it took, after the fact.

    Names are those of ``gateway.names``. The hops of a request are known by their durations; they
    are laid one after another from its start, which is the order in which they happen, but for a
    student that works aside, which is laid beside the teacher.

    Args:
        provider: Makes the spans; closed with this object.
        capture_content: Whether spans carry prompts and answers.
        models: Names of the student's and the teacher's model; absent: the alias that was asked
            for.
        providers: Provider names of the conventions for both.
    """

    def __init__(
        self,
        provider: TracerProvider,
        *,
        capture_content: bool = False,
        models: Mapping[Served, str] | None = None,
        providers: Mapping[Served, str] | None = None,
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tutelage", __version__, schema_url=names.SCHEMA_URL)
        self._capture_content = capture_content
        self._models = models or {}
        self._providers = {"student": "openai", "teacher": "openai", **(providers or {})}

    def record(self, outcome: Outcome, traceparent: str | None = None) -> None:
        """Makes the spans of one request."""
        from opentelemetry import trace as api
        from opentelemetry.trace.status import Status, StatusCode

        operation = names.operation(outcome.route)
        alias = outcome.alias if outcome.alias not in (None, "*") else None
        started_ns = _ns(outcome.started_at_s)
        ended_ns = started_ns + _ns(outcome.duration_s)
        span = self._tracer.start_span(
            " ".join(filter(None, (_span_operation(outcome.route), alias))),
            context=_parent(traceparent),
            kind=api.SpanKind.SERVER,
            start_time=started_ns,
            attributes=dict(self._attributes(outcome, operation)),
        )
        trace = outcome.trace
        if trace is not None:
            if trace.agreement is not None:
                span.add_event(names.EVALUATION_EVENT, _evaluation(trace), timestamp=ended_ns)
            self._record_hops(trace, api.set_span_in_context(span), started_ns, ended_ns)
        if outcome.end in _FAILED:
            span.set_status(Status(StatusCode.ERROR, outcome.end))
        span.end(ended_ns)

    async def aclose(self) -> None:
        """Sends what waits, for at most as long as the exporter allows."""
        await asyncio.to_thread(self._provider.shutdown)

    def _attributes(self, outcome: Outcome, operation: str) -> Iterator[tuple[str, Any]]:
        if operation != names.OTHER:
            yield names.OPERATION_NAME, operation
            yield names.PROVIDER_NAME, names.PROVIDER
        yield names.HTTP_STATUS, outcome.status
        yield names.OVERHEAD_S, outcome.overhead_s
        yield names.REQUEST_STREAM, outcome.streamed
        if outcome.end != "ok":
            yield names.ERROR_TYPE, outcome.end
        if outcome.first_chunk_s is not None:
            yield names.RESPONSE_TIME_TO_FIRST_CHUNK, outcome.first_chunk_s
        for name, value in (
            (names.MODE, outcome.mode),
            (names.TENANT, outcome.tenant),
            (names.KEY_ID, outcome.key_id),
            (names.REQUEST_MODEL, outcome.trace.model if outcome.trace else outcome.alias),
        ):
            if value is not None:
                yield name, value[:_LONGEST]
        if outcome.trace is not None:
            yield from self._decided(outcome.trace)

    def _decided(self, trace: Trace) -> Iterator[tuple[str, Any]]:
        yield names.DECISION_ID, trace.id
        yield names.CONVERSATION_ID, trace.episode_id
        yield names.SERVED, trace.decision.served
        yield names.REASON, trace.decision.reason.value
        yield names.SAMPLE_COUNT, len(trace.samples)
        yield names.DEMONSTRATION_COUNT, len(trace.demonstrations)
        yield names.COST_USD, sum(trace.cost_usd.values())
        if trace.baseline_cost_usd is not None:
            yield names.BASELINE_COST_USD, trace.baseline_cost_usd
        if self._capture_content:
            yield names.OUTPUT_MESSAGES, _messages([{"role": "assistant", "content": trace.answer}])

    def _record_hops(self, trace: Trace, parent: Context, started_ns: int, ended_ns: int) -> None:
        from opentelemetry.trace import SpanKind

        took_ns = {hop: _ns(trace.latency_s.get(hop, 0.0)) for hop in _HOPS}
        at_ns = started_ns
        for hop in _HOPS:
            if hop == "teacher" and trace.mode == "shadow":
                at_ns = started_ns
            end_ns = min(at_ns + took_ns[hop], ended_ns)
            described = self._hop(trace, hop) if hop in trace.latency_s else None
            if described is not None:
                name, attributes = described
                span = self._tracer.start_span(
                    name,
                    context=parent,
                    kind=SpanKind.CLIENT,
                    start_time=at_ns,
                    attributes=attributes,
                )
                span.end(end_ns)
            at_ns = end_ns

    def _hop(self, trace: Trace, hop: str) -> tuple[str, dict[str, Any]] | None:
        """Name and attributes of a hop that leaves the gateway or searches; else ``None``."""
        if hop == "retrieve":
            return f"{names.RETRIEVAL} demonstrations", {
                names.OPERATION_NAME: names.RETRIEVAL,
                names.PROVIDER_NAME: names.PROVIDER,
                names.DATA_SOURCE_ID: "demonstrations",
                names.RETRIEVAL_DOCUMENTS: orjson.dumps(
                    [{"id": one} for one in trace.demonstrations]
                ).decode(),
            }
        if hop not in ("student", "teacher"):
            return None
        role: Served = "student" if hop == "student" else "teacher"
        model = self._models.get(role)
        attributes: dict[str, Any] = {
            names.OPERATION_NAME: names.CHAT,
            names.PROVIDER_NAME: self._providers[role],
            names.REQUEST_MODEL: model or trace.model[:_LONGEST],
            names.ROLE: role,
            **_tokens(trace.usage.get(role)),
        }
        if role == "student" and len(trace.samples) > 1:
            attributes[names.CHOICE_COUNT] = len(trace.samples)
        # A trace holds one prompt: the student's, where it was asked.
        was_shown = role == "student" or "student" not in trace.latency_s
        if self._capture_content and was_shown:
            attributes[names.INPUT_MESSAGES] = _messages(trace.prompt)
        return (f"{names.CHAT} {model}" if model else names.CHAT), attributes


def telemetry_from(config: Config) -> Spans:
    """What the configuration asks for: spans to ``gateway.otlp_endpoint``, or none.

    Raises:
        MissingExtra: The packages of OpenTelemetry are not installed.
    """
    endpoint = config.gateway.otlp_endpoint
    if endpoint is None:
        return NoTelemetry()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("opentelemetry", "otel") from None
    url = endpoint.rstrip("/")
    exporter = OTLPSpanExporter(url if url.endswith("/v1/traces") else f"{url}/v1/traces")
    resource = Resource.create({"service.name": "tutelage", "service.version": __version__})
    # Closed by us; at exit there may be no collector left to wait for.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    models: dict[Served, str] = {}
    if config.student.model:
        models["student"] = config.student.model
    if config.teacher.model:
        models["teacher"] = config.teacher.model
    return Telemetry(provider, capture_content=config.gateway.capture_content, models=models)


def _span_operation(route: str) -> str:
    operation = names.operation(route)
    return route if operation == names.OTHER else operation


def _parent(traceparent: str | None) -> Context:
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # An empty context: a span must not become the child of one that happens to be current.
    carrier = {"traceparent": traceparent} if traceparent else {}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _tokens(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    return {
        names.INPUT_TOKENS: usage.prompt_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
        names.CACHE_READ_TOKENS: usage.cache_read_tokens,
        names.CACHE_WRITE_TOKENS: usage.cache_write_tokens,
    }


def _evaluation(trace: Trace) -> dict[str, Any]:
    return {
        names.EVALUATION_NAME: "agreement",
        names.EVALUATION_SCORE: trace.agreement,
        names.EVALUATION_LABEL: trace.decision.reason.value,
    }


def _messages(messages: Any) -> str:
    """Chat messages in the shape of the conventions, as JSON."""
    return orjson.dumps(
        [{"role": message.get("role"), "parts": list(_parts(message))} for message in messages],
        default=repr,
    ).decode()


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    kind = "tool_call_response" if message.get("role") == "tool" else "text"
    for part in parts:
        if part.get("type") == "text" and kind == "text":
            yield {"type": "text", "content": part.get("text")}
        elif part.get("type") == "text":
            yield {"type": kind, "id": message.get("tool_call_id"), "result": part.get("text")}
        else:
            yield dict(part)
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield {
            "type": "tool_call",
            "id": call.get("id"),
            "name": function.get("name"),
            "arguments": function.get("arguments"),
        }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
