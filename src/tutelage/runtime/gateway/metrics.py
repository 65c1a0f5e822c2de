"""Prometheus metrics of one worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from tutelage.runtime.gateway import names
from tutelage.runtime.gateway.outcome import Outcome
from tutelage.runtime.gateway.routing import RouteName
from tutelage.runtime.models.breaker import State
from tutelage.runtime.types import Served, Trace
from tutelage.version import __version__

ROUTES: Final[tuple[str, ...]] = get_args(RouteName)
"""Routes with a label of their own."""

Labelled = TypeVar("Labelled", Counter, Histogram)

_BEFORE_TEACHER: Final = ("retrieve", "render", "student", "agree")
_NO_MODE: Final = "none"
_AT_ONCE: Final = 32
_STATES: Final[tuple[State, ...]] = get_args(State)
_MODEL_LABELS: Final = tuple(
    names.label(name) for name in (names.OPERATION_NAME, names.PROVIDER_NAME, names.REQUEST_MODEL)
)
_CLIENT_LABELS: Final = (*_MODEL_LABELS, names.label(names.ROLE))


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """An upstream as it is now."""

    in_flight: int
    """Calls that wait for an answer or read one."""
    breaker: State = "closed"


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where values that others keep are read from, at every scrape."""

    in_flight: Callable[[], int] = lambda: 0
    """Requests being served."""
    queue_rows: Callable[[], int] = lambda: 0
    """Traces that wait to be written."""
    dropped_traces: Callable[[], int] = lambda: 0
    """Traces that could be neither stored nor spooled, since the start."""
    upstreams: Callable[[], Mapping[str, UpstreamState]] = dict
    """Upstreams by their configured names."""
    student_version: Callable[[], str | None] = lambda: None
    """The student that serves."""
    releases: Callable[[], Collection[str]] = tuple
    """Releases of the student that serve."""
    refused_policies: Callable[[], Collection[str]] = tuple
    """Those of them whose policy file does not hold for them."""
    risks: Callable[[], Mapping[str, tuple[float, float]]] = dict
    """By model with a certified policy: risk seen in its calibration, and its upper bound."""


class Metrics:
    """Counts requests as they end.

    Workers of one gateway count in files that they share, so whichever is scraped tells of all.
    Labels come from closed lists, whatever clients send: an unknown route or model is ``other``,
    and no label names a tenant, a key, an episode or a text.

    Args:
        registry: What the metrics are registered in; one for each ``Metrics``.
        aliases: Models with a label of their own, as configured.
        gauges: Values that others keep.
        providers: Provider names of the conventions for student and teacher.
        routes: Routes with a label of their own.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        aliases: Collection[str] = (),
        gauges: Gauges | None = None,
        providers: Mapping[Served, str] | None = None,
        routes: Collection[str] = ROUTES,
    ) -> None:
        self._registry = registry
        self._children: dict[tuple[Any, tuple[str, ...]], Any] = {}
        self._ended: list[Outcome] = []
        # Whichever worker is scraped tells of all, as far as these have written it down.
        self._at_once = 1 if os.environ.get(names.COUNTS_FOLDER) else _AT_ONCE
        self.set_aliases(aliases)
        self._routes = frozenset(routes)
        self._providers = {"student": "openai", "teacher": "openai", **(providers or {})}
        # Registered first, so that a scrape counts what has ended before it reads anything.
        self._readings = _Readings(gauges or Gauges(), self._count_ended)
        registry.register(self._readings)
        self._count_requests(registry)
        self._count_decisions(registry)
        self._count_calls(registry)

    def set_aliases(self, aliases: Collection[str]) -> None:
        """Takes other models as those with a label of their own, after a reload."""
        self._count_ended()
        self._aliases = frozenset(aliases) - {"*"}

    def observe(self, outcome: Outcome) -> None:
        """Counts a request that has ended, a few together: one alone costs twice as much."""
        self._ended.append(outcome)
        if len(self._ended) >= self._at_once:
            self._count_ended()

    def _count_ended(self) -> None:
        ended, self._ended = self._ended, []
        for outcome in ended:
            self._observe(outcome)

    def _observe(self, outcome: Outcome) -> None:
        route = outcome.route if outcome.route in self._routes else names.OTHER
        mode = outcome.mode or _NO_MODE
        self._child(self._requests, route, mode, outcome.end).inc()
        if outcome.end != "refused":
            self._child(self._overhead, mode).observe(outcome.overhead_s)
        operation = names.operation(outcome.route)
        if operation != names.OTHER:
            self._observe_served(outcome, operation)
        trace = outcome.trace
        if trace is not None:
            self._observe_decision(outcome, trace)
            for role in trace.usage:
                self._observe_call(outcome, trace, role, operation)

    def render(self) -> tuple[bytes, str]:
        """All metrics as text, and its content type.

        With several workers the counts are those of all, the gauges those of this one.
        """
        registry = self._registry
        folder = os.environ.get(names.COUNTS_FOLDER)
        if folder:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
            registry.register(self._readings)
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def _count_requests(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            names.REQUESTS,
            "Requests by wire, mode and how they ended.",
            ("wire", "mode", "outcome"),
            registry=registry,
        )
        self._overhead = Histogram(
            names.OVERHEAD,
            "What the gateway added: the whole duration without the waits for upstreams.",
            ("mode",),
            buckets=names.OVERHEAD_BUCKETS,
            registry=registry,
        )
        self._duration = Histogram(
            names.REQUEST_DURATION,
            "Seconds until the last byte of an answer.",
            (*_MODEL_LABELS, names.label(names.ERROR_TYPE)),
            buckets=names.DURATION_BUCKETS,
            registry=registry,
        )
        self._first_token = Histogram(
            names.TIME_TO_FIRST_TOKEN,
            "Seconds until the first event of a stream that is no ping.",
            _MODEL_LABELS,
            buckets=names.FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self._output_token = Histogram(
            names.TIME_PER_OUTPUT_TOKEN,
            "Seconds a token of a stream, after the first one.",
            _MODEL_LABELS,
            buckets=names.OUTPUT_TOKEN_BUCKETS,
            registry=registry,
        )

    def _count_decisions(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(
            names.DECISIONS, "Decisions by who served and why.", ("served", "reason"),
            registry=registry,
        )  # fmt: skip
        self._penalty = Histogram(
            names.TTFT_PENALTY,
            "Seconds that the student's attempt delayed a stream the teacher then served.",
            buckets=names.PENALTY_BUCKETS,
            registry=registry,
        )
        self._agreement = Histogram(
            names.AGREEMENT,
            "Share of the most frequent action among a step's samples.",
            buckets=names.SHARE_BUCKETS,
            registry=registry,
        )
        self._samples = Counter(names.SAMPLES, "Samples drawn from students.", registry=registry)
        self._cost = Counter(
            names.COST,
            "Spend: answer, of the role that served with all its samples; loser, of the other one.",
            ("component",),
            registry=registry,
        )
        self._baseline = Counter(
            names.BASELINE_COST, "What the teacher alone would have cost.", registry=registry
        )

    def _count_calls(self, registry: CollectorRegistry) -> None:
        self._tokens = Histogram(
            names.TOKEN_USAGE,
            "Tokens of a call to a student or teacher.",
            (*_CLIENT_LABELS, names.label(names.TOKEN_TYPE)),
            buckets=names.TOKEN_BUCKETS,
            registry=registry,
        )
        self._calls = Histogram(
            names.OPERATION_DURATION,
            "Seconds of a call to a student or teacher.",
            _CLIENT_LABELS,
            buckets=names.DURATION_BUCKETS,
            registry=registry,
        )
        self._first_chunk = Histogram(
            names.TIME_TO_FIRST_CHUNK,
            "Seconds from the teacher's call to the first event of its stream.",
            _CLIENT_LABELS,
            buckets=names.FIRST_TOKEN_BUCKETS,
            registry=registry,
        )

    def _observe_served(self, outcome: Outcome, operation: str) -> None:
        labels = (operation, names.PROVIDER, self._model(outcome))
        error = "" if outcome.end == "ok" else outcome.end
        self._child(self._duration, *labels, error).observe(outcome.duration_s)
        first_s = outcome.first_chunk_s
        if not outcome.streamed or first_s is None or outcome.end != "ok":
            return
        self._child(self._first_token, *labels).observe(first_s)
        trace = outcome.trace
        usage = trace.usage.get(trace.decision.served) if trace else None
        if usage is not None and usage.output_tokens > 1:
            rest_s = max(0.0, outcome.duration_s - first_s)
            self._child(self._output_token, *labels).observe(rest_s / (usage.output_tokens - 1))

    def _observe_decision(self, outcome: Outcome, trace: Trace) -> None:
        decision = trace.decision
        self._child(self._decisions, decision.served, decision.reason.value).inc()
        if trace.samples:
            self._samples.inc(len(trace.samples))
        if trace.agreement is not None:
            self._agreement.observe(trace.agreement)
        for role, cost_usd in trace.cost_usd.items():
            component = "answer" if role == decision.served else "loser"
            self._child(self._cost, component).inc(max(0.0, cost_usd))
        if trace.baseline_cost_usd is not None:
            self._baseline.inc(max(0.0, trace.baseline_cost_usd))
        if outcome.streamed and decision.served == "teacher" and trace.mode != "shadow":
            before_s = sum(trace.latency_s.get(hop, 0.0) for hop in _BEFORE_TEACHER)
            if before_s > 0:
                self._penalty.observe(before_s)

    def _observe_call(self, outcome: Outcome, trace: Trace, role: Served, operation: str) -> None:
        labels = (operation, self._providers[role], self._model(outcome), role)
        usage = trace.usage[role]
        self._child(self._tokens, *labels, "input").observe(usage.prompt_tokens)
        self._child(self._tokens, *labels, "output").observe(usage.output_tokens)
        call_s = trace.latency_s.get(role)
        if call_s is None:
            return
        self._child(self._calls, *labels).observe(call_s)
        if role == "teacher" and outcome.streamed and outcome.first_chunk_s is not None:
            waited_s = sum(trace.latency_s.get(hop, 0.0) for hop in _BEFORE_TEACHER)
            if trace.mode == "shadow":
                waited_s = 0.0
            self._child(self._first_chunk, *labels).observe(
                max(0.0, outcome.first_chunk_s - waited_s)
            )

    def _child(self, metric: Labelled, *labels: str) -> Labelled:
        """The series of these labels; looking one up in ``metric`` costs more than counting."""
        key = (metric, labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        found: Labelled = child
        return found

    def _model(self, outcome: Outcome) -> str:
        return outcome.alias if outcome.alias in self._aliases else names.OTHER


class _Readings(Collector):
    """Reads the gauges at every scrape."""

    def __init__(self, gauges: Gauges, before: Callable[[], None]) -> None:
        self._gauges = gauges
        self._before = before

    def collect(self) -> Iterator[Metric]:
        self._before()
        gauges = self._gauges
        yield InfoMetricFamily(names.BUILD, "The running release.", {"version": __version__})
        student = gauges.student_version()
        if student:
            yield InfoMetricFamily(
                names.STUDENT_VERSION, "The student that serves.", {"version": student}
            )
        refused = GaugeMetricFamily(
            names.POLICY_REFUSED,
            "1 for a release that serves by the safe policy, as its own was refused; else 0.",
            labels=["version"],
        )
        unfit = gauges.refused_policies()
        for release in sorted(gauges.releases()):
            refused.add_metric([release], float(release in unfit))
        yield refused
        estimates = GaugeMetricFamily(
            names.RISK_ESTIMATE, "Risk seen in the calibration of a policy.", labels=["model"]
        )
        bounds = GaugeMetricFamily(
            names.RISK_BOUND, "Upper bound of the risk of a calibrated policy.", labels=["model"]
        )
        for model, (estimate, bound) in gauges.risks().items():
            estimates.add_metric([model], estimate)
            bounds.add_metric([model], bound)
        yield estimates
        yield bounds
        yield GaugeMetricFamily(names.IN_FLIGHT, "Requests being served.", value=gauges.in_flight())
        yield GaugeMetricFamily(
            names.QUEUE, "Traces that wait to be written.", value=gauges.queue_rows()
        )
        yield CounterMetricFamily(
            names.DROPPED_TRACES,
            "Traces that could be neither stored nor spooled.",
            value=gauges.dropped_traces(),
        )
        calls = GaugeMetricFamily(
            names.UPSTREAM_IN_FLIGHT,
            "Calls to an upstream that are under way.",
            labels=["upstream"],
        )
        breakers = GaugeMetricFamily(
            names.BREAKER, "1 for the state an upstream's breaker is in.",
            labels=["upstream", "state"],
        )  # fmt: skip
        for name, upstream in gauges.upstreams().items():
            calls.add_metric([name], upstream.in_flight)
            for state in _STATES:
                breakers.add_metric([name, state], float(state == upstream.breaker))
        yield calls
        yield breakers
