from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from tests.outcomes import DEFERRED, make_outcome, make_trace

from tutelage.runtime.gateway import names
from tutelage.runtime.gateway.metrics import Gauges, Metrics, UpstreamState
from tutelage.runtime.types import Decision, Reason, Usage
from tutelage.version import __version__

SECRET = "sk-seeded-3f9a1c77e2"
MODEL = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "tutelage",
    "gen_ai_request_model": "agent",
}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry, aliases=["agent", "*"], providers={"teacher": "anthropic"})


@pytest.fixture
def value(registry: CollectorRegistry) -> Callable[..., float | None]:
    def read(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    return read


def test_a_request_is_counted_by_wire_mode_and_end(
    metrics: Metrics,
    value: Callable[..., float],
) -> None:
    metrics.observe(make_outcome())
    metrics.observe(make_outcome())
    metrics.observe(make_outcome(route="messages", end="cancelled", mode=None, status=499))

    requests = "tutelage_requests_total"
    assert value(requests, wire="chat", mode="cascade", outcome="ok") == 2
    assert value(requests, wire="messages", mode="none", outcome="cancelled") == 1
    assert value("tutelage_overhead_seconds_count", mode="cascade") == 2
    assert value("tutelage_overhead_seconds_sum", mode="cascade") == pytest.approx(0.1)
    ok = {**MODEL, "error_type": ""}
    assert value("gen_ai_server_request_duration_count", **ok) == 2
    assert value("gen_ai_server_request_duration_bucket", **ok, le="0.64") == 0
    assert value("gen_ai_server_request_duration_bucket", **ok, le="1.28") == 2
    assert value("gen_ai_server_request_duration_count", **{**ok, "error_type": "cancelled"}) == 1


def test_a_refused_request_adds_no_overhead(
    metrics: Metrics,
    value: Callable[..., float],
) -> None:
    metrics.observe(make_outcome(end="refused", status=401, mode=None, alias=None))

    assert value("tutelage_requests_total", wire="chat", mode="none", outcome="refused") == 1
    assert value("tutelage_overhead_seconds_count", mode="none") is None


def test_a_served_student_is_one_decision_with_its_samples_and_costs(
    metrics: Metrics,
    value: Callable[..., float],
) -> None:
    metrics.observe(make_outcome(trace=make_trace()))

    assert value("tutelage_decisions_total", served="student", reason="agreed") == 1
    assert value("tutelage_samples_total") == 3
    assert value("tutelage_agreement_ratio_bucket", le="0.9") == 0
    assert value("tutelage_agreement_ratio_count") == 1
    assert value("tutelage_cost_usd_total", component="answer") == pytest.approx(0.000125)
    assert value("tutelage_cost_usd_total", component="loser") is None
    assert value("tutelage_baseline_cost_usd_total") == pytest.approx(0.004)
    call = {**MODEL, "gen_ai_provider_name": "openai", "tutelage_role": "student"}
    tokens = "gen_ai_client_token_usage"
    assert value(f"{tokens}_sum", **call, gen_ai_token_type="input") == 100
    assert value(f"{tokens}_sum", **call, gen_ai_token_type="output") == 30
    assert value(f"{tokens}_bucket", **call, gen_ai_token_type="output", le="16.0") == 0
    assert value(f"{tokens}_bucket", **call, gen_ai_token_type="output", le="64.0") == 1
    assert value("gen_ai_client_operation_duration_sum", **call) == pytest.approx(0.2)


def test_a_deferred_stream_tells_how_long_the_student_delayed_it(
    metrics: Metrics, value: Callable[..., float]
) -> None:
    metrics.observe(make_outcome(trace=DEFERRED, streamed=True, first_chunk_s=0.3))

    assert value("tutelage_ttft_penalty_seconds_sum") == pytest.approx(0.213)
    assert value("tutelage_cost_usd_total", component="answer") == pytest.approx(0.02)
    assert value("tutelage_cost_usd_total", component="loser") == pytest.approx(0.001)
    assert value("gen_ai_server_time_to_first_token_sum", **MODEL) == pytest.approx(0.3)
    # 0.45 s for the ten tokens after the first one.
    assert value("gen_ai_server_time_per_output_token_sum", **MODEL) == pytest.approx(0.045)
    call = {**MODEL, "gen_ai_provider_name": "anthropic", "tutelage_role": "teacher"}
    first = "gen_ai_client_operation_time_to_first_chunk_sum"
    assert value(first, **call) == pytest.approx(0.087)


def test_a_student_that_works_aside_delays_nothing(
    metrics: Metrics, value: Callable[..., float]
) -> None:
    trace = DEFERRED.model_copy(update={"mode": "shadow"})
    metrics.observe(make_outcome(trace=trace, mode="shadow", streamed=True, first_chunk_s=0.3))

    assert value("tutelage_ttft_penalty_seconds_count") == 0
    call = {**MODEL, "gen_ai_provider_name": "anthropic", "tutelage_role": "teacher"}
    first = "gen_ai_client_operation_time_to_first_chunk_sum"
    assert value(first, **call) == pytest.approx(0.3)


def test_a_teacher_that_failed_is_counted_without_tokens_or_costs(
    metrics: Metrics,
    value: Callable[..., float],
) -> None:
    trace = make_trace(
        decision=Decision(served="teacher", reason=Reason.ALWAYS),
        samples=(),
        agreement=None,
        usage={},
        cost_usd={},
        baseline_cost_usd=None,
        latency_s={"teacher": 0.1, "total": 0.1},
        error="BadResponse: no",
    )
    ended = make_outcome(
        end="upstream_error", status=502, trace=trace, streamed=True, first_chunk_s=0.05
    )
    metrics.observe(ended)

    assert value("tutelage_decisions_total", served="teacher", reason="always") == 1
    assert value("tutelage_agreement_ratio_count") == 0
    assert value("gen_ai_server_time_to_first_token_count", **MODEL) is None
    assert value("tutelage_ttft_penalty_seconds_count") == 0


def test_a_call_without_a_duration_or_a_second_token_is_not_timed(
    metrics: Metrics,
    value: Callable[..., float],
) -> None:
    trace = make_trace(usage={"student": Usage(input_tokens=5, output_tokens=1)}, latency_s={})
    metrics.observe(make_outcome(trace=trace, streamed=True, first_chunk_s=0.1))

    call = {**MODEL, "gen_ai_provider_name": "openai", "tutelage_role": "student"}
    assert value("gen_ai_client_operation_duration_count", **call) is None
    assert value("gen_ai_server_time_per_output_token_count", **MODEL) is None
    assert value("gen_ai_client_token_usage_count", **call, gen_ai_token_type="input") == 1


def test_no_client_can_make_a_new_series(
    metrics: Metrics,
) -> None:
    metrics.observe(make_outcome(route="other-0", alias="*"))
    before = metrics.render()[0].count(b"\n")
    for number in range(50):
        odd = f'{SECRET}-{number}"\n# HELP forged x\nforged 1'
        trace = make_trace(model=odd, episode_id=odd, tenant=odd, answer=odd, error=odd, goal=odd)
        metrics.observe(
            make_outcome(route=odd, alias=odd, tenant=odd, key_id=odd, trace=trace, end="ok")
        )
    first = metrics.render()[0].count(b"\n")
    metrics.observe(make_outcome(route="another", alias="another", tenant="another"))
    text = metrics.render()[0].decode()

    assert text.count("\n") == first > before
    assert SECRET not in text
    assert "forged" not in text
    assert 'gen_ai_request_model="other"' in text
    assert 'wire="other"' in text


def test_after_a_reload_other_models_have_labels_of_their_own(
    metrics: Metrics, value: Callable[..., float]
) -> None:
    metrics.set_aliases({"fresh": object(), "*": object()})
    for alias in ("agent", "fresh", "*"):
        metrics.observe(make_outcome(alias=alias))

    counted = "gen_ai_server_request_duration_count"
    fresh = {**MODEL, "gen_ai_request_model": "fresh", "error_type": ""}
    assert value(counted, **fresh) == 1
    assert value(counted, **{**fresh, "gen_ai_request_model": "other"}) == 2


def test_labels_name_no_tenant_key_or_episode(metrics: Metrics) -> None:
    metrics.observe(make_outcome(trace=DEFERRED, streamed=True, first_chunk_s=0.3))
    families = list(text_string_to_metric_families(metrics.render()[0].decode()))

    used = {label for family in families for sample in family.samples for label in sample.labels}
    assert used == {
        "wire", "mode", "outcome", "served", "reason", "component", "le", "version",
        "gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model",
        "gen_ai_token_type", "tutelage_role", "error_type",
    }  # fmt: skip
    values = {v for family in families for sample in family.samples for v in sample.labels.values()}
    assert not values & {"acme", "key-7", "episode-1", "decision-1"}


def test_gauges_are_read_at_every_scrape(registry: CollectorRegistry) -> None:
    now: dict[str, Any] = {"in_flight": 2, "queue": 5, "dropped": 1, "student": None}
    upstreams = {"teacher": UpstreamState(3), "backup": UpstreamState(0, "open")}
    metrics = Metrics(
        registry,
        gauges=Gauges(
            in_flight=lambda: now["in_flight"],
            queue_rows=lambda: now["queue"],
            dropped_traces=lambda: now["dropped"],
            upstreams=lambda: upstreams,
            student_version=lambda: now["student"],
            risks=lambda: {"agent": (0.01, 0.04)},
        ),
    )

    def read(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert read("tutelage_risk_estimate", model="agent") == 0.01
    assert read("tutelage_risk_bound", model="agent") == 0.04
    assert read("tutelage_requests_inflight") == 2
    assert read("tutelage_ledger_queue_rows") == 5
    assert read("tutelage_dropped_traces_total") == 1
    assert read("tutelage_upstream_inflight", upstream="teacher") == 3
    state = "tutelage_upstream_breaker_state"
    assert read(state, upstream="backup", state="open") == 1
    assert read(state, upstream="backup", state="closed") == 0
    assert read(state, upstream="teacher", state="closed") == 1
    assert read("tutelage_build_info", version=__version__) == 1
    assert "student_version" not in metrics.render()[0].decode()
    now.update(in_flight=0, student="student@7")
    assert read("tutelage_requests_inflight") == 0
    assert read("tutelage_student_version_info", version="student@7") == 1


def test_many_requests_are_all_counted_without_a_scrape_in_between(
    metrics: Metrics, value: Callable[..., float]
) -> None:
    for _ in range(100):
        metrics.observe(make_outcome())
    assert value("tutelage_requests_total", wire="chat", mode="cascade", outcome="ok") == 100


def test_a_worker_among_several_counts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(names.COUNTS_FOLDER, "/nowhere")
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.observe(make_outcome())
    (found,) = [
        sample.value
        for family in registry.restricted_registry(["tutelage_requests_total"]).collect()
        for sample in family.samples
        if sample.name == "tutelage_requests_total"
    ]
    assert found == 1


def test_workers_have_registries_of_their_own() -> None:
    first, second = (Metrics(CollectorRegistry()) for _ in range(2))
    first.observe(make_outcome())

    assert b"tutelage_requests_total{" in first.render()[0]
    assert b"tutelage_requests_total{" not in second.render()[0]


def test_the_text_is_what_prometheus_reads(metrics: Metrics) -> None:
    metrics.observe(make_outcome(trace=DEFERRED, streamed=True, first_chunk_s=0.3))
    text, content_type = metrics.render()

    assert content_type.startswith("text/plain")
    found = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {
        names.REQUESTS, names.DECISIONS, names.OVERHEAD, names.TTFT_PENALTY, names.AGREEMENT,
        names.SAMPLES, names.COST, names.BASELINE_COST, names.IN_FLIGHT, names.QUEUE,
        names.DROPPED_TRACES, names.TOKEN_USAGE, names.OPERATION_DURATION,
        names.TIME_TO_FIRST_CHUNK, names.REQUEST_DURATION, names.TIME_TO_FIRST_TOKEN,
        names.TIME_PER_OUTPUT_TOKEN,
    } <= found  # fmt: skip
